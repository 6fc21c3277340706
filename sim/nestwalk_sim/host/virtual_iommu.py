"""The unit that a VMM shows to its guest: the guest's PASID tables are shadowed when the guest invalidates (S18), and
its invalidations are passed down (S10, S19).
"""

import errno
from collections.abc import Sequence
from dataclasses import dataclass

from .errors import IommuError, require
from .iommufd.context import IommufdContext
from .iommufd.device import IommufdDevice
from .iommufd.hwpt import Hwpt, HwptNested, HwptPaging, VtdS1, VtdS1Invalidate, allocate_hwpt
from .iommufd.viommu import FAULT_EVENTS, Vdevice, Viommu
from .vtd.descriptors import (
    ContextCacheInvalidate,
    Descriptor,
    IotlbInvalidate,
    PasidCacheInvalidate,
    PasidIotlbInvalidate,
    Wait,
)
from .vtd.pages import PageAllocator
from .vtd.tables import ContextEntry, PasidEntry, PasidTable, RootTable, TranslationType, read_words

__all__ = ["Shadow", "VirtualIommu", "bind_pasid_table"]

CACHING_MODE = 1 << 7
"""CAP.CM: the guest has to invalidate what becomes present, too; the VMM would not hear of it otherwise."""

VTD_S1 = 1


@dataclass
class Shadow:
    """What is attached for an entry of the guest: the entry as it was read last, and the HWPT."""

    entry: PasidEntry
    hwpt: Hwpt


class VirtualIommu:
    """One virtual unit.

    Parameters
    ----------
    context : IommufdContext
        The VMM's iommufd.
    viommu : Viommu
        The kernel's part of it.
    pages : PageAllocator
        Of the guest's memory; the guest's tables lie there.

    ``shadows`` are the guest's live entries by virtual requester id and PASID. ``root`` is the guest's root table,
    guest-physical; None until it sets one.
    """

    def __init__(self, context: IommufdContext, viommu: Viommu, pages: PageAllocator):
        self._context = context
        self._viommu = viommu
        self._pages = pages
        self.root: int | None = None
        self.shadows: dict[tuple[int, int], Shadow] = {}

    @property
    def capability(self) -> int:
        """CAP as the guest reads it: the host's, in caching mode."""
        return self._context.iommu.capabilities.cap.raw | CACHING_MODE

    async def submit(self, descriptors: Sequence[Descriptor]) -> None:
        """The guest moved the tail of its invalidation queue. Its wait status is written when this returns: all that
        the descriptors ask for is complete then.

        Nothing fails for the guest: what cannot be bound is blocked, and reported as a fault event.
        """
        for descriptor in descriptors:
            match descriptor:
                case ContextCacheInvalidate():
                    await self._sync(None, None)
                case IotlbInvalidate(domain_id):
                    await self._flush(domain_id, None, VtdS1Invalidate())
                case PasidCacheInvalidate(domain_id, pasid):
                    await self._sync(domain_id, pasid)
                case PasidIotlbInvalidate():
                    await self._pass_down(descriptor)
                case Wait():
                    pass
                case _:
                    raise IommuError(errno.EOPNOTSUPP, f"the virtual unit knows no {descriptor}")

    async def _sync(self, domain_id: int | None, pasid: int | None) -> None:
        """Make the shadow equal to the guest's tables, for all that an invalidation covers."""
        for virt_id, vdevice in self._viommu.vdevices.items():
            if vdevice.buried:
                continue
            table = await self._table(virt_id)
            live = {} if table is None else {number: entry async for number, entry in table.present()}
            for number in sorted(live.keys() | {key[1] for key in self.shadows if key[0] == virt_id}):
                known = self.shadows.get((virt_id, number))
                entry = live.get(number)
                tags = {each.domain_id for each in (entry, known and known.entry) if each is not None}
                if pasid in (None, number) and (domain_id is None or domain_id in tags):
                    await self._sync_entry(vdevice, number, entry)

    async def _sync_entry(self, vdevice: Vdevice, pasid: int, entry: PasidEntry | None) -> None:
        """Absent to present: attach; present to absent: detach; changed: replace; else nothing."""
        key, device = (vdevice.virt_id, pasid), vdevice.device
        known = self.shadows.get(key)
        if known is not None and entry == known.entry:
            return
        if entry is None:
            await self._drop(device, key)
            return
        try:
            hwpt = await self._hwpt(entry)
        except IommuError as error:
            await self._refuse(device, key, error)
            return
        try:
            await (device.attach if known is None else device.replace)(hwpt.id, pasid)
        except IommuError as error:
            await self._discard(hwpt)
            await self._refuse(device, key, error)
            return
        self.shadows[key] = Shadow(entry, hwpt)
        if known is not None:
            await self._discard(known.hwpt)

    async def _hwpt(self, entry: PasidEntry) -> Hwpt:
        """The page table that an entry of the guest asks for.

        Raises
        ------
        IommuError
            EINVAL for a type of translation that a guest cannot have, else as `allocate_hwpt`.
        """
        if entry.translation == TranslationType.PASS_THROUGH:
            return self._viommu.parent
        require(entry.translation == TranslationType.FIRST_STAGE, "a guest has first stages only")
        flags = entry.supervisor | entry.extended_accessed << 1 | entry.write_protect << 2
        width = 48 + 9 * (entry.first_stage_levels - 4)
        data = VtdS1(pgtbl_addr=entry.first_stage_root, addr_width=width, flags=flags)
        return await allocate_hwpt(self._context, self._viommu.parent.id, data_type=VTD_S1, data=data)

    async def _refuse(self, device: IommufdDevice, key: tuple[int, int], error: IommuError) -> None:
        """The guest's entry cannot be had: its DMA is blocked, and it hears of a fault if it listens."""
        await self._drop(device, key)
        if FAULT_EVENTS in self._viommu.event_queues:
            await self._viommu.report(FAULT_EVENTS, key[0], (key[1], error.errno))

    async def _drop(self, device: IommufdDevice, key: tuple[int, int]) -> None:
        known = self.shadows.pop(key, None)
        if known is not None:
            await device.detach(key[1])
            await self._discard(known.hwpt)

    async def _discard(self, hwpt: Hwpt) -> None:
        if isinstance(hwpt, HwptNested):
            await self._context.destroy(hwpt.id)

    async def _pass_down(self, descriptor: PasidIotlbInvalidate) -> None:
        whole = descriptor.address is None
        request = VtdS1Invalidate(
            addr=(descriptor.address or 0) & -(4096 << descriptor.address_mask),
            npages=VtdS1Invalidate().npages if whole else 1 << descriptor.address_mask,
            flags=int(descriptor.hint),
        )
        await self._flush(descriptor.domain_id, descriptor.pasid, request)

    async def _flush(self, domain_id: int | None, pasid: int | None, request: VtdS1Invalidate) -> None:
        """R6: an invalidation of first stages reaches every shadow that it covers."""
        for (_, number), shadow in self.shadows.items():
            mine = pasid in (None, number) and domain_id in (None, shadow.entry.domain_id)
            if mine and isinstance(shadow.hwpt, HwptNested):
                await shadow.hwpt.invalidate([request])

    async def _table(self, virt_id: int) -> PasidTable | None:
        """The guest's PASID table of a device, None where its tables lead to none."""
        if self.root is None:
            return None
        address = await RootTable(self._pages, self.root).find(virt_id)
        if address is None:
            return None
        context = ContextEntry.decode(await read_words(self._pages.memory, address, 4))
        if not context.present:
            return None
        return PasidTable(self._pages, context.pasid_directory, context.directory_size + 13)


async def bind_pasid_table(parent: HwptPaging, device: IommufdDevice, directory: int) -> None:
    """Let the unit read the guest's own PASID table (S19), as other architectures do.

    Raises
    ------
    IommuError
        EBUSY for a device that is shared or in use, EFAULT for a directory beyond the guest's memory, and EOPNOTSUPP
        for all others: this unit takes the address of a PASID directory as a host address.
    """
    require(not device.device.aux_domains, f"{device.device} is shared", errno.EBUSY)
    require(not device.attached, f"{device.device} is in use", errno.EBUSY)
    require(directory < 1 << parent.second_stage.table.width, "the directory is out of reach", errno.EFAULT)
    raise IommuError(errno.EOPNOTSUPP, "the unit reads PASID tables of the host only")
