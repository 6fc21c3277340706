"""Two guests with the same PASID and the same virtual addresses, one shared device: bind, DMA, remap, unbind,
faults.
"""

import errno
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from ..host.device import Device
from ..host.endpoint import DmaFault, Endpoint
from ..host.errors import IommuError
from ..host.guest import READ_ONLY, Process
from ..host.page_requester import PageRequester
from ..host.vmm import VirtualMachine
from ..host.vtd.svm import GpasidBindData, bind_gpasid
from ..host.vtd.unit import Iommu
from ..memory import AccessError
from ..model import ModelConfig
from .death import Interrupted, untouched
from .report import StoryReport
from .stage import Machine, Stage

__all__ = ["MEMORY_SIZE", "Story", "tell"]

MEMORY_SIZE = 16 << 20
"""Bytes of host memory that the story needs, from address 0 on."""

TABLES = 1 << 20
"""Where the driver's region begins in host memory."""

GUEST_BASE = 0x8000_0000
GUEST_PAGES = 48
GUEST_PASID = 5
HOST_PASIDS = 100, 200

FIRST_PAGE = 0x7F00_1234_5000
SECOND_PAGE = FIRST_PAGE + 0x1000
CONSTANT_PAGE = FIRST_PAGE + 0x10_0000
UNMAPPED_PAGE = FIRST_PAGE + 0x20_0000
HEAP = FIRST_PAGE + 0x30_0000, FIRST_PAGE + 0x30_1000
"""Virtual addresses in either guest's process."""

NOT_PRESENT_DIRECTORY, NOT_PRESENT_PASID, NOT_PRESENT_PAGE, NOT_PRESENT_MEMORY, NO_WRITE = 0x51, 0x59, 0x71, 0x79, 0x85
"""Fault reasons that the story provokes (§4): PASID directory, PASID entry, first stage, second stage, write
permission.
"""


async def tell(
    machine: Machine, config: ModelConfig, progress: Callable[[int, int, str], None] | None = None
) -> StoryReport:
    """Run the story on a machine whose unit was just reset, to its end or to the first thing that must work and does
    not.

    Parameters
    ----------
    machine : Machine
        Engine: a software unit or a simulation.
    config : ModelConfig
        What its unit announces.
    progress : callable, optional
        Told the chapters done, their number and the title of the next.
    """
    story = Story(machine, config)
    chapters = story.chapters
    for number, (title, chapter) in enumerate(chapters.items()):
        if progress is not None:
            progress(number, len(chapters), title)
        story.chapter = title
        try:
            await chapter()
        except (DmaFault, IommuError, AccessError) as error:
            story.break_off(error)
            break
    return story.finish()


class Story(Stage):
    """The cast and what happens to it, one method for each chapter; they run in the order of `chapters`."""

    machines: tuple[VirtualMachine, VirtualMachine]
    processes: tuple[Process, Process]

    def __init__(self, machine: Machine, config: ModelConfig):
        super().__init__(machine, config)
        self.accelerator = Device(0x3A00, "accelerator", ats=True, page_requests=True)
        self.network = Device(0x0310, "network card")
        self.chapters = {
            "power up": self._power_up,
            "two guests": self._two_guests,
            "refused binds": self._refused_binds,
            "bind": self._bind,
            "same address, own memory": self._same_address,
            "protection": self._protection,
            "remap and invalidate": self._remap,
            "the host takes a page": self._take_page,
            "without PASID": self._without_pasid,
            "unbind": self._unbind,
            "pages on demand": self._pages_on_demand,
            "red dies in the middle of a DMA": self._death,
            "good night": self._good_night,
        }

    async def _power_up(self) -> None:
        self.iommu = await Iommu.create(self.machine, TABLES, MEMORY_SIZE - TABLES)
        await self.iommu.enable()
        for device in (self.accelerator, self.network):
            await self.iommu.add_device(device)
        dma = self.endpoint(self.network).read(GUEST_BASE, 64)
        await self.expect_fault("DMA of a device that is attached to nothing", NOT_PRESENT_DIRECTORY, dma)

    async def _two_guests(self) -> None:
        red = await VirtualMachine.create(self.iommu, "red", GUEST_BASE, GUEST_PAGES)
        blue = await VirtualMachine.create(self.iommu, "blue", GUEST_BASE, GUEST_PAGES)
        self.machines = red, blue
        self.processes = await red.guest.spawn(GUEST_PASID), await blue.guest.spawn(GUEST_PASID)
        frames: list[int] = []
        for process in self.processes:
            for page in (FIRST_PAGE, SECOND_PAGE):
                await process.map(page)
            await process.map(CONSTANT_PAGE, READ_ONLY)
            await process.write(CONSTANT_PAGE, f"a constant of {process.guest.name}".encode())
            frames += process.guest.memory.frames.values()
        self.check("the guests share no page of host memory", len(set(frames)) == len(frames))

    async def _refused_binds(self) -> None:
        red, blue = self.machines
        process = self.processes[0]
        foreign = self.iommu.ioasids.allocate(blue.owner, HOST_PASIDS[1])
        mine = self.iommu.ioasids.allocate(red.owner, HOST_PASIDS[0])
        narrow = Device(0x4100, "narrow", pasid_bits=16)
        await self.iommu.add_device(narrow)

        def bind(device: Device, pasid: int, **changes: int) -> Coroutine[Any, Any, None]:
            data = GpasidBindData(gpgd=process.table.root, hpasid=pasid)
            return bind_gpasid(red.domain, device, replace(data, **changes))

        await self.expect_refusal("bind of host PASID 0", errno.EINVAL, bind(self.accelerator, 0))
        await self.expect_refusal("bind by an unknown format", errno.EINVAL, bind(self.accelerator, mine, format=9))
        await self.expect_refusal("bind of a device with short PASIDs", errno.EINVAL, bind(narrow, mine))
        await self.expect_refusal("bind of a PASID that nobody allocated", errno.ENOENT, bind(self.accelerator, 77))
        await self.expect_refusal("bind of the other guest's PASID", errno.EACCES, bind(self.accelerator, foreign))
        self.iommu.ioasids.free(red.owner, mine)
        self.iommu.ioasids.free(blue.owner, foreign)

    async def _bind(self) -> None:
        for machine, process, pasid in zip(self.machines, self.processes, HOST_PASIDS, strict=True):
            bound = await machine.bind(self.accelerator, process, minimum=pasid)
            name = machine.guest.name
            self.check(f"{name}'s PASID {GUEST_PASID} is host PASID {pasid}", bound == pasid)
        again = self.machines[0].bind(self.accelerator, self.processes[0])
        await self.expect_refusal("bind of what is bound already", errno.EBUSY, again)

    async def _same_address(self) -> None:
        accelerator = self.endpoint(self.accelerator)
        letters = [f"from the accelerator to {process.guest.name} ".encode() * 3 for process in self.processes]
        # The letter crosses a page, and either guest's two pages are no neighbours in host memory.
        address = SECOND_PAGE - 32
        for letter, pasid in zip(letters, HOST_PASIDS, strict=True):
            await accelerator.write(address, letter, pasid)
        for process, letter in zip(self.processes, letters, strict=True):
            found = await process.read(address, 32) + await process.read(SECOND_PAGE, len(letter) - 32)
            self.check(f"{process.guest.name} finds its own letter at {address:#x}", found == letter)
        for process, pasid in zip(self.processes, HOST_PASIDS, strict=True):
            text = f"answer of {process.guest.name}".encode()
            await process.write(FIRST_PAGE, text)
            fetched = await accelerator.read(FIRST_PAGE, len(text), pasid)
            self.check(f"the accelerator reads what {process.guest.name} wrote", fetched == text)

    async def _protection(self) -> None:
        accelerator, pasid = self.endpoint(self.accelerator), HOST_PASIDS[0]
        fetched = await accelerator.read(CONSTANT_PAGE, 17, pasid)
        self.check("a read-only page can be read", fetched == b"a constant of red")
        write = accelerator.write(CONSTANT_PAGE, b"overwritten", pasid)
        await self.expect_fault("a read-only page cannot be written", NO_WRITE, write)
        stray = accelerator.read(UNMAPPED_PAGE, 4, pasid)
        await self.expect_fault("an address that the process has not mapped", NOT_PRESENT_PAGE, stray)
        kept = await self.processes[0].read(CONSTANT_PAGE, 17)
        self.check("the blocked write left no trace", kept == fetched)

    async def _remap(self) -> None:
        red, process = self.machines[0], self.processes[0]
        accelerator, pasid = self.endpoint(self.accelerator), HOST_PASIDS[0]
        freed = await process.unmap(FIRST_PAGE)
        old = freed[0]
        before = await red.guest.memory.read(old, 4096)
        await process.map(FIRST_PAGE)
        await red.invalidate(self.accelerator, GUEST_PASID, FIRST_PAGE, 4096, leaf=True)
        await accelerator.write(FIRST_PAGE, b"into the new page", pasid)
        found = await process.read(FIRST_PAGE, 17)
        self.check("after remap and invalidation DMA reaches the new page", found == b"into the new page")
        self.check("and leaves the old page alone", await red.guest.memory.read(old, 4096) == before)
        for page in freed:
            await red.guest.pages.free(page)
        other = await accelerator.read(FIRST_PAGE, 14, HOST_PASIDS[1])
        self.check("blue's page at the same address is untouched", other == b"answer of blue")

    async def _take_page(self) -> None:
        blue, process = self.machines[1], self.processes[1]
        accelerator, pasid = self.endpoint(self.accelerator), HOST_PASIDS[1]
        page = await process.translate(SECOND_PAGE)
        await blue.take_page(page)
        dma = accelerator.write(SECOND_PAGE, b"too late", pasid)
        await self.expect_fault("a page that the host took away from blue", NOT_PRESENT_MEMORY, dma)
        await blue.give_page(page)
        await accelerator.write(SECOND_PAGE, b"welcome back", pasid)
        found = await process.read(SECOND_PAGE, 12)
        self.check("with fresh memory the page works again, without any invalidation", found == b"welcome back")
        await accelerator.write(SECOND_PAGE, b"undisturbed", HOST_PASIDS[0])
        self.check("red keeps its page", await self.processes[0].read(SECOND_PAGE, 11) == b"undisturbed")

    async def _without_pasid(self) -> None:
        red, process = self.machines[0], self.processes[0]
        await red.domain.attach(self.network)
        address = await process.translate(FIRST_PAGE)
        await self.endpoint(self.network).write(address + 0x200, b"a packet", None)
        found = await process.read(FIRST_PAGE + 0x200, 8)
        self.check("red's own network card reaches red by guest-physical addresses", found == b"a packet")
        beyond = self.endpoint(self.network).write(GUEST_BASE + GUEST_PAGES * 4096, b"beyond", None)
        await self.expect_fault("and nothing beyond red's memory", NOT_PRESENT_MEMORY, beyond)

    async def _unbind(self) -> None:
        red = self.machines[0]
        accelerator = self.endpoint(self.accelerator)
        self.check("red is unbound", await red.unbind(self.accelerator, GUEST_PASID))
        dma = accelerator.write(FIRST_PAGE, b"after the end", HOST_PASIDS[0])
        await self.expect_fault("DMA for red after its unbind", NOT_PRESENT_PASID, dma)
        again = await red.unbind(self.accelerator, GUEST_PASID)
        self.check("a second unbind finds nothing and is no error", not again)
        text = await accelerator.read(FIRST_PAGE, 14, HOST_PASIDS[1])
        self.check("blue goes on", text == b"answer of blue")

    async def _pages_on_demand(self) -> None:
        red = self.machines[0]
        again = await red.bind(self.accelerator, self.processes[0], minimum=HOST_PASIDS[0])
        self.check("red is bound anew, under the same PASID", again == HOST_PASIDS[0])
        requester = PageRequester(self.accelerator, self.machine, self.iommu.page_requests.service)
        memory = self.iommu.pages.memory
        accelerator = Endpoint(self.accelerator, self.translator, memory, requester=requester)
        letters = [f"to {process.guest.name}, where nothing was ".encode() * 2 for process in self.processes]
        for process, pasid, letter in zip(self.processes, HOST_PASIDS, letters, strict=True):
            for page in HEAP:
                process.reserve(page)
            await accelerator.write(HEAP[1] - 16, letter, pasid)
        for process, letter in zip(self.processes, letters, strict=True):
            found = await process.read(HEAP[1] - 16, 16) + await process.read(HEAP[1], len(letter) - 16)
            name = process.guest.name
            self.check(
                f"{name} had promised two pages and given none: it was asked, and the letter is there", found == letter
            )
        self.check("each guest was asked once, and answered", requester.answers == {0: 2})
        records = await self.iommu.faults.drain()
        self.report.faults += records
        first = [(record.pasid, record.address, record.reason) for record in records]
        expected = [(pasid, HEAP[0], NOT_PRESENT_PAGE) for pasid in HOST_PASIDS]
        self.check("only the first touch of each was blocked", first == expected)
        stray = accelerator.write(UNMAPPED_PAGE, b"not promised", HOST_PASIDS[0])
        await self.expect_fault("what red did not promise stays out of reach", NOT_PRESENT_PAGE, stray)

    async def _death(self) -> None:
        red, pasid = self.machines[0], HOST_PASIDS[0]
        frames = list(red.guest.memory.frames.values())
        memory = Interrupted(self.iommu.pages.memory, red.kill)
        accelerator = Endpoint(self.accelerator, self.translator, memory)
        dma = accelerator.write(SECOND_PAGE - 16, b"one page, and another", pasid)
        await self.expect_fault("the second half of a DMA, red being dead by then", NOT_PRESENT_PASID, dma)
        self.check("no byte reaches what was red's memory", await untouched(self.iommu.pages, frames))
        packet = self.endpoint(self.network).write(GUEST_BASE, b"a packet", None)
        await self.expect_fault("red's network card is blocked as well", NOT_PRESENT_PASID, packet)
        blue = self.endpoint(self.accelerator)
        await blue.write(SECOND_PAGE, b"unharmed", HOST_PASIDS[1])
        self.check("blue is unharmed", await self.processes[1].read(SECOND_PAGE, 8) == b"unharmed")
        self.check("red's PASID can be given away again", pasid not in self.iommu.ioasids.allocated)

    async def _good_night(self) -> None:
        blue = self.machines[1]
        await blue.unbind(self.accelerator, GUEST_PASID)
        await blue.destroy()
        leaked = [*self.iommu.ioasids.allocated, *self.iommu.domain_ids.used]
        self.check("no PASID and no domain identifier is left", not leaked)
        left = await self.iommu.faults.drain()
        self.check("no other fault was recorded, and none was lost", not left and not self.iommu.faults.overflowed)
        await self.iommu.disable()
