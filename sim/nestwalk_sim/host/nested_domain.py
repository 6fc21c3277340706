"""A guest's first stage on its host's second stage, as a domain of its own (S06, today's form of `bind_gpasid`)."""

import errno
from dataclasses import replace

from .domain import PagingDomain
from .errors import IommuError, require
from .iommu_domain import IommuDomain
from .vtd.cache_tags import CacheTag, CacheTags, Stage
from .vtd.entries import NestedFlags, NestedRequest, check_nesting, nested_entry
from .vtd.tables import PasidEntry

__all__ = ["NestedDomain"]


class _NestedTags(CacheTags):
    """Tags that the parent has to know as well: its changes reach what is cached of its children (R7)."""

    def __init__(self, parent: PagingDomain):
        super().__init__(parent.iommu)
        self._parent = parent.tags

    def assign(self, tag: CacheTag) -> None:
        super().assign(tag)
        try:
            self._parent.assign(replace(tag, stage=Stage.NESTED))
        except IommuError:
            super().unassign(tag)
            raise

    def unassign(self, tag: CacheTag) -> None:
        super().unassign(tag)
        self._parent.unassign(replace(tag, stage=Stage.NESTED))


class NestedDomain(IommuDomain):
    """Guest tables on a parent. Every nested domain has a DID of its own.

    Parameters
    ----------
    parent : PagingDomain
        The second stage, made for nesting.
    root : int
        Guest-physical address of the guest's top first-stage table.
    address_width : int
        48 or 57 bits.
    flags : NestedFlags
        SRE, WPE, EAFE.

    Raises
    ------
    IommuError
        EINVAL for what the unit cannot do (S06), ENOSPC.
    """

    STAGE = Stage.FIRST

    def __init__(self, parent: PagingDomain, root: int, address_width: int = 48, flags: NestedFlags = NestedFlags.NONE):
        self.iommu = parent.iommu
        self.parent = parent
        self.request = NestedRequest(
            root=root, address_width=address_width, flags=flags, parent=parent.table, nest_parent=parent.nest_parent
        )
        check_nesting(self.iommu, self.request)
        self.tags = _NestedTags(parent)
        self.domain_id = self.iommu.domain_ids.allocate()

    def entry(self) -> PasidEntry:
        request = replace(self.request, updates=self.parent.dirty_tracking)
        return nested_entry(self.iommu, request, self.domain_id)

    async def flush(self, address: int, size: int, *, leaf: bool = False) -> None:
        """The guest changed its tables between ``address`` and ``address + size`` (R6)."""
        await self.tags.flush(address, size, self.iommu.log.trace("hwpt_invalidate", "R6"), leaf=leaf)

    def release(self) -> None:
        """Give the domain identifier back; EBUSY while something is attached."""
        require(not len(self.tags), f"domain {self.domain_id} is in use", errno.EBUSY)
        self.iommu.domain_ids.free(self.domain_id)
