"""What the sweep has found, for people."""

from collections import defaultdict
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from .rows import peer_of

__all__ = ["show_races"]

_SUMS = ("timings", "old", "new", "mixed", "stale", "hung")


def show_races(console: Console, details: Mapping[str, Mapping[str, float]]) -> None:
    """Print a line for each entry that was changed, all invalidations that cover it together, against the peer."""
    together: dict[tuple[str, str, str], list[tuple[str, Mapping[str, float]]]] = defaultdict(list)
    for name, figures in details.items():
        port, shape, target, covering = name.split(".")
        together[port, shape, target].append((covering, figures))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("port", "tables", "changed", "invalidations"):
        table.add_column(name, no_wrap=name != "invalidations")
    for name in ("timings", "met old", "met new", "mixed", "stale", "hung", "longest wait", "peer: stale"):
        table.add_column(name, justify="right")
    previous = ("", "")
    for (port, shape, target), rows in together.items():
        sums = {name: sum(int(figures[name]) for _, figures in rows) for name in _SUMS}
        shown = [new if new != old else "" for new, old in zip((port, shape), previous, strict=True)]
        wait = max(int(figures["longest_wait"]) for _, figures in rows)
        style = "red" if sums["mixed"] or sums["stale"] or sums["hung"] else None
        numbers = [f"{number:,}" for number in (*sums.values(), wait)]
        coverings = ", ".join(covering for covering, _ in rows)
        table.add_row(*shown, target, coverings, *numbers, peer_of(shape, target), style=style)
        previous = port, shape
    console.print(table)
