"""What all domains have in common: a device is attached to one, moves from one to another, and is detached (S16, S21,
S28).
"""

import errno
from typing import ClassVar, Protocol

from .device import Device
from .errors import IommuError, require
from .iopf import FaultHandler
from .vtd.cache_tags import RID_PASID, CacheTag, CacheTags, Stage
from .vtd.entries import FIRST_LEVEL_DOMAIN, first_level_entry, pass_through_entry
from .vtd.page_tables import PageTable
from .vtd.pasid import install, replace, tear_down
from .vtd.tables import PasidEntry
from .vtd.unit import Iommu

__all__ = ["BlockedDomain", "FirstStageDomain", "IdentityDomain", "IommuDomain"]


class IommuDomain(Protocol):
    """An address space that devices use without PASID or under one.

    ``tags`` are the PASID-table entries that use it: changes of its tables have to reach what is cached of those.
    ``fault_handler`` serves page faults of what is attached from now on.
    """

    iommu: Iommu
    domain_id: int
    tags: CacheTags
    fault_handler: FaultHandler | None = None
    STAGE: ClassVar[Stage]

    def entry(self) -> PasidEntry | None:
        """The PASID-table entry that leads to it, None when there is none to block everything; EINVAL when the unit
        cannot have it.
        """
        ...

    @property
    def attached(self) -> list[Device]:
        """Devices whose requests-without-PASID use it."""
        return [tag.device for tag in self.tags if tag == self._tag(tag.device, RID_PASID)]

    async def attach(self, device: Device, pasid: int = RID_PASID) -> None:
        """Let the device's requests use this address space: those without PASID, or those with ``pasid``.

        Raises
        ------
        IommuError
            EBUSY when something is attached there, be it this domain, EINVAL for a device of another unit or without
            such PASIDs, ENODEV for one that is gone.
        """
        self._check(device, pasid)
        table = self.iommu.state_of(device).table
        require(not (await table.read(pasid)).present, f"PASID {pasid} of {device} is in use", errno.EBUSY)
        await self._put(device, pasid, None)

    async def detach(self, device: Device, pasid: int = RID_PASID) -> None:
        """R9: block those requests again; nothing happens when they do not use it."""
        tag = self._tag(device, pasid)
        if tag in self.tags:
            await tear_down(self.iommu, device, pasid, self.iommu.log.trace("detach", "R9"))
            self._note(device, pasid, None)
            self.tags.unassign(tag)

    async def replace(self, device: Device, old: "IommuDomain", pasid: int = RID_PASID) -> None:
        """R4: let requests that use ``old`` use this address space instead. A failure leaves them with the old one.

        Raises
        ------
        IommuError
            EINVAL when they do not use ``old``, else as `attach`.
        """
        self._check(device, pasid)
        require(old._tag(device, pasid) in old.tags, f"PASID {pasid} of {device} does not use domain {old.domain_id}")
        await self._put(device, pasid, old)

    async def _put(self, device: Device, pasid: int, old: "IommuDomain | None") -> None:
        """Write the entry, in place of that of ``old`` if there is one."""
        entry, tag = self.entry(), self._tag(device, pasid)
        trace = self.iommu.log.trace("attach" if old is None else "replace", "R2" if old is None else "R4")
        self.tags.assign(tag)
        try:
            if pasid != RID_PASID:
                await self.iommu.contexts.enable_pasid(self.iommu.state_of(device), trace)
            what = f"{type(self).__name__} {self.domain_id}"
            if old is not None and entry is not None:
                await replace(self.iommu, device, pasid, entry, what, trace, self.fault_handler)
            elif old is not None:
                await tear_down(self.iommu, device, pasid, trace)
            elif entry is not None:
                await install(self.iommu, device, pasid, entry, what, trace, self.fault_handler)
        except IommuError:
            self.tags.unassign(tag)
            raise
        self._note(device, pasid, self.domain_id)
        if old is not None:
            old.tags.unassign(old._tag(device, pasid))

    def _check(self, device: Device, pasid: int) -> None:
        state = self.iommu.state_of(device)
        require(not state.gone, f"{device} is gone", errno.ENODEV)
        fits = pasid == RID_PASID or 0 < pasid < 1 << device.pasid_bits
        require(fits, f"{device} has PASIDs of {device.pasid_bits} bits, {pasid} is none of them")

    def _note(self, device: Device, pasid: int, domain_id: int | None) -> None:
        if pasid == RID_PASID:
            self.iommu.state_of(device).domain_id = domain_id

    def _tag(self, device: Device, pasid: int) -> CacheTag:
        return CacheTag(device, pasid, self.domain_id, self.STAGE)


class BlockedDomain(IommuDomain):
    """Nothing passes. Devices start so, and attaching one here is how its owner says that it shall stay so."""

    STAGE = Stage.FIRST

    def __init__(self, iommu: Iommu):
        self.iommu = iommu
        self.domain_id = 0
        self.tags = CacheTags(iommu)

    def entry(self) -> None:
        return None


class IdentityDomain(IommuDomain):
    """Addresses are host addresses."""

    STAGE = Stage.FIRST

    def __init__(self, iommu: Iommu):
        self.iommu = iommu
        self.domain_id = FIRST_LEVEL_DOMAIN
        self.tags = CacheTags(iommu)

    def entry(self) -> PasidEntry:
        return pass_through_entry(self.iommu)


class FirstStageDomain(IommuDomain):
    """Host tables in the processor's format, such as those of a process; who changes them calls ``tags.flush``."""

    STAGE = Stage.FIRST

    def __init__(self, iommu: Iommu, table: PageTable):
        self.iommu = iommu
        self.table = table
        self.domain_id = iommu.domain_ids.allocate()
        self.tags = CacheTags(iommu)

    def entry(self) -> PasidEntry:
        return first_level_entry(self.iommu, self.table, self.domain_id)

    def release(self) -> None:
        """Give the domain identifier back; EBUSY while something is attached."""
        require(not len(self.tags), f"domain {self.domain_id} is in use", errno.EBUSY)
        self.iommu.domain_ids.free(self.domain_id)
