"""Page faults handed to user space (`IOMMU_FAULT_QUEUE_ALLOC`): read as whole groups, answered by cookie."""

import errno
from collections import deque
from dataclasses import dataclass
from itertools import count

from ..errors import IommuError, require
from ..iopf import GroupState, IopfGroup, PageFault, PageResponse
from .context import IommufdObject

__all__ = ["FaultQueue", "HwptPgfault"]


@dataclass(frozen=True)
class HwptPgfault:
    """`iommu_hwpt_pgfault`: one page request of the group that ``cookie`` names."""

    fault: PageFault
    cookie: int
    SIZE = 64


class FaultQueue(IommufdObject):
    """A queue of faults; HWPTs that were made with it send theirs here.

    Parameters
    ----------
    depth : int
        Groups that may wait unread; more are refused, which answers them INVALID.
    """

    def __init__(self, depth: int = 64):
        self._depth = depth
        self._unread: deque[IopfGroup] = deque()
        self._delivered: dict[int, IopfGroup] = {}
        self._cookies = count(1)

    async def handle(self, group: IopfGroup) -> None:
        """A group waits to be read; ENOSPC when too many do."""
        self._unread = deque(each for each in self._unread if each.state is GroupState.DELIVERED)
        require(len(self._unread) < self._depth, "the fault queue is full", errno.ENOSPC)
        self._unread.append(group)

    async def read(self, size: int) -> list[HwptPgfault]:
        """Whole groups, as many as fit ``size`` bytes.

        Raises
        ------
        IommuError
            ESPIPE when ``size`` is no multiple of a record.
        """
        require(size % HwptPgfault.SIZE == 0, f"{size} bytes are not whole records", errno.ESPIPE)
        records: list[HwptPgfault] = []
        while self._unread:
            group = self._unread[0]
            if group.state is not GroupState.DELIVERED:
                self._unread.popleft()
                continue
            if len(records) + len(group.faults) > size // HwptPgfault.SIZE:
                break
            cookie = next(self._cookies)
            self._delivered[cookie] = self._unread.popleft()
            records += [HwptPgfault(fault, cookie) for fault in group.faults]
        return records

    async def write(self, cookie: int, code: int) -> None:
        """Answer a group that was read.

        Raises
        ------
        IommuError
            EINVAL for an unknown cookie, one that was used, or a code other than success and invalid.
        """
        require(code in (PageResponse.SUCCESS, PageResponse.INVALID), f"response code {code} is unknown")
        group = self._delivered.pop(cookie, None)
        if group is None:
            raise IommuError(errno.EINVAL, f"no group waits for cookie {cookie}")
        await group.respond(PageResponse(code))
