"""A translation entry by entry, decoded for people and for JSON."""

from typing import NamedTuple

from rich.table import Table

from .builders.layouts import LAYOUTS
from .model import FAULT_CONDITIONS, AccessKind, MemoryAccess, Mode, Result, Structure

__all__ = ["WalkStep", "steps_table", "verdict", "walk_as_dict", "walk_steps"]

_LEVEL_NAMES = {5: "PML5E", 4: "PML4E", 3: "PDPE", 2: "PDE", 1: "PTE"}


class WalkStep(NamedTuple):
    """One access of a walk.

    Parameters
    ----------
    depth : int
        1 for second-stage accesses of a nested walk, 0 otherwise.
    title : str
        What is read or updated, such as ``"SS-PDE"``.
    access : MemoryAccess
        The access itself.
    guest_address : int or None
        Guest-physical address of a first-stage entry under nesting.
    fields : dict of str to str
        Fields that are not zero: addresses in hexadecimal, PASIDs in decimal; empty when the access failed.
    """

    depth: int
    title: str
    access: MemoryAccess
    guest_address: int | None
    fields: dict[str, str]

    @property
    def text(self) -> str:
        """The fields in one line; flags by their name alone."""
        if self.access.failed:
            return "the memory answers with an error"
        layout = LAYOUTS[self.access.structure]
        words = (name if layout[name].width == 1 else f"{name}={value}" for name, value in self.fields.items())
        return " ".join(words) or "all zero"


def _title(access: MemoryAccess) -> str:
    if access.structure is Structure.FIRST_STAGE:
        name = _LEVEL_NAMES[access.level]
    elif access.structure is Structure.SECOND_STAGE:
        name = f"SS-{_LEVEL_NAMES[access.level]}"
    else:
        name = access.structure.value.removeprefix("scalable-mode ")
    return f"update {name}" if access.kind is AccessKind.UPDATE else name


def _fields(access: MemoryAccess) -> dict[str, str]:
    if access.failed:
        return {}
    entry = access.new_value if access.kind is AccessKind.UPDATE else access.value
    decoded = {}
    for name, field in LAYOUTS[access.structure].items():
        value = field.extract(entry)
        if value:
            decoded[name] = f"{value:#x}" if field.address else str(value)
    return decoded


def walk_steps(result: Result) -> list[WalkStep]:
    """The accesses of a translation, decoded, in order."""
    nested = result.mode is Mode.NESTED
    guest_address = None
    steps = []
    for access in result.accesses:
        second = access.structure is Structure.SECOND_STAGE
        first = access.structure is Structure.FIRST_STAGE
        steps.append(
            WalkStep(
                depth=int(nested and second),
                title=_title(access),
                access=access,
                guest_address=guest_address if nested and first and access.kind is AccessKind.READ else None,
                fields=_fields(access),
            )
        )
        if second:
            guest_address = access.input_address
    return steps


def _size(size: int) -> str:
    for shift, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if size >> shift:
            return f"{size >> shift} {unit}"
    return f"{size} bytes"


def verdict(result: Result) -> str:
    """The outcome in one sentence."""
    if result.granted:
        allowed = "".join(letter for letter, held in zip("rw", result.permissions, strict=True) if held)
        page = f", {_size(result.page_size)} page" if result.page_size else ""
        return f"granted: host address {result.address:#x}{page}, permissions {allowed or 'none'} ({result.mode.value})"
    assert result.fault_condition is not None
    condition = FAULT_CONDITIONS[result.fault_condition]
    record = "recorded" if result.recorded else "not recorded (FPD)"
    return f"blocked: fault {condition.code:02x}h, {result.fault_condition}: {condition.meaning}; {record}"


def walk_as_dict(result: Result) -> dict[str, object]:
    """The walk in plain JSON types."""
    return {
        "mode": result.mode.value,
        "granted": result.granted,
        "host_address": hex(result.address) if result.granted else None,
        "page_size": hex(result.page_size) if result.granted else None,
        "fault": None if result.fault is None else hex(result.fault),
        "condition": result.fault_condition,
        "recorded": result.recorded,
        "steps": [
            {
                "kind": step.access.kind.value,
                "structure": step.title,
                "address": hex(step.access.address),
                "guest_address": None if step.guest_address is None else hex(step.guest_address),
                "size": step.access.size,
                "failed": step.access.failed,
                "fields": step.fields,
            }
            for step in walk_steps(result)
        ],
    }


def steps_table(result: Result) -> Table:
    """The accesses of a walk as a table for a terminal, the second stage of a nested walk indented."""
    steps = walk_steps(result)
    nested = any(step.guest_address is not None for step in steps)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", justify="right")
    for name in ("entry", "address", "guest address")[: 3 if nested else 2]:
        table.add_column(name, no_wrap=True)
    table.add_column("content", overflow="fold")
    for number, step in enumerate(steps, 1):
        guest = "" if step.guest_address is None else f"{step.guest_address:#x}"
        cells = ["  " * step.depth + step.title, f"{step.access.address:#x}", *[guest] * nested, step.text]
        table.add_row(str(number), *cells)
    return table
