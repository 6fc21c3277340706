"""Writes the register table as Markdown: ``python -m nestwalk.registers.document > docs/registers.md``."""

import sys
from collections.abc import Iterator

from ..config import PRESETS
from ..counters.events import EVENTS
from ..counters.monitored import monitored_events
from .capability import capability, extended_capability, implementation_capability
from .description import Field, Register
from .table import REGISTERS

__all__ = ["render"]

INTRODUCTION = """\
# Registers

Made from `rtl/nestwalk/registers/table.py` by `python -m nestwalk.registers.document`; do not edit.

The register block is one page of 4 KiB on the AXI4-Lite port `csr`. Registers of 32 bits are accessed as aligned
DWORDs, wider ones as aligned QWORDs or as two DWORDs, the low one first. Bits and registers that are not listed, and
fields whose condition does not hold, are reserved: they read 0 and writes to them have no effect. Every access is
answered OKAY.

RW read and write; RO read only; WO write only, reads 0; RW1C writing 1 clears. The S of RW1CS and ROS means that a warm
reset leaves the field alone; `rst` is a cold reset and clears everything. A field marked *self-clearing* starts
something when 1 is written to it and falls when that is done.

The registers from C08h to DBFh are this implementation's own: the specification has none there.
"""


def _bits(field: Field) -> str:
    return f"{field.low}" if field.width == 1 else f"{field.high}:{field.low}"


def _meaning(field: Field) -> str:
    notes = (["*self-clearing*"] if field.self_clearing else []) + ([f"needs {field.when}"] if field.when else [])
    return "; ".join([field.description, *notes])


def _register(register: Register) -> Iterator[str]:
    where = f"{register.offset:03X}h" + (f" + {register.step:X}h·n" if register.array else "")
    where += f", n below {register.length}" if register.length else ""
    yield f"## {register.name} — {register.description}"
    yield ""
    yield f"Offset {where}, {register.width} bits."
    yield ""
    yield "| Bits | Field | Attribute | Reset | Meaning |"
    yield "|---|---|---|---|---|"
    for field in register.fields:
        reset = f"{field.reset}" if field.attribute.stored else ""
        yield f"| {_bits(field)} | {field.name} | {field.attribute.value} | {reset} | {_meaning(field)} |"
    yield ""


def render() -> str:
    """The whole document."""
    lines = [INTRODUCTION, "| Offset | Bits | Register | What |", "|---|---|---|---|"]
    lines += [
        f"| {register.offset:03X}h | {register.width} | {register.name} | {register.description} |"
        for register in REGISTERS.values()
    ]
    lines += ["", "| Preset | CAP | ECAP | IMPCAP |", "|---|---|---|---|"]
    announced = (capability, extended_capability, implementation_capability)
    for name, cfg in PRESETS.items():
        lines.append(" | ".join([f"| {name}", *(f"{value(cfg):016X}h" for value in announced)]) + " |")
    lines.append("")
    for register in REGISTERS.values():
        lines += _register(register)
    lines += ["### What EVCNT n counts", "", "| n | Event | Counted are |", "|---|---|---|"]
    lines += [f"| {number} | `{event.name}` | {event.description} |" for number, event in enumerate(EVENTS)]
    lines += ["", "### What CNTR n can count", "", "| EGI | ES | Event | Counted are |", "|---|---|---|---|"]
    lines += [
        f"| {event.group} | bit {event.bit} | `{event.name}` | {event.description} |"
        for event in monitored_events(PRESETS["DEFAULT"])
    ]
    lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(render())
