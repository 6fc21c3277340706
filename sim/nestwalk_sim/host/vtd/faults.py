"""Reader of the fault recording registers, in the order in which Linux's `dmar_fault` works (§1.8)."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Self

from .regs import Registers, RegisterValue

__all__ = ["FaultLog", "FaultRecord"]

REQUEST_TYPES = {(0, 0): "write", (0, 1): "page request", (1, 0): "read", (1, 1): "atomic"}
"""(T1, T2) of a record."""


@dataclass(frozen=True)
class FaultRecord:
    """One recorded fault.

    Parameters
    ----------
    source_id : int
        Requester id.
    pasid : int or None
        The request's PASID, None for a request without.
    address : int
        Faulted address, rounded down to 4 KiB.
    reason : int
        Reason code of §4.
    request : str
        ``read``, ``write``, ``atomic`` or ``page request``.
    execute, privileged : bool
        What was asked for.
    """

    source_id: int
    pasid: int | None
    address: int
    reason: int
    request: str
    execute: bool
    privileged: bool

    @classmethod
    def decode(cls, record: RegisterValue) -> Self:
        """The record in a fault recording register FRCD."""
        return cls(
            source_id=record["SID"],
            pasid=record["PV"] if record["PP"] else None,
            address=record["FI"] << 12,
            reason=record["FR"],
            request=REQUEST_TYPES[record["T1"], record["T2"]],
            execute=bool(record["EXE"]),
            privileged=bool(record["PRIV"]),
        )


class FaultLog:
    """Drains the unit's fault records.

    Parameters
    ----------
    regs : Registers
        The unit.
    first, count : int
        Offset in bytes of the first record and number of records, from CAP.

    ``overflowed`` counts how often a fault was lost for want of a free record. ``on_record`` are told of each record.
    """

    def __init__(self, regs: Registers, first: int, count: int):
        self._regs = regs
        self._first = first
        self._count = count
        self.overflowed = 0
        self.on_record: list[Callable[[FaultRecord], None]] = []

    async def drain(self) -> list[FaultRecord]:
        """Take all records from FRI on, clear each, then clear the overflow."""
        records: list[FaultRecord] = []
        async for record in self.pending(take=True):
            records.append(record)
            for listener in self.on_record:
                listener(record)
        if await self.overflows():
            self.overflowed += 1
            await self._regs.write("FSTS", PFO=1)
        return records

    async def pending(self, *, take: bool = False) -> AsyncIterator[FaultRecord]:
        """The records from FRI on; with ``take`` each is cleared."""
        status = await self._regs.read("FSTS")
        for step in range(self._count if status["PPF"] else 0):
            place = (status["FRI"] + step) % self._count
            record = await self._regs.read("FRCD", place, self._first)
            if not record["F"]:
                break
            if take:
                await self._regs.clear("FRCD", "F", place, self._first)
            yield FaultRecord.decode(record)

    async def overflows(self) -> bool:
        """Whether a fault was lost since the last `drain`."""
        return bool((await self._regs.read("FSTS"))["PFO"])
