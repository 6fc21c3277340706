"""`nestwalk replay`: a captured platform through an engine, every answer compared."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from ..capture import Capture, find_capture, load_capture
from ..errors import UserError
from ..files import write_json
from ..replay import Progress as Told
from ..replay import ReplayReport, replay_on_model
from .options import Json, Preset

__all__ = ["EngineName", "replay", "run_engine"]

_SHOWN = 10
"""Disagreements that the terminal shows; the JSON holds all."""


class EngineName(StrEnum):
    """What translates."""

    RTL = "rtl"
    MODEL = "model"


def replay(
    capture: Annotated[str, typer.Argument(metavar="CAPTURE", help="Folder of a capture, or one that comes along.")],
    engine: Annotated[EngineName, typer.Option(help="The hardware in Verilator, or the model.")] = EngineName.RTL,
    preset: Preset = "DEFAULT",
    json: Json = None,
    waves: Annotated[bool, typer.Option("--waves", help="Write waveforms to CAPTURE.vcd (rtl only).")] = False,
) -> int:
    """Replay a captured platform and compare each answer. Exit status 1 when one differs."""
    platform = load_capture(find_capture(capture))
    with _progress(platform) as told:
        report = run_engine(platform, engine, preset, told, Path(f"{platform.name}.vcd") if waves else None)
    _print(report)
    if json is not None:
        write_json(json, report.as_dict())
    return 0 if report.agree == report.requests else 1


def run_engine(
    capture: Capture, engine: EngineName, preset: str, told: Told | None = None, waves: Path | None = None
) -> ReplayReport:
    """Replay on the engine of that name.

    Raises
    ------
    UserError
        For an unknown preset, or waveforms of an engine that has none.
    """
    try:
        if engine is EngineName.MODEL:
            if waves is not None:
                raise UserError("--waves needs --engine rtl: the model has no signals")
            return replay_on_model(capture, preset, told)
        from ..rtl.replay import replay_on_rtl  # takes a second to import

        return replay_on_rtl(capture, preset, told, waves=waves)
    except ValueError as error:
        raise UserError(str(error)) from error


@contextmanager
def _progress(capture: Capture) -> Iterator[Told]:
    """A progress bar on standard error, gone when done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(capture.name, total=capture.requests)

        def told(phase: str, done: int, total: int) -> None:
            bar.update(task, description=f"{capture.name} {phase}", completed=done, total=total)

        yield told


def _print(report: ReplayReport) -> None:
    console = Console()
    console.print(f"{report.capture} on {report.engine} ({report.preset})", highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("phase", no_wrap=True)
    for name in ("descriptors", "requests", "granted", "agree", "reads", "cycles"):
        table.add_column(name, justify="right", no_wrap=True)
    for phase in report.phases:
        numbers = (phase.invalidations, phase.requests, phase.granted, phase.agree, phase.memory_reads, phase.cycles)
        table.add_row(phase.name, *(f"{number:,}" for number in numbers))
    console.print(table)
    for entry in report.disagree[:_SHOWN]:
        console.print(
            "{phase}: {sid}:{pasid} {access} {address}: expected {expected}, got {got}".format(**entry), highlight=False
        )
    if len(report.disagree) > _SHOWN:
        console.print(f"... and {len(report.disagree) - _SHOWN} more")
    style = "red" if report.disagree else "green"
    console.print(f"{report.agree:,} of {report.requests:,} answers agree", style=style, highlight=False)
