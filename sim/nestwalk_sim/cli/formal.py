"""`nestwalk formal`: runs the proofs."""

from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from formal.blocks import BLOCKS, wanted
from formal.mutants import Tally, mutate
from formal.run import Check, prove

from ..files import write_json
from .options import Json

__all__ = ["formal"]

KEYS = ("block", "task", "mode", "depth", "status", "assertions", "covers_reached", "covers_total", "seconds")


def formal(
    blocks: Annotated[list[str] | None, typer.Argument(metavar="[BLOCK]...", help=f"{', '.join(BLOCKS)}")] = None,
    mutants: Annotated[bool, typer.Option("--mutants", help="Also run mutants against the proofs.")] = False,
    count: Annotated[int, typer.Option("--count", min=1, help="Mutants of each block.")] = 20,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Chooses the mutants.")] = 1,
    json: Json = None,
) -> int:
    """Run proofs: a counter-example comes with the English sentence that it violates and a VCD file."""
    chosen = wanted(blocks or [])
    console = Console()
    with _progress() as progress:
        bar = progress.add_task("", total=sum(len(BLOCKS[block].tasks) for block in chosen))

        def report(event: Check | str) -> None:
            if isinstance(event, Check):
                progress.advance(bar)
                _tell(progress.console, event)
            else:
                progress.update(bar, description=event)

        checks = prove(chosen, progress=report)
    tallies = _run_mutants(chosen, count, seed) if mutants else None
    if json is not None:
        write_json(json, {"checks": [_as_json(check, tallies) for check in checks]})
    console.print(_table(checks))
    for tally in (tallies or {}).values():
        _tell_tally(console, tally)
    return 0 if all(check.passed for check in checks) else 1


def _progress() -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _run_mutants(blocks: list[str], count: int, seed: int) -> dict[str, Tally]:
    with _progress() as progress:
        bar = progress.add_task("mutants", total=None)
        return {
            block: mutate(
                block,
                count=count,
                seed=seed,
                progress=lambda line, total: progress.update(bar, description=line, total=total, advance=1),
            )
            for block in blocks
        }


def _as_json(check: Check, tallies: dict[str, Tally] | None) -> dict[str, object]:
    """One row; the mutants of a block are told with its first task and 0 of 0 with the others."""
    row: dict[str, object] = {key: getattr(check, key) for key in KEYS}
    killed = total = None
    if tallies is not None:
        first = check.task == next(iter(BLOCKS[check.block].tasks))
        tally = tallies[check.block]
        killed, total = (tally.killed, tally.total) if first else (0, 0)
        row["survivors"] = [asdict(mutant) for mutant in tally.survivors] if first else []
    row |= {"mutants_killed": killed, "mutants_total": total}
    row["violated"] = [
        {"sentence": finding.sentence, "location": finding.location, "trace": finding.trace and str(finding.trace)}
        for finding in check.findings
    ]
    return row


def _tell(console: Console, check: Check) -> None:
    if check.passed:
        return
    console.print(f"[bold red]{check.block} {check.task}: {check.status}[/] (log: {check.log})", highlight=False)
    for finding in check.findings:
        console.print(f"  {finding.sentence}", f"  ({finding.location})", sep="\n", highlight=False, soft_wrap=True)
        if finding.trace is not None:
            console.print(f"  {finding.trace}", highlight=False, soft_wrap=True)


def _table(checks: list[Check]) -> Table:
    table = Table(title="Proofs")
    for column in ("block", "task", "mode"):
        table.add_column(column)
    for column in ("depth", "assertions", "covers", "seconds"):
        table.add_column(column, justify="right")
    table.add_column("status")
    for check in checks:
        covers = f"{check.covers_reached}/{check.covers_total}" if check.covers_total else ""
        counted = str(check.assertions) if check.assertions else ""
        status = "[green]pass[/]" if check.passed else f"[red]{check.status}[/]"
        table.add_row(
            check.block, check.task, check.mode, str(check.depth), counted, covers, f"{check.seconds:.0f}", status
        )
    return table


def _tell_tally(console: Console, tally: Tally) -> None:
    console.print(f"{tally.block}: {tally.killed} of {tally.total} mutants killed", highlight=False)
    for mutant in tally.survivors:
        console.print(f"  survived ({mutant.verdict}): {mutant.what}", highlight=False, soft_wrap=True)
