"""The fault scoreboard (I10): the fault log holds exactly what was caused, and nothing of entries that disable it."""

from collections import Counter
from collections.abc import Callable, Iterator

from ...model.fault_conditions import FAULT_CONDITIONS
from ...model.page_request import PageRequest
from ...model.request import Access, Request
from ..vtd.faults import FaultLog, FaultRecord
from .monitor import BusMonitor

__all__ = ["Blocked", "FaultBoard"]

Blocked = Callable[[Request, int], None]
"""Told of a request that was blocked, with the fault reason code."""

FAULTS_OFF = 1 << 1
ALWAYS_RECORDED = {condition.code for condition in FAULT_CONDITIONS.values() if not condition.qualified}
NAMES = {Access.READ: "read", Access.ZERO_LENGTH_READ: "read", Access.WRITE: "write", Access.ATOMIC: "atomic"}


class FaultBoard:
    """Counts what was blocked against what the driver finds in the log.

    Parameters
    ----------
    monitor : BusMonitor
        Knows which entries disable records.
    log : FaultLog
        The driver's.
    """

    def __init__(self, monitor: BusMonitor, log: FaultLog):
        self._monitor = monitor
        self._log = log
        self._caused: Counter[tuple[object, ...]] = Counter()
        self._found: Counter[tuple[object, ...]] = Counter()
        self._asked: set[tuple[object, ...]] = set()
        log.on_record.append(self.recorded)

    def blocked(self, request: Request, reason: int) -> None:
        """A request was blocked."""
        if not self._silenced(request) or reason in ALWAYS_RECORDED:
            page = request.address & ((1 << 57) - 1) & -4096
            self._caused[request.source_id, request.pasid, page, reason, NAMES[request.access]] += 1

    def asked(self, request: PageRequest) -> None:
        """A device sent a page request, which may be blocked."""
        self._asked.add((request.source_id, request.pasid, request.address & (1 << 57) - 1 & -4096))

    def recorded(self, record: FaultRecord) -> None:
        """The driver took a record out of the log."""
        self._found[record.source_id, record.pasid, record.address, record.reason, record.request] += 1

    async def problems(self) -> list[str]:
        """What is in the log, or was, and should not be, and the reverse."""
        found, lost = self._found.copy(), bool(self._log.overflowed)
        async for record in self._log.pending():
            found[record.source_id, record.pasid, record.address, record.reason, record.request] += 1
        lost = lost or await self._log.overflows()
        return [*self._differences(found, lost)]

    def _differences(self, found: Counter[tuple[object, ...]], lost: bool) -> Iterator[str]:
        for fault in found - self._caused:
            if fault[-1] != "page request" or fault[:3] not in self._asked:
                yield f"I10: a record that nobody caused: {fault}"
        if not lost:
            yield from (f"I10: a fault without record: {fault}" for fault in self._caused - found)

    def _silenced(self, request: Request) -> bool:
        """Whether the request's context or PASID-table entry has FPD."""
        context = self._monitor.contexts.get(request.source_id, (0,))
        entry = self._monitor.entries.get((request.source_id, request.pasid or 0), (0,))
        return bool((context[0] | entry[0]) & FAULTS_OFF)
