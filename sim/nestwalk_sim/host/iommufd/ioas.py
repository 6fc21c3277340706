"""I/O address spaces: what a user maps for devices, whatever page tables that ends in."""

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..domain import PagingDomain
from ..errors import IommuError, require
from ..guest import READ_WRITE
from ..vtd.page_tables import Permission
from ..vtd.pages import PAGE_SIZE
from .context import IommufdContext, IommufdObject

__all__ = ["Area", "Ioas", "IovaRange"]

IovaRange = tuple[int, int]
"""First and last address."""

INTERRUPTS: IovaRange = (0xFEE0_0000, 0xFEEF_FFFF)
"""Writes to here are interrupt messages (§2.1); it can never be mapped."""


@dataclass(frozen=True)
class Area:
    """What one call has mapped: pages at host addresses, from an I/O address on."""

    iova: int
    frames: tuple[int, ...]
    permission: Permission

    @property
    def end(self) -> int:
        return self.iova + len(self.frames) * PAGE_SIZE


class Ioas(IommufdObject):
    """One address space; every paging HWPT of it has the same mappings.

    Parameters
    ----------
    context : IommufdContext
        Whose it is.

    ``domains`` are the page tables that follow it. ``on_unmap`` are told of address and size before a range goes.
    """

    def __init__(self, context: IommufdContext):
        self.context = context
        self.areas: list[Area] = []
        self.domains: list[PagingDomain] = []
        self.on_unmap: list[Callable[[int, int], None]] = []
        self._allowed: list[IovaRange] = []
        self._leaving: dict[Area, list[PagingDomain]] = {}

    async def release(self) -> None:
        await self.unmap_all()

    async def map(
        self,
        frames: Sequence[int],
        iova: int | None = None,
        permission: Permission = READ_WRITE,
        align: int = PAGE_SIZE,
    ) -> int:
        """`IOMMU_IOAS_MAP`: pages of the caller, at an address or wherever there is room.

        Parameters
        ----------
        frames : sequence of int
            Host addresses of the pages, in their order.
        align : int
            Of an address that is not given.

        Returns
        -------
        int
            The I/O address.

        Raises
        ------
        IommuError
            EINVAL for a misaligned address, EOVERFLOW beyond 64 bits, EFAULT for memory that the caller does not have,
            EADDRINUSE for a reserved range, EEXIST for one that is mapped, ENOSPC when there is no room, ENOMEM.
            Nothing is mapped then.
        """
        size = len(frames) * PAGE_SIZE
        require(frames and not any(frame % PAGE_SIZE for frame in frames), "no whole pages are given")
        for frame in frames:
            require(frame in self.context.iommu.pages.allocated, f"no memory at {frame:#x}", errno.EFAULT)
        iova = self._room(size, align) if iova is None else iova
        require(iova % PAGE_SIZE == 0, f"{iova:#x} is no page")
        require(iova + size <= 1 << 64, f"{size:#x} bytes at {iova:#x} wrap around", errno.EOVERFLOW)
        require(not self._reserved(iova, size), f"{iova:#x} is reserved", errno.EADDRINUSE)
        require(not self._overlapping(iova, size), f"{iova:#x} is mapped", errno.EEXIST)
        area = Area(iova, tuple(frames), permission)
        await self._fill(area, self.domains)
        self.areas.append(area)
        return iova

    async def unmap(self, iova: int, size: int) -> int:
        """`IOMMU_IOAS_UNMAP` of the areas in a range.

        Returns
        -------
        int
            Bytes that were unmapped.

        Raises
        ------
        IommuError
            ENOENT when nothing is mapped there or an area sticks out of the range; nothing is unmapped then.
        """
        inside = self._overlapping(iova, size)
        whole = all(iova <= area.iova and area.end <= iova + size for area in inside)
        require(inside and whole, f"no areas make up {iova:#x}+{size:#x}", errno.ENOENT)
        for area in inside:
            await self._remove(area)
        return sum(area.end - area.iova for area in inside)

    async def unmap_all(self) -> int:
        """Unmap everything; nothing to unmap is no error."""
        total = sum(area.end - area.iova for area in self.areas)
        for area in list(self.areas):
            await self._remove(area)
        return total

    async def copy(self, source: "Ioas", iova: int, size: int, to: int | None = None) -> int:
        """`IOMMU_IOAS_COPY`: map the same pages as a range of another address space, or this one.

        Raises
        ------
        IommuError
            ENOENT when the range is not mapped throughout, else as `map`.
        """
        frames = source.frames(iova, size)
        return await self.map(frames, to)

    def frames(self, iova: int, size: int) -> list[int]:
        """Host addresses of the pages of a range; ENOENT where one is not mapped."""
        pages: list[int] = []
        for address in range(iova & -PAGE_SIZE, iova + size, PAGE_SIZE):
            area = next((each for each in self.areas if each.iova <= address < each.end), None)
            if area is None:
                raise IommuError(errno.ENOENT, f"{address:#x} is not mapped")
            pages.append(area.frames[(address - area.iova) // PAGE_SIZE])
        return pages

    def ranges(self, room: int | None = None) -> list[IovaRange]:
        """`IOMMU_IOAS_IOVA_RANGES`: what can be mapped; EMSGSIZE when there are more ranges than the caller has room
        for.
        """
        last = self._aperture
        usable = [(0, INTERRUPTS[0] - 1), (INTERRUPTS[1] + 1, last)]
        require(room is None or room >= len(usable), f"there are {len(usable)} ranges", errno.EMSGSIZE)
        return usable

    def allow(self, ranges: Sequence[IovaRange]) -> None:
        """`IOMMU_IOAS_ALLOW_IOVAS`: addresses that `map` chooses come from these ranges.

        Raises
        ------
        IommuError
            EADDRINUSE for a range that cannot be mapped.
        """
        for first, last in ranges:
            require(not self._reserved(first, last - first + 1), f"{first:#x} is reserved", errno.EADDRINUSE)
        self._allowed = list(ranges)

    async def follow(self, domain: PagingDomain) -> None:
        """Give a new page table all mappings, now and from now on.

        Raises
        ------
        IommuError
            EADDRINUSE when an area lies beyond what it can translate, ENOMEM; it is left empty then.
        """
        narrow = any(area.end > 1 << domain.table.width for area in self.areas)
        require(not narrow, "an area lies beyond the new page table", errno.EADDRINUSE)
        done: list[Area] = []
        try:
            for area in self.areas:
                await self._fill(area, [domain])
                done.append(area)
        except IommuError:
            for area in done:
                await domain.unmap(area.iova, area.end - area.iova)
            raise
        self.domains.append(domain)

    @property
    def _aperture(self) -> int:
        """The last address that every page table can translate."""
        return min((1 << domain.table.width for domain in self.domains), default=1 << 64) - 1

    def _overlapping(self, iova: int, size: int) -> list[Area]:
        return [area for area in self.areas if area.iova < iova + size and iova < area.end]

    def _reserved(self, iova: int, size: int) -> bool:
        last = iova + size - 1
        return last > self._aperture or (iova <= INTERRUPTS[1] and INTERRUPTS[0] <= last)

    def _room(self, size: int, align: int) -> int:
        for first, last in self._allowed or [(align, INTERRUPTS[0] - 1), (INTERRUPTS[1] + 1, self._aperture)]:
            at = -(-first // align) * align
            while at + size - 1 <= last:
                there = self._overlapping(at, size)
                if not there:
                    return at
                at = -(-max(area.end for area in there) // align) * align
        raise IommuError(errno.ENOSPC, f"no room for {size:#x} bytes")

    async def _fill(self, area: Area, domains: Sequence[PagingDomain]) -> None:
        """Write an area to page tables: to all or to none."""
        for place, domain in enumerate(domains):
            for number, frame in enumerate(area.frames):
                try:
                    await domain.map(area.iova + number * PAGE_SIZE, frame, PAGE_SIZE, area.permission)
                except IommuError:
                    if number:
                        await domain.unmap(area.iova, number * PAGE_SIZE)
                    for earlier in domains[:place]:
                        await earlier.unmap(area.iova, area.end - area.iova)
                    raise

    async def _remove(self, area: Area) -> None:
        for told in list(self.on_unmap):
            told(area.iova, area.end - area.iova)
        left = self._leaving.setdefault(area, list(self.domains))
        while left:
            await left[0].unmap(area.iova, area.end - area.iova)
            left.pop(0)
        del self._leaving[area]
        self.areas.remove(area)
