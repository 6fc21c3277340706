"""Pages for tables and buffers: allocated zeroed, poisoned when freed, so that a stale look at one shows."""

import errno
from collections import defaultdict, deque
from collections.abc import Callable

from ..errors import IommuError
from ..inject import FailPoints
from ..transport import Memory

__all__ = ["PAGE_SIZE", "PageAllocator", "poison"]

PAGE_SIZE = 4096
"""Bytes of a page."""


def poison(generation: int) -> int:
    """The 64-bit word that fills a page freed for the ``generation``-th time.

    Bits 1:0 are clear: read as an entry of any table it is not present, so that a stale walk faults instead of
    translating.
    """
    return 0xF4EE_D000_0000_0000 | (generation & 0xFFFF_FFFF) << 8


class PageAllocator:
    """Hands out runs of pages from one region of an address space.

    Fresh pages go first and freed ones are reused in the order in which they were freed: a page stays poisoned as long
    as possible.

    Parameters
    ----------
    memory : Memory
        The address space.
    base, size : int
        The region in bytes, both multiples of 4096.
    fail : FailPoints, optional
        Each allocation passes the fail point ``page``.

    ``on_free`` are called with address and size in bytes of a run that is about to be freed.
    """

    def __init__(self, memory: Memory, base: int, size: int, fail: FailPoints | None = None):
        if base % PAGE_SIZE or size % PAGE_SIZE:
            raise ValueError(f"a page region is made of whole pages, not {size:#x} bytes at {base:#x}")
        self.memory = memory
        self.fail = fail or FailPoints()
        self._fresh = base
        self._end = base + size
        self._free: dict[int, deque[int]] = defaultdict(deque)
        self._lengths: dict[int, int] = {}
        self._generations: dict[int, int] = {}
        self.on_free: list[Callable[[int, int], None]] = []

    @property
    def freed(self) -> dict[int, int]:
        """Runs that are free and poisoned: address to number of pages."""
        return {address: pages for pages, runs in self._free.items() for address in runs}

    @property
    def allocated(self) -> dict[int, int]:
        """Runs in use: address to number of pages."""
        return dict(self._lengths)

    def generation(self, address: int) -> int:
        """How many times the run at ``address`` has been freed."""
        return self._generations.get(address, 0)

    async def allocate(self, pages: int = 1) -> int:
        """Allocate ``pages`` zeroed pages in a row.

        Returns
        -------
        int
            Address of the first byte.

        Raises
        ------
        IommuError
            ENOMEM when the region is used up.
        """
        self.fail.reach("page")
        size = pages * PAGE_SIZE
        if self._fresh + size <= self._end:
            address = self._fresh
            self._fresh += size
        elif self._free[pages]:
            address = self._free[pages].popleft()
        else:
            raise IommuError(errno.ENOMEM, f"no {pages} pages in a row are left")
        self._lengths[address] = pages
        await self.memory.write(address, bytes(size))
        return address

    async def free(self, address: int) -> None:
        """Give a run back and poison it.

        Raises
        ------
        ValueError
            When it is not allocated: a double free is a bug of the caller.
        """
        if address not in self._lengths:
            raise ValueError(f"{address:#x} is not an allocated run of pages")
        for listener in self.on_free:
            listener(address, self._lengths[address] * PAGE_SIZE)
        pages = self._lengths.pop(address)
        generation = self._generations[address] = self.generation(address) + 1
        await self.memory.write(address, poison(generation).to_bytes(8, "little") * (pages * PAGE_SIZE // 8))
        self._free[pages].append(address)
