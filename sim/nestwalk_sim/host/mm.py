"""A process of the host: a first-stage table in host memory, shared with devices as it is (native SVA)."""

import errno
from collections.abc import Awaitable, Callable
from typing import Self

from .errors import require
from .guest import READ_WRITE
from .vtd.page_tables import FIRST_STAGE, PageTable, Permission
from .vtd.pages import PAGE_SIZE, PageAllocator

__all__ = ["Mm"]


class Mm:
    """An address space of the host's own. Make one with `create`.

    Whoever shares it adds itself to ``on_change`` (called after a range is unmapped, before anything is freed) and
    ``on_exit`` (called before its tables go). ``faults`` counts pages that were first touched by a fault.
    """

    def __init__(self, pages: PageAllocator, table: PageTable):
        self.table = table
        self.on_change: list[Callable[[int, int, bool], Awaitable[None]]] = []
        self.on_exit: list[Callable[[], Awaitable[None]]] = []
        self._pages = pages
        self._frames: dict[int, int] = {}
        self._reserved: dict[int, Permission] = {}
        self.faults = 0

    @classmethod
    async def create(cls, pages: PageAllocator, levels: int = 4) -> Self:
        """A process with nothing mapped."""
        return cls(pages, await PageTable.create(FIRST_STAGE, pages, levels))

    async def map(self, address: int, permission: Permission = READ_WRITE) -> int:
        """Map one fresh page; returns its host address."""
        self._frames[address] = await self._pages.allocate()
        await self.table.map(address, self._frames[address], PAGE_SIZE, permission)
        return self._frames[address]

    def reserve(self, address: int, permission: Permission = READ_WRITE) -> None:
        """Promise a page, as `mmap` does: it is there once somebody touches it."""
        self._reserved[address] = permission

    async def fault(self, address: int, *, write: bool) -> None:
        """Somebody touches a page that may be missing.

        Raises
        ------
        IommuError
            EFAULT where nothing is promised, or no writing; ENOMEM.
        """
        page = address & -PAGE_SIZE
        if page in self._frames:
            leaf = await self.table.look_up(page)
            writable = leaf is not None and leaf.entry & self.table.format.write
            require(writable or not write, f"{page:#x} cannot be written", errno.EFAULT)
            return
        permission = self._reserved.get(page)
        fits = permission is not None and (Permission.WRITE in permission or not write)
        require(fits, f"nothing like that is mapped at {page:#x}", errno.EFAULT)
        await self.map(page, permission or READ_WRITE)
        self.faults += 1

    async def unmap(self, address: int) -> None:
        """Unmap one page and free it, once nobody can reach it any more. A promise ends too."""
        self._reserved.pop(address, None)
        if address not in self._frames:
            return
        unlinked = await self.table.unmap(address, PAGE_SIZE)
        for changed in list(self.on_change):
            await changed(address, PAGE_SIZE, not unlinked)
        for page in (*unlinked, self._frames.pop(address)):
            await self._pages.free(page)

    async def exit(self) -> None:
        """The process ends, whatever devices still do."""
        for leaving in list(self.on_exit):
            await leaving()
        await self.table.destroy()
        for frame in self._frames.values():
            await self._pages.free(frame)
        self._frames.clear()
