"""A device that asks for missing pages (PRI): it sends page requests in groups, waits for the answer, and tries
again."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count
from typing import Protocol

from ..model.page_request import PageRequest, PageResponse, ResponseCode
from .device import Device

__all__ = ["PagePort", "PageRequester", "Unanswered"]

PAGE_SIZE = 4096
GROUPS = 1 << 9


class PagePort(Protocol):
    """Where a unit takes page requests and gives the answers."""

    async def request_page(self, request: PageRequest) -> None:
        """Send a page request."""
        ...

    def page_responses(self, source_id: int) -> list[PageResponse]:
        """Take the answers that have come for a device, oldest first."""
        ...

    async def pause(self) -> None:
        """Let some time pass."""
        ...


class Unanswered(Exception):
    """A group got no answer in the time that the device gives the host."""


@dataclass(frozen=True)
class _Group:
    pasid: int | None
    index: int


class PageRequester:
    """The part of a device that asks for pages.

    Parameters
    ----------
    device : Device
        Whose requester id its messages carry.
    port : PagePort
        The unit.
    meanwhile : callable
        Awaited again and again while it waits: whatever the host does at the unit's interrupt.
    patience : int
        How often it waits before it gives up.

    ``answers`` counts the answers by code; ``disabled`` after a response failure: it asks for nothing any more.
    """

    def __init__(self, device: Device, port: PagePort, meanwhile: Callable[[], Awaitable[object]], patience: int = 500):
        self._device = device
        self._port = port
        self._meanwhile = meanwhile
        self._patience = patience
        self._indices = count()
        self._waiting: set[_Group] = set()
        self.answers: dict[int, int] = {}
        self.disabled = False

    async def ask(self, pages: list[int], pasid: int | None, *, write: bool, privileged: bool = False) -> bool:
        """Ask for pages in one group, and wait.

        Returns
        -------
        bool
            Whether it may try again.

        Raises
        ------
        Unanswered
            When the host does not answer.
        """
        if self.disabled or not pages:
            return False
        group = await self.send(pages, pasid, write=write, privileged=privileged)
        for _ in range(self._patience):
            for response in self._port.page_responses(self._device.source_id):
                code = self._take(response)
                if (response.pasid, response.group) == (group.pasid, group.index):
                    return code == ResponseCode.SUCCESS
            await self._meanwhile()
            await self._port.pause()
        raise Unanswered(f"{self._device} waits for group {group.index}")

    async def send(
        self, pages: list[int], pasid: int | None, *, write: bool, privileged: bool = False, complete: bool = True
    ) -> _Group:
        """Send the requests of a group and wait for nothing; without its last one if it shall not be ``complete``."""
        group = _Group(pasid, next(self._indices) % GROUPS)
        if complete:
            self._waiting.add(group)
        for page in pages:
            last = complete and page == pages[-1]
            await self._port.request_page(
                PageRequest(
                    self._device.source_id,
                    pasid,
                    page & -PAGE_SIZE,
                    read=True,
                    write=write,
                    last=last,
                    group=group.index,
                    privileged=privileged,
                )
            )
        return group

    def collect(self) -> int:
        """Take the answers that have come; how many groups still wait."""
        for response in self._port.page_responses(self._device.source_id):
            self._take(response)
        return len(self._waiting)

    def _take(self, response: PageResponse) -> int:
        """Note an answer.

        Raises
        ------
        AssertionError
            I5: nobody asked, or it was answered before.
        """
        group = _Group(response.pasid, response.group)
        assert group in self._waiting, f"I5: {self._device} gets an answer that it does not wait for: {response}"
        self._waiting.remove(group)
        self.answers[response.code] = self.answers.get(response.code, 0) + 1
        self.disabled = self.disabled or response.code == ResponseCode.FAILURE
        return response.code
