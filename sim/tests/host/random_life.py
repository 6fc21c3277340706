"""Random life of guests, devices and PASIDs on any machine, against the memory that each has to have (deliverable of
the host stack): bind, unbind, free, remap, invalidate, balloon, DMA, page request, kill.
"""

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from nestwalk_sim.demo.stage import Machine
from nestwalk_sim.host.audit import Auditor
from nestwalk_sim.host.device import Device
from nestwalk_sim.host.endpoint import DmaFault
from nestwalk_sim.host.guest import Process
from nestwalk_sim.host.vmm import VirtualMachine
from nestwalk_sim.host.vtd.unit import Iommu

__all__ = ["Dma", "Population", "live"]

PAGE = 4096
BASE = 0x4000_0000
HEAP = 0x12_3456_7000
LONGEST = 200
"""Bytes of a transfer, which may begin anywhere and crosses pages."""


class Dma(Protocol):
    """A device's DMA engine; `Endpoint` is one."""

    async def write(self, address: int, content: bytes, pasid: int | None = None) -> None: ...

    async def read(self, address: int, size: int, pasid: int | None = None) -> bytes: ...


@dataclass(frozen=True)
class Population:
    """How much life there is.

    Parameters
    ----------
    guests, devices, processes : int
        Guests, devices, and processes of each guest; every process has a PASID.
    pages : int
        Virtual pages of each process.
    asking : bool
        Whether devices ask for pages that are missing.
    ats : bool
        Whether they keep translations.
    """

    guests: int = 2
    devices: int = 2
    processes: int = 2
    pages: int = 6
    asking: bool = False
    ats: bool = False

    @property
    def guest_pages(self) -> int:
        """Memory of a guest: for each process its pages and tables, and some that wait to be invalidated."""
        return self.processes * (self.pages + 5) + 16

    @property
    def memory(self) -> int:
        """Bytes of host memory: guests, their second stages, and what the driver needs."""
        return (self.guests * (self.guest_pages + 8) * 2 + self.devices * 24 + 64) * PAGE


@dataclass(eq=False)
class _Body:
    """A process and what it must hold: ``content`` of its mapped pages, and the devices it is bound to; ``freed`` while
    its PASID is given up with bindings left.
    """

    process: Process
    content: dict[int, bytearray] = field(default_factory=dict)
    devices: set[int] = field(default_factory=set)
    freed: bool = False


class _Life:
    def __init__(self, machine: Machine, population: Population, rng: random.Random):
        self._machine = machine
        self._size = population
        self._rng = rng
        self._vms: list[VirtualMachine] = []
        self._bodies: list[list[_Body]] = []
        self.counts: dict[str, int] = dict.fromkeys(("granted", "blocked", "bound", "killed", "faulted in"), 0)

    async def begin(self, dma: Callable[[Device, Iommu], Dma]) -> None:
        """The unit, its devices, and guests whose processes have nothing mapped and nothing bound."""
        self.iommu = await Iommu.create(self._machine, 0, self._size.memory)
        self.auditor = Auditor.attach(self.iommu)
        await self.iommu.enable()
        self._devices = [
            Device(0x0100 + 8 * number, f"device {number}", ats=self._size.ats, page_requests=self._size.asking)
            for number in range(self._size.devices)
        ]
        for device in self._devices:
            await self.iommu.add_device(device)
        self._engines = [dma(device, self.iommu) for device in self._devices]
        for number in range(self._size.guests):
            await self._be_born(number)

    async def _be_born(self, number: int) -> None:
        vm = await VirtualMachine.create(self.iommu, f"guest {number}", BASE, self._size.guest_pages)
        bodies = [_Body(await vm.guest.spawn(pasid)) for pasid in range(1, self._size.processes + 1)]
        self._vms[number:], self._bodies[number:] = (
            [vm, *self._vms[number + 1 :]],
            [bodies, *self._bodies[number + 1 :]],
        )

    def actions(self) -> Sequence[Callable[[], Awaitable[None]]]:
        """What may happen, as often as it is in the list."""
        bodies = self._size.guests * self._size.processes
        usual = [self.transfer] * 12 + [self.toggle_page] * 6 + [self.toggle_binding] * 4 + [self.replace_frame]
        return usual * bodies + [self.free] * (bodies // 2) + [self.kill]

    def _pick(self) -> tuple[VirtualMachine, _Body]:
        number = self._rng.randrange(self._size.guests)
        return self._vms[number], self._rng.choice(self._bodies[number])

    def _page(self) -> int:
        return HEAP + self._rng.randrange(self._size.pages) * PAGE

    async def toggle_page(self) -> None:
        """The guest maps a page, promises it, or takes it away and says so."""
        vm, body = self._pick()
        process, page = body.process, self._page()
        if page not in body.content:
            if self._size.asking and self._rng.random() < 0.5:
                process.reserve(page)
            else:
                await process.map(page)
                body.content[page] = bytearray(PAGE)
            return
        process.reserved.discard(page)
        freed = await process.unmap(page)
        if not body.freed:
            for number in sorted(body.devices):
                device = self._devices[number]
                await vm.invalidate(device, process.pasid, page, PAGE, leaf=len(freed) == 1)
        for address in freed:
            await vm.guest.pages.free(address)
        del body.content[page]

    async def toggle_binding(self) -> None:
        """The guest unbinds a process from a device, or binds it."""
        vm, body = self._pick()
        number = self._rng.randrange(self._size.devices)
        device = self._devices[number]
        if number in body.devices:
            assert await vm.unbind(device, body.process.pasid)
            body.devices.remove(number)
            body.freed = body.freed and bool(body.devices)
        elif not body.freed:
            await vm.bind(device, body.process)
            body.devices.add(number)
            self.counts["bound"] += 1

    async def free(self) -> None:
        """The guest gives a PASID up without unbinding it."""
        vm, body = self._pick()
        if body.devices and not body.freed:
            await vm.free(body.process.pasid)
            body.freed = True

    async def replace_frame(self) -> None:
        """The host takes the memory behind a page and gives fresh memory."""
        vm, body = self._pick()
        if body.content:
            page = self._rng.choice(sorted(body.content))
            address = await body.process.translate(page)
            await vm.take_page(address)
            await vm.give_page(address)
            body.content[page] = bytearray(PAGE)

    async def kill(self) -> None:
        """A guest dies, whatever its devices do, and another one takes its place."""
        number = self._rng.randrange(self._size.guests)
        await self._vms[number].kill()
        await self._be_born(number)
        self.counts["killed"] += 1

    async def transfer(self) -> None:
        """A device uses some PASID: what it may reach it reaches, byte by byte, and nothing else."""
        number = self._rng.randrange(self._size.devices)
        pasid = self._rng.randrange(1, self._size.guests * self._size.processes + 3)
        start = self._page() + self._rng.randrange(PAGE)
        vm, likely = self._pick()
        if likely.devices and self._rng.random() < 0.7:
            number = self._rng.choice(sorted(likely.devices))
            pasid = vm.host_pasids.get(likely.process.pasid, pasid)
            page = self._rng.choice(sorted(likely.content) or [self._page()])
            start = page + self._rng.randrange(PAGE)
        content = self._rng.randbytes(self._rng.randrange(1, LONGEST))
        body = self._bound(number, pasid)
        pages = {address & -PAGE for address in (start, start + len(content) - 1)}
        missing = [page for page in pages if body is None or page not in body.content]
        promised = body is not None and self._size.asking and all(page in body.process.reserved for page in missing)
        allowed = body is not None and (not missing or promised)
        write, granted = self._rng.random() < 0.5, True
        found = b""
        try:
            if write:
                await self._engines[number].write(start, content, pasid)
            else:
                found = await self._engines[number].read(start, len(content), pasid)
        except DmaFault:
            granted = False
        assert granted == allowed, f"DMA of device {number} to {start:#x}, PASID {pasid}: {granted=}, {allowed=}"
        self.counts["granted" if granted else "blocked"] += 1
        if body is not None:
            moved = len(content) if granted or start & -PAGE not in missing else 0
            moved = moved if granted else min(moved, PAGE - start % PAGE)
            await self._reconcile(body, start, content[:moved] if write else b"", found)

    def _bound(self, device: int, pasid: int) -> _Body | None:
        """The process that a device reaches by a host PASID."""
        for vm, bodies in zip(self._vms, self._bodies, strict=True):
            for body in bodies:
                if vm.host_pasids.get(body.process.pasid) == pasid and device in body.devices and not body.freed:
                    return body
        return None

    async def _reconcile(self, body: _Body, start: int, written: bytes, found: bytes) -> None:
        """Compare what was read with what had to come, and note what was written; of a transfer that was blocked that
        is the part before the page that stopped it. Pages that were asked for are there whatever came after.
        """
        for page in {start & -PAGE, (start + LONGEST) & -PAGE}:
            if page not in body.content and await body.process.table.look_up(page) is not None:
                body.content[page] = bytearray(PAGE)
                self.counts["faulted in"] += 1
        for offset, byte in enumerate(written):
            body.content[start + offset & -PAGE][(start + offset) % PAGE] = byte
        if found:
            expected = bytes(body.content[at & -PAGE][at % PAGE] for at in range(start, start + len(found)))
            assert found == expected, f"read of {start:#x}: {found.hex()}, not {expected.hex()}"

    async def compare(self) -> None:
        """Every mapped page of every process holds what was written to it last."""
        for body in (body for bodies in self._bodies for body in bodies):
            for page, content in body.content.items():
                assert await body.process.read(page, PAGE) == content, f"{body.process.guest.name} at {page:#x}"


async def live(
    machine: Machine,
    rng: random.Random,
    operations: int,
    population: Population,
    dma: Callable[[Device, Iommu], Dma],
) -> dict[str, int]:
    """Let so many things happen at random, comparing all memory now and then.

    Parameters
    ----------
    machine : Machine
        A unit that was just reset, and its memory.
    dma : callable
        Makes the DMA engine of a device.

    Returns
    -------
    dict of str to int
        DMAs that were ``granted`` and ``blocked``, each of them rightly, and what else happened.

    Raises
    ------
    AssertionError
        At the first DMA that should have been answered otherwise, byte that is not what was written last, or complaint
        of the auditor.
    """
    life = _Life(machine, population, rng)
    await life.begin(dma)
    actions = life.actions()
    for step in range(operations):
        await rng.choice(actions)()
        if step % 50 == 49 or step == operations - 1:
            await life.compare()
    problems = await life.auditor.audit()
    assert problems == [], problems[:5]
    return life.counts
