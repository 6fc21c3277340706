"""`nestwalk bench`: the workloads against limit, target and peer."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ..bench.report import Progress as Told
from ..bench.report import run_workloads
from ..bench.table import show
from ..bench.workloads import LONG, WORKLOADS
from ..errors import UserError
from ..files import write_json
from .options import Json, Preset, configuration

__all__ = ["bench"]

_BY_DEFAULT = f"By default all but {', '.join(sorted(LONG))}."

_PAGE_WIDTH = 130
"""Columns of the table in a file or a pipe."""


def bench(
    workloads: Annotated[
        list[str] | None, typer.Argument(metavar="[W]...", help=f"{_BY_DEFAULT} Of {', '.join(WORKLOADS)}.")
    ] = None,
    preset: Preset = "DEFAULT",
    seed: Annotated[int, typer.Option(min=0, help="Of pages, PASIDs and orders.")] = 1,
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes, for a look; do not quote the figures.")] = False,
    json: Json = None,
    plots: Annotated[Path | None, typer.Option(metavar="DIR", help="Draw plots into this folder.")] = None,
) -> None:
    """Run the workloads and show each figure against its limit, its target and the measured peer's.

    A missed target is shown, it is no error; a wrong answer of the unit is one (exit status 1).
    """
    configuration(preset)
    names = list(dict.fromkeys(workloads or [name for name in WORKLOADS if name not in LONG]))
    for name in names:
        if name not in WORKLOADS:
            raise UserError(f"unknown workload {name!r}: choose of {', '.join(WORKLOADS)}")
    with _progress(len(names)) as told:
        report = run_workloads(names, preset, seed, quick=quick, told=told)
    console = Console()
    show(console if console.is_terminal else Console(width=_PAGE_WIDTH), report)
    if json is not None:
        write_json(json, report.as_dict())
    if plots is not None:
        from ..bench.plots import write_plots  # takes a second to import

        write_plots(plots, report)


@contextmanager
def _progress(count: int) -> Iterator[Told]:
    """A progress bar on standard error, gone when done."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=count)
        finished: set[str] = set()

        def told(workload: str, done: int, total: int, what: str) -> None:
            if done == total:
                finished.add(workload)
            part = done / total if workload not in finished else 0
            bar.update(task, description=f"{workload} {what}".strip(), completed=len(finished) + part)

        yield told
