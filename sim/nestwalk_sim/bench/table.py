"""The figures for people: a table against limit, target and peer."""

from rich.console import Console
from rich.table import Table

from .races.table import show_races
from .report import BenchReport
from .targets import Reference, verdict_of

__all__ = ["show"]


def show(console: Console, report: BenchReport) -> None:
    """Print everything that a report holds."""
    console.print(f"nestwalk bench, preset {report.preset}, seed {report.seed}", style="bold", highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("workload", "figure"):
        table.add_column(name, no_wrap=True)
    for name in ("measured", "limit", "target", "peer"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for workload in report.workloads:
        for number, (figure, value, reference) in enumerate(report.rows(workload)):
            verdict = verdict_of(value, reference)
            style = {True: "green", False: "red", None: None}[verdict.met]
            table.add_row(
                workload if number == 0 else "",
                figure,
                _number(value),
                _number(reference.limit),
                _target(reference),
                reference.peer,
                verdict.text,
                style=style,
            )
    console.print(table)
    if "races" in report.details:
        show_races(console, report.details["races"])
    for workload, notes in report.notes.items():
        for note in notes:
            console.print(f"{workload}: {note}", highlight=False, soft_wrap=True)
    text = f"{report.met} of {report.targets} targets met"
    console.print(text, style="bold green" if report.met == report.targets else "bold red", highlight=False)


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if value == int(value) else f"{value:,.4g}"


def _target(reference: Reference) -> str:
    if reference.target is None:
        return ""
    stretch = f" ({_number(reference.stretch)})" if reference.stretch is not None else ""
    return f"{reference.sense.value} {_number(reference.target)}{stretch}"
