"""The devices' side of the unit's ``ats`` port: page requests in, page group responses out."""

from collections.abc import Awaitable, Callable, Sequence

import numpy as np

from ..model import PageRequest, PageResponse
from .library import library, pointer
from .records import PAGE_KNOBS, PAGE_REQUEST, PAGE_RESPONSE, record_of

__all__ = ["PagePort"]


def _row(request: PageRequest) -> tuple[int, ...]:
    """A request in the order of `PAGE_REQUEST`'s fields."""
    with_pasid, pasid = request.pasid is not None, request.pasid or 0
    page, flags = request.address >> 12, (request.read, request.write, request.last)
    return page, pasid, request.source_id, request.group, with_pasid, *flags, request.execute, request.privileged


class PagePort:
    """All devices that ask for pages, on one link: requests go in the order in which they were sent.

    Parameters
    ----------
    finished : callable
        Waits for an operation of the bench, by its handle, limit in cycles and name.
    """

    def __init__(self, finished: Callable[[int, int | None, str], Awaitable[None]]):
        self._library = library()
        self._finished = finished
        self._taken = 0
        self._sending: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._waiting: dict[int, list[PageResponse]] = {}

    def set_traffic(self, *, gap_percent: int = 0, response_stall_percent: int = 0, seed: int = 0) -> None:
        """Chances of each cycle that the next request is not offered, and that a response is not taken."""
        knobs = {"gap_percent": gap_percent, "response_stall_percent": response_stall_percent, "seed": seed}
        self._library.nw_page_knobs(pointer(record_of(PAGE_KNOBS, **knobs)))

    async def send(self, requests: Sequence[PageRequest], limit: int = 1_000_000) -> np.ndarray:
        """Send requests and wait until the unit has accepted them; the cycle in which it took each."""
        rows = np.array([_row(request) for request in requests], PAGE_REQUEST)
        cycles = np.zeros(len(rows), "u8")
        handle = self._library.nw_request_pages(pointer(rows), pointer(cycles), len(rows))
        self._sending[handle] = rows, cycles  # C++ works on them, whatever becomes of this coroutine
        await self._finished(handle, limit, "page requests")
        del self._sending[handle]
        return cycles

    def responses(self, start: int = 0) -> np.ndarray:
        """All responses that have come since the beginning, but for the first ``start`` (`PAGE_RESPONSE` records)."""
        count = self._library.nw_page_responses(None, 0)
        records = np.zeros(max(count - start, 0), PAGE_RESPONSE)
        if len(records):
            self._library.nw_page_responses(pointer(records), start)
        return records

    async def until(self, count: int, limit: int = 100_000) -> None:
        """Wait until there were ``count`` responses."""
        await self._finished(self._library.nw_wait_page_responses(count), limit, f"page group response {count}")

    def take(self, source_id: int) -> list[PageResponse]:
        """The responses to one device that have not been taken yet, oldest first."""
        new = self.responses(self._taken)
        self._taken += len(new)
        for record in new:
            pasid = int(record["pasid"]) if record["pasid_valid"] else None
            response = PageResponse(int(record["source_id"]), pasid, int(record["group"]), int(record["code"]))
            self._waiting.setdefault(response.source_id, []).append(response)
        return self._waiting.pop(source_id, [])
