"""Reader of the fault recording registers, in the order in which Linux's `dmar_fault` works (§1.8)."""

from dataclasses import dataclass
from typing import Self

from .regs import Registers

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
    def decode(cls, value: int) -> Self:
        """The record in a 128-bit fault recording register."""
        return cls(
            source_id=value >> 64 & 0xFFFF,
            pasid=value >> 104 & 0xFFFFF if value >> 95 & 1 else None,
            address=value & 0xFFFF_FFFF_FFFF_F000,
            reason=value >> 96 & 0xFF,
            request=REQUEST_TYPES[value >> 126 & 1, value >> 92 & 1],
            execute=bool(value >> 94 & 1),
            privileged=bool(value >> 93 & 1),
        )


class FaultLog:
    """Drains the unit's fault records.

    Parameters
    ----------
    regs : Registers
        The unit.
    first, count : int
        Offset in bytes of the first record and number of records, from CAP.

    ``overflowed`` counts how often a fault was lost for want of a free record.
    """

    def __init__(self, regs: Registers, first: int, count: int):
        self._regs = regs
        self._first = first
        self._count = count
        self.overflowed = 0

    async def drain(self) -> list[FaultRecord]:
        """Take all records from FRI on, clear each, then clear the overflow."""
        status = await self._regs.read("FSTS")
        records: list[FaultRecord] = []
        if status["PPF"]:
            index = status["FRI"]
            for step in range(self._count):
                offset = self._first + 16 * ((index + step) % self._count)
                high = await self._regs.transport.read64(offset + 8)
                if not high >> 63:
                    break
                low = await self._regs.transport.read64(offset)
                records.append(FaultRecord.decode(high << 64 | low))
                await self._regs.transport.write32(offset + 12, 1 << 31)
        if status["PFO"]:
            self.overflowed += 1
            await self._regs.write("FSTS", PFO=1)
        return records
