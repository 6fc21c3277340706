"""Domains: address spaces that devices are attached to. First part: the second stage that a host gives to a guest."""

import errno
from typing import Self

from .errors import IommuError, require
from .ioasid import IoasidSet
from .iommu_domain import IommuDomain
from .vtd.cache_tags import CacheTags, Stage
from .vtd.descriptors import IotlbInvalidate, PasidCacheInvalidate
from .vtd.entries import second_level_entry
from .vtd.page_tables import SECOND_STAGE, PageTable, Permission
from .vtd.pages import PAGE_SIZE
from .vtd.tables import PasidEntry
from .vtd.unit import Iommu

__all__ = ["PagingDomain"]


class PagingDomain(IommuDomain):
    """A second-stage address space, parent of the nested entries that are bound to it.

    Parameters
    ----------
    iommu : Iommu
        The unit that walks it.
    table : PageTable
        The second-stage tables.
    domain_id : int
        DID of entries that use it without a first stage.
    owner : IoasidSet
        Whose it is: only PASIDs of this set can be bound to it.
    nest_parent : bool
        Whether first stages may be nested on it.

    ``tags`` are the entries that use it, nested ones included: changes of the second stage have to reach those too
    (R7). Under ``dirty_tracking`` the unit notes which pages are written.
    """

    STAGE = Stage.SECOND

    def __init__(self, iommu: Iommu, table: PageTable, domain_id: int, owner: IoasidSet, nest_parent: bool):
        self.iommu = iommu
        self.table = table
        self.domain_id = domain_id
        self.owner = owner
        self.nest_parent = nest_parent
        self.tags = CacheTags(iommu)
        self.dirty_tracking = False
        self._unflushed: dict[tuple[int, int], list[int]] = {}

    @classmethod
    async def create(cls, iommu: Iommu, owner: IoasidSet, *, levels: int = 4, nest_parent: bool = True) -> Self:
        """An empty address space.

        Raises
        ------
        IommuError
            EINVAL for levels that the unit does not have, ENOSPC, ENOMEM.
        """
        if levels not in iommu.capabilities.second_stage_levels:
            raise IommuError(errno.EINVAL, f"the unit has no {levels}-level second stage")
        domain_id = iommu.domain_ids.allocate()
        try:
            table = await PageTable.create(SECOND_STAGE, iommu.pages, levels)
        except IommuError:
            iommu.domain_ids.free(domain_id)
            raise
        return cls(iommu, table, domain_id, owner, nest_parent)

    def entry(self) -> PasidEntry:
        return second_level_entry(self.iommu, self.table, self.domain_id, updates=self.dirty_tracking)

    async def map(self, address: int, host: int, size: int, permission: Permission, page_size: int = PAGE_SIZE) -> None:
        """Map guest-physical to host memory.

        Raises
        ------
        IommuError
            EOVERFLOW for a range beyond 64 bits, else as `PageTable.map`; nothing is mapped then.
        """
        require(address + size <= 1 << 64, f"{size:#x} bytes at {address:#x} wrap around", errno.EOVERFLOW)
        await self._settle()
        try:
            await self.table.map(address, host, size, permission, page_size)
        except IommuError as error:
            if error.errno == errno.ENOMEM:
                await self._unmap_leading(address, size, page_size)
            raise
        if self.iommu.capabilities["CM"]:
            await self.tags.flush(address, size, self.iommu.log.trace("map", "R8"), mapped=True)

    async def unmap(self, address: int, size: int) -> None:
        """R7: unmap, flush the parent's and every child's translations, and only then free what was unlinked. When the
        unit fails meanwhile the call can be repeated.

        Raises
        ------
        IommuError
            EINVAL for a range that cuts a large page, ENOENT for a hole in it.
        """
        if (address, size) not in self._unflushed:
            self._unflushed[address, size] = await self.table.unmap(address, size)
        await self._settle()

    async def _settle(self) -> None:
        """Flush what was unmapped, and free tables that nobody can walk any more."""
        for (address, size), unlinked in list(self._unflushed.items()):
            trace = self.iommu.log.trace("unmap", "R7")
            trace.step(f"second stage: {address:#x}+{size:#x} not present")
            await self.tags.flush(address, size, trace)
            del self._unflushed[address, size]
            for table in unlinked:
                await self.iommu.pages.free(table)

    async def _unmap_leading(self, address: int, size: int, page_size: int) -> None:
        """Undo a map that ran out of tables on its way."""
        end = address
        while end < address + size and await self.table.look_up(end) is not None:
            end += page_size
        if end > address:
            await self.unmap(address, end - address)

    async def destroy(self) -> None:
        """Free the tables and the DID, which nothing may be cached under afterwards.

        Raises
        ------
        IommuError
            EBUSY while devices are attached or nested entries exist.
        """
        if len(self.tags):
            raise IommuError(errno.EBUSY, f"domain {self.domain_id} is in use")
        trace = self.iommu.log.trace("destroy", "R7")
        await self.iommu.queue.submit_sync(
            [PasidCacheInvalidate(self.domain_id), IotlbInvalidate(self.domain_id)], trace
        )
        await self.table.destroy()
        self.iommu.domain_ids.free(self.domain_id)
