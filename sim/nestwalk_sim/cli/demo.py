"""`nestwalk demo`: captured platforms and the two-guest story, every answer checked."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from ..capture import CAPTURES, load_capture
from ..demo.engines import prepare, story_on_model, story_on_rtl
from ..demo.render import show_captures, show_story
from ..demo.report import StoryReport
from ..demo.thin import thin
from ..files import write_json
from ..replay import ReplayReport
from .options import Json, Preset, configuration
from .replay import EngineName, run_engine

__all__ = ["demo"]


class _Stages:
    """A progress bar over stages of equal length, each with its own fraction done."""

    UNITS = 1000

    def __init__(self, bar: Progress, count: int):
        self._bar = bar
        self._task: TaskID = bar.add_task("", total=count * self.UNITS)
        self._done = 0

    def begin(self, what: str) -> None:
        """The next stage, just begun."""
        self.update(what, 0, 1)

    def update(self, what: str, done: int, total: int) -> None:
        """How far the stage is."""
        completed = (self._done + done / max(total, 1)) * self.UNITS
        self._bar.update(self._task, description=what, completed=completed)

    def end(self) -> None:
        """The stage is over."""
        self._done += 1
        self._bar.update(self._task, completed=self._done * self.UNITS)


REPLAYED = 5000
"""Requests of each capture that the demo replays; `nestwalk replay` replays all."""


def demo(
    engine: Annotated[EngineName, typer.Option(help="The hardware in Verilator, or the model.")] = EngineName.RTL,
    preset: Preset = "DEFAULT",
    requests: Annotated[int, typer.Option(min=1, help="Requests of each capture that are replayed.")] = REPLAYED,
    json: Json = None,
) -> int:
    """Replay a part of each captured platform and tell the story of two guests. Exit status 1 if an answer is wrong."""
    config = configuration(preset)
    folders = sorted(path.parent for path in CAPTURES.glob("*/capture.json"))
    with _stages(len(folders) + 2) as stages:
        stages.begin("building the simulation")
        if engine is EngineName.RTL:
            prepare(config)
        stages.end()
        reports = []
        for folder in folders:
            stages.begin(f"loading {folder.name}")
            capture = thin(load_capture(folder), requests)

            def replayed(phase: str, done: int, total: int, name: str = capture.name) -> None:
                stages.update(f"replaying {name}, {phase}", done, total)

            reports.append(run_engine(capture, engine, preset, replayed))
            stages.end()
        stages.begin("two guests")
        tell = story_on_rtl if engine is EngineName.RTL else story_on_model
        story = tell(config, lambda done, total, chapter: stages.update(f"two guests: {chapter}", done, total))
        stages.end()
    console = Console()
    console.print(f"nestwalk demo on {engine.value}, preset {preset.upper()}", style="bold", highlight=False)
    show_captures(console, reports)
    show_story(console, story)
    if json is not None:
        write_json(json, _as_dict(engine, preset, reports, story))
    return _conclude(console, reports, story)


@contextmanager
def _stages(count: int) -> Iterator[_Stages]:
    """A progress bar on standard error, gone when done."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        yield _Stages(bar, count)


def _as_dict(engine: EngineName, preset: str, reports: list[ReplayReport], story: StoryReport) -> dict[str, object]:
    return {
        "engine": engine.value,
        "preset": preset.upper(),
        "holds": _holds(reports, story),
        "captures": [report.as_dict() for report in reports],
        "story": story.as_dict(),
    }


def _holds(reports: list[ReplayReport], story: StoryReport) -> bool:
    return story.holds and all(report.agree == report.requests > 0 for report in reports)


def _conclude(console: Console, reports: list[ReplayReport], story: StoryReport) -> int:
    """The verdict line and the exit status."""
    asked = sum(report.requests for report in reports) + len(story.transactions)
    agree = sum(report.agree for report in reports) + story.agree
    true = sum(verdict.holds for verdict in story.verdicts)
    holds = _holds(reports, story)
    text = f"{agree:,} of {asked:,} answers agree, {true} of {len(story.verdicts)} statements of the story hold"
    console.print()
    word, style = ("PASS", "bold green") if holds else ("FAIL", "bold red")
    console.print(f"{word}: {text}", style=style, highlight=False)
    return 0 if holds else 1
