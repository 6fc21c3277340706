"""I/O page faults (S22): page requests collected to groups, handed to whoever serves them, and answered once."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Protocol

from .device import Device
from .errors import IommuError, require

__all__ = ["FaultHandler", "GroupState", "IopfGroup", "IopfQueue", "PageFault", "PageResponse"]


class PageResponse(IntEnum):
    """How a group is answered (host-software reference 4.3)."""

    SUCCESS = 0
    """The device may retry."""
    INVALID = 1
    """The device must not retry."""
    FAILURE = 2
    """The device shall ask for nothing any more."""


@dataclass(frozen=True, kw_only=True)
class PageFault:
    """One page request of a device.

    Parameters
    ----------
    device : Device
        Who asks.
    pasid : int or None
        Under which PASID; None without.
    group : int
        Index of the page request group, 9 bits.
    address : int
        Of the page, in bytes.
    read, write, execute, privileged : bool
        What it wants to do.
    last : bool
        Whether it ends its group.
    """

    device: Device
    pasid: int | None
    group: int
    address: int
    read: bool = False
    write: bool = False
    execute: bool = False
    privileged: bool = False
    last: bool = True


class GroupState(Enum):
    """Where a group stands."""

    COLLECTING = "collecting"
    DELIVERED = "delivered"
    RESPONDED = "responded"
    AUTO_RESPONDED = "answered for its handler"
    DROPPED = "dropped"


@dataclass(eq=False)
class IopfGroup:
    """Page requests that are answered together.

    ``born`` is when it was delivered, in the transport's time; it is not ``valid`` when one of its requests is none
    that a device may send.
    """

    device: Device
    pasid: int | None
    index: int
    answer: Callable[["IopfGroup", PageResponse], Awaitable[None]]
    faults: list[PageFault] = field(default_factory=list)
    state: GroupState = GroupState.COLLECTING
    born: int = 0
    valid: bool = True

    async def respond(self, code: PageResponse) -> None:
        """`iommu_page_response`.

        Raises
        ------
        IommuError
            EINVAL for a group that is not waiting for an answer.
        """
        require(self.state is GroupState.DELIVERED, f"group {self.index} of {self.device} is answered already")
        await self._answered(GroupState.RESPONDED, code)

    async def auto_respond(self) -> None:
        """Answer INVALID in place of a handler that is gone or failed; nothing when it was answered."""
        if self.state is GroupState.DELIVERED:
            await self._answered(GroupState.AUTO_RESPONDED, PageResponse.INVALID)

    async def _answered(self, state: GroupState, code: PageResponse) -> None:
        """Answer once; a failure to send leaves it as it was."""
        self.state = state
        try:
            await self.answer(self, code)
        except IommuError:
            self.state = GroupState.DELIVERED
            raise


class FaultHandler(Protocol):
    """Who serves page faults of a domain."""

    async def handle(self, group: IopfGroup) -> None:
        """Serve a complete group, and respond to it now or later.

        Raises
        ------
        IommuError
            When it cannot; the group is answered INVALID.
        """
        ...


class IopfQueue:
    """The page faults of one unit's devices.

    Parameters
    ----------
    answer : callable
        Sends the response of a group to its device.
    now : callable
        The transport's clock.

    ``handlers`` serve (requester id, PASID; 0 for none). ``pending`` are groups that were delivered and not answered.
    """

    def __init__(self, answer: Callable[[IopfGroup, PageResponse], Awaitable[None]], now: Callable[[], int]):
        self._answer = answer
        self._now = now
        self._partial: dict[tuple[int, int | None, int], IopfGroup] = {}
        self.handlers: dict[tuple[int, int], FaultHandler] = {}
        self.pending: list[IopfGroup] = []

    async def report(self, fault: PageFault, *, valid: bool = True) -> None:
        """A page request has come; the last of a group delivers the group to its handler.

        Parameters
        ----------
        valid : bool
            False for a request that no device may send: its group is answered INVALID.
        """
        key = fault.device.source_id, fault.pasid, fault.group
        group = self._partial.setdefault(key, IopfGroup(fault.device, fault.pasid, fault.group, self._answer))
        group.faults.append(fault)
        group.valid = group.valid and valid
        if not fault.last:
            return
        del self._partial[key]
        self.pending.append(group)
        group.state, group.born = GroupState.DELIVERED, self._now()
        handler = self.handlers.get((fault.device.source_id, fault.pasid or 0))
        try:
            if handler is not None and group.valid:
                await handler.handle(group)
            else:
                await group.auto_respond()
        except IommuError:
            await group.auto_respond()
        self._settle()

    def discard_partial(self, device: Device | None = None, pasid: int | None = None) -> None:
        """Groups whose last request was lost will never be complete: of one device and PASID, or all."""
        for key, group in list(self._partial.items()):
            if device is None or (group.device is device and (group.pasid or 0) == (pasid or 0)):
                group.state = GroupState.DROPPED
                del self._partial[key]

    async def withdraw(self, device: Device, pasid: int) -> None:
        """Nobody serves this device and PASID any more: what is pending is answered INVALID, what is partial is
        dropped.
        """
        self.handlers.pop((device.source_id, pasid), None)
        self.discard_partial(device, pasid)
        await self._answer_pending(lambda group: group.device is device and (group.pasid or 0) == pasid)

    async def expire(self, patience: int) -> None:
        """Answer INVALID what a handler has sat on for more than ``patience``."""
        await self._answer_pending(lambda group: self._now() - group.born > patience)

    async def _answer_pending(self, chosen: Callable[[IopfGroup], bool]) -> None:
        for group in [each for each in self.pending if chosen(each)]:
            await group.auto_respond()
        self._settle()

    def _settle(self) -> None:
        self.pending = [group for group in self.pending if group.state is GroupState.DELIVERED]
