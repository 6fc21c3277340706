"""A process of the host: a first-stage table in host memory, shared with devices as it is (native SVA)."""

from collections.abc import Awaitable, Callable
from typing import Self

from .guest import READ_WRITE
from .vtd.page_tables import FIRST_STAGE, PageTable, Permission
from .vtd.pages import PAGE_SIZE, PageAllocator

__all__ = ["Mm"]


class Mm:
    """An address space of the host's own. Make one with `create`.

    Whoever shares it adds itself to ``on_change`` (called after a range is unmapped, before anything is freed) and
    ``on_exit`` (called before its tables go).
    """

    def __init__(self, pages: PageAllocator, table: PageTable):
        self.table = table
        self.on_change: list[Callable[[int, int, bool], Awaitable[None]]] = []
        self.on_exit: list[Callable[[], Awaitable[None]]] = []
        self._pages = pages
        self._frames: dict[int, int] = {}

    @classmethod
    async def create(cls, pages: PageAllocator, levels: int = 4) -> Self:
        """A process with nothing mapped."""
        return cls(pages, await PageTable.create(FIRST_STAGE, pages, levels))

    async def map(self, address: int, permission: Permission = READ_WRITE) -> int:
        """Map one fresh page; returns its host address."""
        self._frames[address] = await self._pages.allocate()
        await self.table.map(address, self._frames[address], PAGE_SIZE, permission)
        return self._frames[address]

    async def unmap(self, address: int) -> None:
        """Unmap one page and free it, once nobody can reach it any more."""
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
