"""`nestwalk walk`: one translation of a captured platform, entry by entry."""

from typing import Annotated

import typer
from rich.console import Console

from ..capture import Capture, Phase, Probe, find_capture, load_capture
from ..errors import UserError
from ..files import write_json
from ..memory import Memory
from ..model import Access, Request, Result, model_preset, translate
from ..replay import ReplayReport
from ..walk_table import steps_table, verdict, walk_as_dict
from .options import Json, Preset
from .replay import EngineName, run_engine

__all__ = ["walk"]


def walk(
    capture: Annotated[str, typer.Argument(metavar="CAPTURE", help="Folder of a capture, or one that comes along.")],
    requester: Annotated[str, typer.Argument(metavar="SID[:PASID]", help="Requester id (hex), PASID (decimal).")],
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="Input address (hex).")],
    phase: Annotated[str, typer.Option(metavar="N", help="Number of the phase, from 1, or its name.")] = "1",
    write: Annotated[bool, typer.Option("--write", help="Ask for a write instead of a read.")] = False,
    engine: Annotated[EngineName, typer.Option(help="model, or rtl: ask the hardware too.")] = EngineName.MODEL,
    preset: Preset = "DEFAULT",
    json: Json = None,
) -> int:
    """Show one walk, entry by entry, decoded. Exit status 1 when the hardware answers otherwise than the model."""
    platform = load_capture(find_capture(capture))
    index = _phase_index(platform, phase)
    source_id, pasid = _parse_requester(requester)
    access = Access.WRITE if write else Access.READ
    request = Request(source_id, pasid, _parse_number(address, 16, 64, "ADDRESS"), access)
    try:
        config = model_preset(preset)
    except ValueError as error:
        raise UserError(str(error)) from error
    result = translate(Memory(platform.memory_of(index)), platform.state_of(index), config, request)
    _print(platform, index, request, result)
    outcome = walk_as_dict(result) | {"engine": engine.value}
    status = 0
    if engine is EngineName.RTL:
        report = run_engine(_single_probe(platform, index, request, result), engine, preset)
        status = 0 if report.agree else 1
        outcome |= {"agree": report.agree == 1, "disagree": report.disagree, "cycles": report.cycles}
        _print_hardware(report)
    if json is not None:
        write_json(json, outcome)
    return status


def _phase_index(capture: Capture, phase: str) -> int:
    names = [entry.name for entry in capture.phases]
    if phase in names:
        return names.index(phase)
    if phase.isdecimal() and 1 <= int(phase) <= len(names):
        return int(phase) - 1
    raise UserError(f"{capture.name} has no phase {phase}: give 1 to {len(names)} or one of {', '.join(names)}")


def _parse_requester(text: str) -> tuple[int, int | None]:
    source_id, colon, pasid = text.partition(":")
    return (
        _parse_number(source_id, 16, 16, "SID"),
        _parse_number(pasid, 10, 20, "PASID") if colon else None,
    )


def _parse_number(text: str, base: int, bits: int, what: str) -> int:
    kind = "hexadecimal" if base == 16 else "decimal"
    try:
        value = int(text, base)
    except ValueError:
        raise UserError(f"{what} {text!r} is not a {kind} number") from None
    if not 0 <= value < 1 << bits:
        raise UserError(f"{what} {text} does not fit into {bits} bits")
    return value


def _single_probe(capture: Capture, index: int, request: Request, result: Result) -> Capture:
    """The platform at that phase with this one request, the model's answer expected."""
    size = result.page_size or None
    probe = Probe(request, result.granted, result.address, size, result.fault)
    registers = {"RTADDR": capture.root_table_address(index)}
    phase = Phase(capture.phases[index].name, capture.memory_of(index), registers, [], [probe])
    return Capture(capture.name, capture.mode, capture.origin, capture.folder, [phase])


def _print(capture: Capture, index: int, request: Request, result: Result) -> None:
    console = Console()
    pasid = "" if request.pasid is None else f" PASID {request.pasid}"
    who = f"{capture.name}, {capture.phases[index].name}: SID {request.source_id:#06x}{pasid}"
    console.print(f"{who}, {request.access.name.lower()} {request.address:#x}", highlight=False)
    console.print(steps_table(result))
    console.print(verdict(result), style="green" if result.granted else "red", highlight=False)


def _print_hardware(report: ReplayReport) -> None:
    console = Console()
    if report.agree:
        spent = f"{report.memory_reads} memory reads, {report.cycles} cycles"
        console.print(f"the hardware gives the same answer: {spent}", style="green", highlight=False)
    else:
        console.print(f"the hardware answers otherwise: {report.disagree[0]['got']}", style="red", highlight=False)
