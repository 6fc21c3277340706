"""The page request scoreboard (I5, I9): each group is answered once if at all, and none outlives the entry that it was
asked under.
"""

from collections import Counter
from collections.abc import Iterator

from ...model.page_request import PageRequest, PageResponse
from ..iopf import IopfQueue
from .monitor import BusMonitor

__all__ = ["PageBoard"]

PRESENT = 1
Group = tuple[int, int | None, int]
"""Requester id, PASID, index."""


class PageBoard:
    """Counts groups that devices sent against the answers that they got.

    Parameters
    ----------
    monitor : BusMonitor
        Knows which entries are present.
    faults : IopfQueue
        The driver's.
    """

    def __init__(self, monitor: BusMonitor, faults: IopfQueue):
        self._monitor = monitor
        self._faults = faults
        self._waiting: Counter[Group] = Counter()
        self._problems: list[str] = []

    def asked(self, request: PageRequest) -> None:
        """A device sent a page request."""
        if request.wants_response:
            self._waiting[request.source_id, request.pasid, request.group] += 1

    def answered(self, response: PageResponse) -> None:
        """A device got an answer."""
        group = response.source_id, response.pasid, response.group
        if self._waiting[group]:
            self._waiting[group] -= 1
        else:
            self._problems.append(f"I5: an answer that nobody waits for: {_name(group)}")

    def entry_came(self, source_id: int, pasid: int) -> None:
        """An entry became present: nobody may wait for what was asked in its earlier life."""
        for group in +self._waiting:
            if (group[0], group[1] or 0) == (source_id, pasid):
                self._problems.append(f"I9: {_name(group)} is of an earlier life of its PASID")

    def problems(self, gone: set[int]) -> Iterator[str]:
        """What is wrong at a quiet moment; devices that are ``gone`` wait for nothing."""
        yield from self._problems
        yield from (f"I5: {_name(group)} was never answered" for group in +self._waiting if group[0] not in gone)
        for source_id, pasid in self._faults.handlers:
            if not self._monitor.entries.get((source_id, pasid), (0,))[0] & PRESENT:
                yield f"I9: page faults of {source_id:04x} under PASID {pasid} are served without an entry"


def _name(group: Group) -> str:
    source_id, pasid, index = group
    return f"group {index} of {source_id:04x}" + ("" if pasid is None else f", PASID {pasid},")
