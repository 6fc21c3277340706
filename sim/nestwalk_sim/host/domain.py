"""Domains: address spaces that devices are attached to. First part: the second stage that a host gives to a guest."""

import errno
from typing import Self

from .device import Device
from .errors import IommuError
from .ioasid import IoasidSet
from .vtd.cache_tags import RID_PASID, CacheTag, CacheTags, Stage
from .vtd.descriptors import IotlbInvalidate, PasidCacheInvalidate
from .vtd.page_tables import SECOND_STAGE, PageTable, Permission
from .vtd.pages import PAGE_SIZE
from .vtd.pasid import setup_second_level, tear_down
from .vtd.unit import Iommu

__all__ = ["PagingDomain"]


class PagingDomain:
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
    (R7).
    """

    def __init__(self, iommu: Iommu, table: PageTable, domain_id: int, owner: IoasidSet, nest_parent: bool):
        self.iommu = iommu
        self.table = table
        self.domain_id = domain_id
        self.owner = owner
        self.nest_parent = nest_parent
        self.tags = CacheTags(iommu)

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

    async def map(self, address: int, host: int, size: int, permission: Permission, page_size: int = PAGE_SIZE) -> None:
        """Map guest-physical to host memory; errors as `PageTable.map`."""
        await self.table.map(address, host, size, permission, page_size)
        if self.iommu.capabilities["CM"]:
            await self.tags.flush(address, size, self.iommu.log.trace("map", "R8"), mapped=True)

    async def unmap(self, address: int, size: int) -> None:
        """R7: unmap, flush the parent's and every child's translations, and only then free what was unlinked.

        Raises
        ------
        IommuError
            EINVAL for a range that cuts a large page, ENOENT for a hole in it.
        """
        trace = self.iommu.log.trace("unmap", "R7")
        unlinked = await self.table.unmap(address, size)
        trace.step(f"second stage: {address:#x}+{size:#x} not present")
        await self.tags.flush(address, size, trace)
        for table in unlinked:
            await self.iommu.pages.free(table)

    @property
    def attached(self) -> list[Device]:
        """Devices whose requests-without-PASID use it."""
        return [tag.device for tag in self.tags if tag == self._tag(tag.device)]

    async def attach(self, device: Device) -> None:
        """Let the device's requests-without-PASID use this address space.

        Raises
        ------
        IommuError
            EBUSY when it is attached to something, EINVAL for a device of another unit.
        """
        state = self.iommu.state_of(device)
        trace = self.iommu.log.trace("attach", "R2")
        tag = self._tag(device)
        self.tags.assign(tag)
        try:
            await setup_second_level(self.iommu, device, RID_PASID, self.table, self.domain_id, trace)
        except IommuError:
            self.tags.unassign(tag)
            raise
        state.domain_id = self.domain_id

    async def detach(self, device: Device) -> None:
        """R9: block the device's requests-without-PASID again; nothing happens when it is not attached here."""
        if self._tag(device) in self.tags:
            await tear_down(self.iommu, device, RID_PASID, self.iommu.log.trace("detach", "R9"))
            self.iommu.state_of(device).domain_id = None
            self.tags.unassign(self._tag(device))

    def _tag(self, device: Device) -> CacheTag:
        return CacheTag(device, RID_PASID, self.domain_id, Stage.SECOND)

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
