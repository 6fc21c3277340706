"""The demo for people: tables of what was replayed, what the story did, what faulted, and one walk entry by entry."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

from ..host.log import LogEntry
from ..host.vtd.faults import FaultRecord
from ..model import FAULT_CONDITIONS
from ..replay import ReplayReport
from ..walk_table import steps_table, verdict
from .check import Transaction
from .report import StoryReport, Verdict

__all__ = ["show_captures", "show_story"]


def show_captures(console: Console, reports: Iterable[ReplayReport]) -> None:
    """One line for each captured platform."""
    numbers = ["requests", "agree", "memory reads", "cycles"]
    table = _table("Platforms captured from Linux, replayed", ["capture"], numbers)
    for report in reports:
        counts = (report.requests, report.agree, report.memory_reads, report.cycles)
        table.add_row(report.capture, *(f"{count:,}" for count in counts))
    _show(console, table)


def show_story(console: Console, story: StoryReport) -> None:
    """The story: what was checked, every command, translation and fault, and one nested walk."""
    _show(console, _verdicts(story.verdicts))
    _show(console, _commands(story.commands))
    _show(console, _translations(story.transactions))
    _show(console, _faults(story.faults))
    if story.nested_walk is not None:
        request = next(each.request for each in story.transactions if each.expected is story.nested_walk)
        what = f"{request.access.name.lower()} of {request.address:#x} by PASID {request.pasid}"
        table = steps_table(story.nested_walk)
        table.title, table.title_justify, table.title_style = f"One nested walk: {what}", "left", "bold cyan"
        _show(console, table)
        console.print(verdict(story.nested_walk), style="green", highlight=False)


def _table(title: str, left: Sequence[str], right: Sequence[str] = ()) -> Table:
    """A borderless table with columns justified left, then right."""
    table = Table(box=None, pad_edge=False, header_style="bold", title=title)
    table.title_justify, table.title_style = "left", "bold cyan"
    for name in left:
        table.add_column(name, overflow="fold", no_wrap=name in ("address", "answer"))
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _show(console: Console, table: Table) -> None:
    console.print()
    console.print(table, highlight=False)


def _verdicts(verdicts: Iterable[Verdict]) -> Table:
    table = _table("Two guests share a device", ["chapter", "", "what was checked"])
    chapter = ""
    for verdict_ in verdicts:
        mark = "[green]yes[/]" if verdict_.holds else "[red]NO[/]"
        table.add_row("" if verdict_.chapter == chapter else verdict_.chapter, mark, verdict_.statement)
        chapter = verdict_.chapter
    return table


def _commands(commands: Iterable[LogEntry]) -> Table:
    table = _table("What the driver sent to the unit", ["call", "recipe", "command"], ["time"])
    for entry in commands:
        table.add_row(entry.caller, f"{entry.recipe}.{entry.step}", entry.text, f"{entry.time:,}")
    return table


def _translations(transactions: Iterable[Transaction]) -> Table:
    left = ["SID", "PASID", "access", "address", "answer", "translation", "model"]
    table = _table("Translations", left, ["cycles"])
    for each in transactions:
        request = each.request
        answer = f"{each.address:#x}" if each.granted else f"fault {each.fault or 0:02x}h"
        table.add_row(
            f"{request.source_id:04x}",
            _pasid(request.pasid),
            request.access.name.lower(),
            f"{request.address:#x}",
            answer,
            each.expected.mode.value,
            "[green]agrees[/]" if not each.problem else f"[red]{each.problem}[/]",
            f"{each.time:,}",
        )
    return table


def _faults(faults: Iterable[FaultRecord]) -> Table:
    meanings: dict[int, list[str]] = {}
    for condition in FAULT_CONDITIONS.values():
        meanings.setdefault(condition.code, []).append(condition.meaning)
    table = _table("Recorded faults", ["SID", "PASID", "request", "address", "reason", "meaning"])
    for record in faults:
        meaning = " or ".join(dict.fromkeys(meanings[record.reason]))
        where = f"{record.address:#x}"
        table.add_row(
            f"{record.source_id:04x}", _pasid(record.pasid), record.request, where, f"{record.reason:02x}h", meaning
        )
    return table


def _pasid(pasid: int | None) -> str:
    return "-" if pasid is None else str(pasid)
