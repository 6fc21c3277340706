"""What the golden model's results look like at the unit's ports."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from nestwalk.bus.axi import AxiResponse
from nestwalk_sim.model import Access, AccessKind, MemoryAccess, Mode, Request, Result, Structure

__all__ = ["Transfer", "compare_answer", "compare_walk", "expected_record", "expected_transfers", "walk_transfers"]

FAULT_ADDRESS = (1 << 57) - 0x1000
"""FI: address bits 56:12, the largest address width announced (§1.8)."""

HOST_ADDRESS = (1 << 52) - 1
"""What the response carries of an address."""


WRAP = 2

LINE = 64
"""Bytes that an entry of level 1 may be read with."""


class Transfer(NamedTuple):
    """One transaction of a walk on the ``mem`` port; ``data`` of writes only, ``line``: a wrapping read."""

    write: bool
    address: int
    size: int
    exclusive: bool
    data: int | None = None
    line: bool = False


def line_of(access: MemoryAccess, width: int) -> Transfer:
    """The read of an entry's whole line, which begins with the beat of ``width`` bytes that has the entry."""
    return Transfer(False, access.address & -width, LINE, False, line=width < LINE)


def expected_transfers(accesses: Iterable[MemoryAccess]) -> list[Transfer]:
    """The ordered transactions of a walk: a read each, an exclusive pair for an update.

    An update that the memory cannot do ends with the exclusive read.
    """
    transfers = []
    for access in accesses:
        if access.kind is AccessKind.READ:
            transfers.append(Transfer(False, access.address, access.size, False))
            continue
        transfers.append(Transfer(False, access.address, access.size, True))
        if not access.failed:
            transfers.append(Transfer(True, access.address, access.size, True, access.new_value))
    return transfers


def compare_walk(
    found: Sequence[Transfer], accesses: Sequence[MemoryAccess], line_width: int | None = None
) -> str | None:
    """What is wrong with the transactions of a walk that found the caches empty; None when they are the model's.

    The walk's own caches may spare it second-stage entries that it has read before: each second-stage walk may begin
    further down, if every entry above has been read for an earlier address of the same request. With a line buffer,
    behind a port of ``line_width`` bytes, an entry of level 1 may be read with its line, and what a line has brought
    need not be read.
    """
    read: set[int] = set()
    lines: set[int] = set()
    position, inside = 0, None
    for access in accesses:
        wanted = expected_transfers([access])
        begun = inside is not None and access.input_address == inside
        by_line = line_width and access.level == 1 and access.kind is AccessKind.READ
        in_line = by_line and access.address // LINE in lines
        line = [line_of(access, line_width)] if by_line and line_width else wanted
        here = list(found[position : position + len(wanted)])
        if here in (line, wanted):
            position += len(wanted)
            if by_line and here == line:
                lines.add(access.address // LINE)
            inside = access.input_address if access.structure is Structure.SECOND_STAGE else None
        elif in_line:
            inside = access.input_address if access.structure is Structure.SECOND_STAGE else None
        elif begun or access.structure is not Structure.SECOND_STAGE or access.address not in read:
            return f"after {position} accesses {found[position:]}, not {wanted}"
        read.add(access.address)
    return f"then {found[position:]}" if position < len(found) else None


def walk_transfers(trace: np.ndarray) -> list[Transfer]:
    """The transactions of a trace; an exclusive pair that lost counts once, however often it was tried."""
    transfers: list[Transfer] = []
    columns = ["write", "address", "beats", "size", "burst", "lock", "data", "response"]
    lost = False
    for write, address, beats, size, burst, lock, data, response in trace[columns].tolist():
        written = data if write else None
        transfer = Transfer(bool(write), address, (beats + 1) << size, bool(lock), written, burst == WRAP)
        if lost and not write:
            del transfers[-2:]
        lost = transfer.write and response == AxiResponse.OKAY.value
        transfers.append(transfer)
    return transfers


def compare_answer(answer: np.void, result: Result) -> str | None:
    """What is wrong with an answer; None when it is the model's."""
    if bool(answer["granted"]) != result.granted:
        return f"granted {bool(answer['granted'])} (fault {int(answer['fault']):#x}), not {result[:6]}"
    if not result.granted:
        fault = int(answer["fault"])
        return None if fault == result.fault else f"fault {fault:#x}, not {result.fault_condition} {result.fault:#x}"
    # Only where nothing translates can an address be wider than the host's.
    wanted = result.address & HOST_ADDRESS if result.mode is Mode.UNTRANSLATED else result.address
    if int(answer["address"]) != wanted:
        return f"address {int(answer['address']):#x}, not {wanted:#x}"
    if result.page_size and int(answer["page_size"]) != result.page_size:
        return f"page size {int(answer['page_size']):#x}, not {result.page_size:#x}"
    return None


def expected_record(request: Request, result: Result) -> int | None:
    """The fault recording register that a result leaves (§1.8), 128 bits; None where nothing is recorded."""
    if result.granted or not result.recorded or result.fault is None:
        return None
    pasid_valid = request.pasid is not None
    reads = request.access in (Access.READ, Access.ZERO_LENGTH_READ)
    fields: Sequence[tuple[int, int]] = [
        (request.address & FAULT_ADDRESS, 0),
        (request.source_id, 64),
        (request.access is Access.ATOMIC, 92),
        (pasid_valid and request.privileged, 93),
        (pasid_valid and request.execute and reads, 94),
        (pasid_valid, 95),
        (result.fault, 96),
        (request.pasid or 0, 104),
        (request.address_type, 124),
        (request.access is not Access.WRITE, 126),
        (1, 127),
    ]
    return sum(int(value) << position for value, position in fields)
