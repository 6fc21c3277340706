"""A virtual machine monitor, first part: memory for its guest, host PASIDs for the guest's, and the guest's
invalidations.
"""

import errno
from typing import Self

from .device import Device
from .domain import PagingDomain
from .errors import IommuError
from .guest import Guest, GuestMemory, Process
from .ioasid import IoasidSet
from .iopf import IopfGroup, PageResponse
from .vtd.invalidate import CacheInvalidateInfo, CacheType, Granularity, sva_invalidate
from .vtd.page_tables import Permission
from .vtd.pages import PAGE_SIZE
from .vtd.svm import GPASID_VALID, DoubleBind, GpasidBindData, bind_gpasid, unbind_gpasid
from .vtd.unit import Iommu

__all__ = ["VirtualMachine"]


class VirtualMachine:
    """One guest and what the host keeps for it.

    ``host_pasids`` maps the guest's PASIDs to the host's: one to one within a machine, while two machines may use the
    same guest PASID (S04). The unit sees host PASIDs only.
    """

    def __init__(self, iommu: Iommu, owner: IoasidSet, domain: PagingDomain, guest: Guest):
        self.iommu = iommu
        self.owner = owner
        self.domain = domain
        self.guest = guest
        self.host_pasids: dict[int, int] = {}
        domain.fault_handler = self

    @classmethod
    async def create(cls, iommu: Iommu, name: str, base: int, pages: int) -> Self:
        """A machine with ``pages`` pages of memory at guest-physical ``base``, each anywhere in host memory."""
        owner = IoasidSet(name)
        domain = await PagingDomain.create(iommu, owner)
        memory = GuestMemory(iommu.pages.memory)
        for address in range(base, base + pages * PAGE_SIZE, PAGE_SIZE):
            memory.frames[address] = await iommu.pages.allocate()
            await domain.map(address, memory.frames[address], PAGE_SIZE, Permission.READ | Permission.WRITE)
        return cls(iommu, owner, domain, Guest(name, memory, base, pages * PAGE_SIZE))

    async def bind(
        self,
        device: Device,
        process: Process,
        *,
        minimum: int = 1,
        policy: DoubleBind = DoubleBind.EXCLUSIVE,
    ) -> int:
        """The guest set up its PASID entry for a process: shadow it with a nested entry under a host PASID.

        Parameters
        ----------
        minimum : int
            Lowest host PASID to use when the guest PASID has none yet.

        Returns
        -------
        int
            The host PASID.

        Raises
        ------
        IommuError
            As `bind_gpasid` and the PASID allocator; a host PASID allocated for this call is freed again.
        """
        known = self.host_pasids.get(process.pasid)
        pasid = known if known is not None else self.iommu.ioasids.allocate(self.owner, minimum)
        data = GpasidBindData(
            gpgd=process.table.root,
            hpasid=pasid,
            gpasid=process.pasid,
            flags=GPASID_VALID,
            addr_width=process.table.width,
        )
        try:
            await bind_gpasid(self.domain, device, data, policy)
        except IommuError:
            if known is None:
                self.iommu.ioasids.free(self.owner, pasid)
            raise
        self.host_pasids[process.pasid] = pasid
        return pasid

    async def unbind(self, device: Device, guest_pasid: int) -> bool:
        """The guest cleared its PASID entry. The host PASID goes back when no device is bound to it any more.

        Returns
        -------
        bool
            Whether anything was bound.
        """
        pasid = self.host_pasids.get(guest_pasid)
        if pasid is None:
            return False
        await self.iommu.work.flush()
        undone = await unbind_gpasid(self.iommu, device, pasid)
        ioasid = self.iommu.ioasids.allocated.get(pasid)
        if undone and ioasid is not None and ioasid.data is None:
            self.iommu.ioasids.free(self.owner, pasid)
            ioasid = None
        if ioasid is None:
            del self.host_pasids[guest_pasid]
        return undone

    async def free(self, guest_pasid: int) -> None:
        """The guest freed its PASID, unbound or not: whatever is bound to it becomes defunct and waits for its unbind
        (S13). Never fails for the guest.
        """
        pasid = self.host_pasids.get(guest_pasid)
        if pasid is not None:
            self.iommu.ioasids.free(self.owner, pasid)
            await self.iommu.work.flush()

    async def invalidate(
        self, device: Device, guest_pasid: int, address: int, size: int, *, leaf: bool = False
    ) -> None:
        """The guest changed its table between ``address`` and ``address + size``: forward its invalidation (R6).

        Raises
        ------
        IommuError
            EINVAL when the guest PASID is not bound, else as `sva_invalidate`.
        """
        pasid = self.host_pasids.get(guest_pasid)
        if pasid is None:
            raise IommuError(errno.EINVAL, f"{self.guest.name} has nothing bound to PASID {guest_pasid}")
        info = CacheInvalidateInfo(
            cache=CacheType.IOTLB,
            granularity=Granularity.ADDRESS,
            pasid=pasid,
            address=address,
            granules=-(-size // PAGE_SIZE),
            leaf=leaf,
        )
        await sva_invalidate(self.domain, device, info)

    async def handle(self, group: IopfGroup) -> None:
        """Page faults of the guest's processes: the guest hears of them under its own PASID, and its answer goes back
        under the host's (S04, S22). EFAULT for what the guest does not want.
        """
        ioasid = self.iommu.ioasids.find(self.owner, group.pasid or 0)
        for fault in group.faults:
            await self.guest.page_request(ioasid.pasid if ioasid.spid is None else ioasid.spid, fault.address)
        await group.respond(PageResponse.SUCCESS)

    async def take_page(self, address: int) -> None:
        """Take one guest-physical page away (a balloon, or migration): unmap, flush, and only then free its frame."""
        await self.domain.unmap(address, PAGE_SIZE)
        await self.iommu.pages.free(self.guest.memory.frames.pop(address))

    async def give_page(self, address: int) -> None:
        """Put fresh memory at a guest-physical page that has none."""
        frame = await self.iommu.pages.allocate()
        await self.domain.map(address, frame, PAGE_SIZE, Permission.READ | Permission.WRITE)
        self.guest.memory.frames[address] = frame

    async def kill(self) -> None:
        """The guest died without a word: take everything from it, translations first, memory last (S14)."""
        await self.iommu.free_set(self.owner)
        self.host_pasids.clear()
        for device in self.domain.attached:
            await self.domain.detach(device)
        await self.destroy()

    async def destroy(self) -> None:
        """End the machine and free its memory.

        Raises
        ------
        IommuError
            EBUSY while one of its processes is bound or a device is attached.
        """
        await self.domain.destroy()
        for frame in self.guest.memory.frames.values():
            await self.iommu.pages.free(frame)
        self.guest.memory.frames.clear()
