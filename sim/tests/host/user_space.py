"""A user of the iommufd interface: an open iommufd, a device bound to it, and memory to map."""

from typing import Self

from nestwalk_sim.host.device import Device
from nestwalk_sim.host.endpoint import DmaFault
from nestwalk_sim.host.group import IommuGroup
from nestwalk_sim.host.guest import READ_WRITE, GuestMemory
from nestwalk_sim.host.iommufd.context import IommufdContext
from nestwalk_sim.host.iommufd.device import IommufdDevice
from nestwalk_sim.host.iommufd.hwpt import Hwpt, HwptFlags, HwptNested, HwptPaging, VtdS1, allocate_hwpt
from nestwalk_sim.host.iommufd.ioas import Ioas
from nestwalk_sim.host.vtd.page_tables import FIRST_STAGE, PageTable
from nestwalk_sim.host.vtd.pages import PageAllocator
from sim.tests.host.bench import PAGE, Bench

__all__ = ["GUEST_BASE", "GUEST_PAGES", "USER", "UserSpace"]

GUEST_BASE, GUEST_PAGES = 0x4000_0000, 24
USER = 0x12_3456_7000
"""Virtual address of the page that every guest table maps."""


class UserSpace(Bench):
    """A bench with one iommufd, its device bound, and an empty address space."""

    context: IommufdContext
    group: IommuGroup
    bound: IommufdDevice
    ioas: Ioas

    @classmethod
    async def open(cls, *, ats: bool = True, pasid_bits: int = 20) -> Self:
        bench = await cls.bring_up(ats=ats, pasid_bits=pasid_bits)
        bench.context = IommufdContext(bench.iommu)
        bench.group = IommuGroup(bench.iommu, [bench.device])
        bench.bound = await IommufdDevice.bind(bench.context, bench.device, bench.group)
        bench.ioas = bench.context.add(Ioas(bench.context))
        return bench

    async def bind(self, device: Device) -> IommufdDevice:
        """Another device, alone in its group."""
        await self.add(device)
        return await IommufdDevice.bind(self.context, device, IommuGroup(self.iommu, [device]))

    async def hwpt(self, flags: HwptFlags = HwptFlags.NONE, ioas: Ioas | None = None) -> HwptPaging:
        hwpt = await allocate_hwpt(self.context, (ioas or self.ioas).id, flags)
        assert isinstance(hwpt, HwptPaging)
        return hwpt

    async def filled(self, iova: int, flags: HwptFlags = HwptFlags.NONE) -> tuple[Hwpt, int]:
        """A page table of an address space of its own, which maps one page; and the page."""
        ioas = self.context.add(Ioas(self.context))
        (page,) = await self.pages(1)
        await ioas.map([page], iova)
        return await self.hwpt(flags, ioas), page

    async def guest(self) -> tuple[HwptPaging, "GuestTables"]:
        """A parent that maps a guest's memory, and a maker of tables in it."""
        ioas = self.context.add(Ioas(self.context))
        memory = GuestMemory(self.iommu.pages.memory)
        frames = await self.pages(GUEST_PAGES)
        await ioas.map(frames, GUEST_BASE)
        memory.frames = {GUEST_BASE + number * PAGE: frame for number, frame in enumerate(frames)}
        pages = PageAllocator(memory, GUEST_BASE, GUEST_PAGES * PAGE)
        parent = await self.hwpt(HwptFlags.NEST_PARENT | HwptFlags.PASID, ioas)
        return parent, GuestTables(self, parent, memory, pages)

    async def passes(self, iova: int, pasid: int | None = None) -> bool:
        """Whether the device can write there."""
        try:
            await self.endpoint.write(iova, b"probe", pasid)
        except DmaFault:
            return False
        return True


class GuestTables:
    """First-stage tables in a guest's memory."""

    def __init__(self, user: UserSpace, parent: HwptPaging, memory: GuestMemory, pages: PageAllocator):
        self.user = user
        self.parent = parent
        self.memory = memory
        self.pages = pages

    async def table(self) -> tuple[PageTable, int]:
        """A table that maps `USER` to a fresh page of the guest; and that page's host address."""
        table = await PageTable.create(FIRST_STAGE, self.pages, 4)
        page = await self.pages.allocate()
        await table.map(USER, page, PAGE, READ_WRITE)
        return table, self.memory.frames[page]

    async def nested(self, table: PageTable) -> HwptNested:
        """A nested page table of it."""
        data = VtdS1(pgtbl_addr=table.root)
        hwpt = await allocate_hwpt(self.user.context, self.parent.id, HwptFlags.NONE, 1, data)
        assert isinstance(hwpt, HwptNested)
        return hwpt
