"""Two guests with the same PASID and the same virtual addresses, one shared device: bind, DMA, remap, unbind,
faults.
"""

import errno
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, Protocol

from ..host.device import Device
from ..host.endpoint import DmaFault, Endpoint, Translator
from ..host.errors import IommuError, errno_name
from ..host.guest import READ_ONLY, Process
from ..host.transport import Transport
from ..host.vmm import VirtualMachine
from ..host.vtd.faults import FaultRecord
from ..host.vtd.svm import GpasidBindData, bind_gpasid
from ..host.vtd.unit import SCALABLE_MODE, Iommu
from ..memory import AccessError, Memory
from ..model import Mode, ModelConfig, UnitState
from .check import CheckedTranslator
from .report import StoryReport, Verdict

__all__ = ["MEMORY_SIZE", "Machine", "Story", "tell"]

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
"""Virtual addresses in either guest's process."""

NOT_PRESENT_DIRECTORY, NOT_PRESENT_PASID, NOT_PRESENT_PAGE, NOT_PRESENT_MEMORY, NO_WRITE = 0x51, 0x59, 0x71, 0x79, 0x85
"""Fault reasons that the story provokes (§4): PASID directory, PASID entry, first stage, second stage, write
permission.
"""


class Machine(Transport, Translator, Protocol):
    """A machine that the story can run on: the unit's registers, its memory, and an answer for each request."""

    @property
    def memory(self) -> Memory:
        """Host memory, readable at once."""
        ...


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


class Story:
    """The cast and what happens to it, one method for each chapter; they run in the order of `chapters`."""

    iommu: Iommu
    machines: tuple[VirtualMachine, VirtualMachine]
    processes: tuple[Process, Process]

    def __init__(self, machine: Machine, config: ModelConfig):
        self.report = StoryReport()
        self.chapter = ""
        self._machine = machine
        self._start = machine.now()
        self._translator = CheckedTranslator(machine, machine.memory, self._state, config, machine.now)
        self.accelerator = Device(0x3A00, "accelerator")
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
            "good night": self._good_night,
        }

    def break_off(self, error: Exception) -> None:
        """Something that had to work did not; the chapters build on each other."""
        self._check(f"breaks off: {error}", False)

    def finish(self) -> StoryReport:
        """The report, once all chapters have run."""
        report = self.report
        report.transactions = self._translator.transactions
        report.commands = self.iommu.log.entries
        nested = (each.expected for each in report.transactions if each.expected.mode is Mode.NESTED)
        report.nested_walk = next((result for result in nested if result.granted), None)
        report.time = self._machine.now() - self._start
        return report

    def _state(self) -> UnitState:
        """The unit's global state as this driver programmed it."""
        return UnitState.from_register(self.iommu.root.address | SCALABLE_MODE << 10)

    def _check(self, statement: str, holds: bool) -> None:
        self.report.verdicts.append(Verdict(self.chapter, statement, holds))

    def _endpoint(self, device: Device) -> Endpoint:
        return Endpoint(device, self._translator, self.iommu.pages.memory)

    async def _expect_fault(self, statement: str, reason: int, dma: Coroutine[Any, Any, object]) -> None:
        """A DMA that has to be blocked with ``reason``, and recorded so by the unit, once."""
        try:
            await dma
        except DmaFault as fault:
            request, met = fault.request, fault.reason
            records = await self.iommu.faults.drain()
            self.report.faults += records
            page, kind = request.address & ~0xFFF, request.access.name.lower()
            expected = FaultRecord(request.source_id, request.pasid, page, reason, kind, False, False)
            self._check(f"{statement}: fault {reason:02x}h", met == reason and records == [expected])
        else:
            self._check(f"{statement}: fault {reason:02x}h", False)

    async def _expect_refusal(self, what: str, number: int, call: Coroutine[Any, Any, object]) -> None:
        """A call that has to fail with errno ``number`` without a word to the unit."""
        commands = len(self.iommu.log.entries)
        try:
            await call
            met = 0
        except IommuError as error:
            met = error.errno
        silent = commands == len(self.iommu.log.entries)
        self._check(f"{what}: {errno_name(number)}, nothing sent to the unit", met == number and silent)

    async def _power_up(self) -> None:
        self.iommu = await Iommu.create(self._machine, TABLES, MEMORY_SIZE - TABLES)
        await self.iommu.enable()
        for device in (self.accelerator, self.network):
            await self.iommu.add_device(device)
        dma = self._endpoint(self.network).read(GUEST_BASE, 64)
        await self._expect_fault("DMA of a device that is attached to nothing", NOT_PRESENT_DIRECTORY, dma)

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
        self._check("the guests share no page of host memory", len(set(frames)) == len(frames))

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

        await self._expect_refusal("bind of host PASID 0", errno.EINVAL, bind(self.accelerator, 0))
        await self._expect_refusal("bind by an unknown format", errno.EINVAL, bind(self.accelerator, mine, format=9))
        await self._expect_refusal("bind of a device with short PASIDs", errno.EINVAL, bind(narrow, mine))
        await self._expect_refusal("bind of a PASID that nobody allocated", errno.ENOENT, bind(self.accelerator, 77))
        await self._expect_refusal("bind of the other guest's PASID", errno.EACCES, bind(self.accelerator, foreign))
        self.iommu.ioasids.free(red.owner, mine)
        self.iommu.ioasids.free(blue.owner, foreign)

    async def _bind(self) -> None:
        for machine, process, pasid in zip(self.machines, self.processes, HOST_PASIDS, strict=True):
            bound = await machine.bind(self.accelerator, process, minimum=pasid)
            name = machine.guest.name
            self._check(f"{name}'s PASID {GUEST_PASID} is host PASID {pasid}", bound == pasid)
        again = self.machines[0].bind(self.accelerator, self.processes[0])
        await self._expect_refusal("bind of what is bound already", errno.EBUSY, again)

    async def _same_address(self) -> None:
        accelerator = self._endpoint(self.accelerator)
        letters = [f"from the accelerator to {process.guest.name} ".encode() * 3 for process in self.processes]
        # The letter crosses a page, and either guest's two pages are no neighbours in host memory.
        address = SECOND_PAGE - 32
        for letter, pasid in zip(letters, HOST_PASIDS, strict=True):
            await accelerator.write(address, letter, pasid)
        for process, letter in zip(self.processes, letters, strict=True):
            found = await process.read(address, 32) + await process.read(SECOND_PAGE, len(letter) - 32)
            self._check(f"{process.guest.name} finds its own letter at {address:#x}", found == letter)
        for process, pasid in zip(self.processes, HOST_PASIDS, strict=True):
            text = f"answer of {process.guest.name}".encode()
            await process.write(FIRST_PAGE, text)
            fetched = await accelerator.read(FIRST_PAGE, len(text), pasid)
            self._check(f"the accelerator reads what {process.guest.name} wrote", fetched == text)

    async def _protection(self) -> None:
        accelerator, pasid = self._endpoint(self.accelerator), HOST_PASIDS[0]
        fetched = await accelerator.read(CONSTANT_PAGE, 17, pasid)
        self._check("a read-only page can be read", fetched == b"a constant of red")
        write = accelerator.write(CONSTANT_PAGE, b"overwritten", pasid)
        await self._expect_fault("a read-only page cannot be written", NO_WRITE, write)
        stray = accelerator.read(UNMAPPED_PAGE, 4, pasid)
        await self._expect_fault("an address that the process has not mapped", NOT_PRESENT_PAGE, stray)
        kept = await self.processes[0].read(CONSTANT_PAGE, 17)
        self._check("the blocked write left no trace", kept == fetched)

    async def _remap(self) -> None:
        red, process = self.machines[0], self.processes[0]
        accelerator, pasid = self._endpoint(self.accelerator), HOST_PASIDS[0]
        freed = await process.unmap(FIRST_PAGE)
        old = freed[0]
        before = await red.guest.memory.read(old, 4096)
        await process.map(FIRST_PAGE)
        await red.invalidate(self.accelerator, GUEST_PASID, FIRST_PAGE, 4096, leaf=True)
        await accelerator.write(FIRST_PAGE, b"into the new page", pasid)
        found = await process.read(FIRST_PAGE, 17)
        self._check("after remap and invalidation DMA reaches the new page", found == b"into the new page")
        self._check("and leaves the old page alone", await red.guest.memory.read(old, 4096) == before)
        for page in freed:
            await red.guest.pages.free(page)
        other = await accelerator.read(FIRST_PAGE, 14, HOST_PASIDS[1])
        self._check("blue's page at the same address is untouched", other == b"answer of blue")

    async def _take_page(self) -> None:
        blue, process = self.machines[1], self.processes[1]
        accelerator, pasid = self._endpoint(self.accelerator), HOST_PASIDS[1]
        page = await process.translate(SECOND_PAGE)
        await blue.take_page(page)
        dma = accelerator.write(SECOND_PAGE, b"too late", pasid)
        await self._expect_fault("a page that the host took away from blue", NOT_PRESENT_MEMORY, dma)
        await blue.give_page(page)
        await accelerator.write(SECOND_PAGE, b"welcome back", pasid)
        found = await process.read(SECOND_PAGE, 12)
        self._check("with fresh memory the page works again, without any invalidation", found == b"welcome back")
        await accelerator.write(SECOND_PAGE, b"undisturbed", HOST_PASIDS[0])
        self._check("red keeps its page", await self.processes[0].read(SECOND_PAGE, 11) == b"undisturbed")

    async def _without_pasid(self) -> None:
        red, process = self.machines[0], self.processes[0]
        await red.domain.attach(self.network)
        address = await process.translate(FIRST_PAGE)
        await self._endpoint(self.network).write(address + 0x200, b"a packet", None)
        found = await process.read(FIRST_PAGE + 0x200, 8)
        self._check("red's own network card reaches red by guest-physical addresses", found == b"a packet")
        beyond = self._endpoint(self.network).write(GUEST_BASE + GUEST_PAGES * 4096, b"beyond", None)
        await self._expect_fault("and nothing beyond red's memory", NOT_PRESENT_MEMORY, beyond)

    async def _unbind(self) -> None:
        red = self.machines[0]
        accelerator = self._endpoint(self.accelerator)
        self._check("red is unbound", await red.unbind(self.accelerator, GUEST_PASID))
        dma = accelerator.write(FIRST_PAGE, b"after the end", HOST_PASIDS[0])
        await self._expect_fault("DMA for red after its unbind", NOT_PRESENT_PASID, dma)
        again = await red.unbind(self.accelerator, GUEST_PASID)
        self._check("a second unbind finds nothing and is no error", not again)
        text = await accelerator.read(FIRST_PAGE, 14, HOST_PASIDS[1])
        self._check("blue goes on", text == b"answer of blue")

    async def _good_night(self) -> None:
        red, blue = self.machines
        await blue.unbind(self.accelerator, GUEST_PASID)
        await red.domain.detach(self.network)
        for machine in self.machines:
            await machine.destroy()
        leaked = [*self.iommu.ioasids.allocated, *self.iommu.domain_ids.used]
        self._check("no PASID and no domain identifier is left", not leaked)
        left = await self.iommu.faults.drain()
        self._check("no other fault was recorded, and none was lost", not left and not self.iommu.faults.overflowed)
        await self.iommu.disable()
