"""Random life of two guests on any transport, against the memory that each has to have."""

import random

from nestwalk_sim.demo.story import Machine
from nestwalk_sim.host.audit import Auditor
from nestwalk_sim.host.device import Device
from nestwalk_sim.host.endpoint import DmaFault, Endpoint
from nestwalk_sim.host.vmm import VirtualMachine
from nestwalk_sim.host.vtd.unit import Iommu
from sim.tests.host.bringup import ADDRESS, BASE, GUEST_PASID, MEMORY

__all__ = ["live"]

PAGES = [ADDRESS + 4096 * number for number in range(6)]
NO_PASID = 1 << 19
"""A PASID that nobody has."""


async def live(machine: Machine, rng: random.Random, steps: int) -> dict[str, int]:
    """Map, unmap, balloon, rebind and DMA at random, on two guests with equal PASIDs and addresses behind one device.

    Returns
    -------
    dict of str to int
        DMAs that were ``granted`` and ``blocked``, each of them rightly.

    Raises
    ------
    AssertionError
        At the first DMA that should have been answered otherwise, or byte that is not what was written last.
    """
    life = _Life(machine, rng)
    await life.begin()
    actions = [life.toggle_page] * 3 + [life.toggle_binding, life.replace_frame] + [life.transfer] * 8
    for _ in range(steps):
        await rng.choice(actions)(rng.randrange(2), rng.choice(PAGES))
        await life.compare()
    assert await life.auditor.audit() == []
    return life.counts


class _Life:
    def __init__(self, machine: Machine, rng: random.Random):
        self._machine = machine
        self._rng = rng
        self._device = Device(0x0208, "shared")
        self._expected: list[dict[int, bytes]] = [{}, {}]
        self.counts = {"granted": 0, "blocked": 0}

    async def begin(self) -> None:
        """Two machines with empty processes, both bound."""
        iommu = await Iommu.create(self._machine, 0, MEMORY)
        self.auditor = Auditor.attach(iommu)
        await iommu.enable()
        await iommu.add_device(self._device)
        self._vms = [await VirtualMachine.create(iommu, name, BASE, 64) for name in ("red", "blue")]
        self._processes = [await vm.guest.spawn(GUEST_PASID) for vm in self._vms]
        self._endpoint = Endpoint(self._device, self._machine, iommu.pages.memory)
        for which in (0, 1):
            await self.toggle_binding(which, 0)

    async def compare(self) -> None:
        """Every mapped page holds what was written to it last."""
        for process, contents in zip(self._processes, self._expected, strict=True):
            for page, content in contents.items():
                assert await process.read(page, 8) == content

    async def toggle_page(self, which: int, page: int) -> None:
        """The guest maps a page, or unmaps it and says so."""
        vm, process, expected = self._vms[which], self._processes[which], self._expected[which]
        if page not in expected:
            await process.map(page)
            expected[page] = bytes(8)
            return
        freed = await process.unmap(page)
        if GUEST_PASID in vm.host_pasids:
            await vm.invalidate(self._device, GUEST_PASID, page, 4096, leaf=len(freed) == 1)
        for address in freed:
            await vm.guest.pages.free(address)
        del expected[page]

    async def toggle_binding(self, which: int, _page: int) -> None:
        """The guest unbinds its process, or binds it again under whatever host PASID is free."""
        if not await self._vms[which].unbind(self._device, GUEST_PASID):
            await self._vms[which].bind(self._device, self._processes[which])

    async def replace_frame(self, which: int, page: int) -> None:
        """The host takes the memory behind a page and gives fresh memory."""
        if page in self._expected[which]:
            address = await self._processes[which].translate(page)
            await self._vms[which].take_page(address)
            await self._vms[which].give_page(address)
            self._expected[which][page] = bytes(8)

    async def transfer(self, which: int, page: int) -> None:
        """A DMA, which has to succeed exactly when the process is bound and the page mapped."""
        host_pasid, expected = self._vms[which].host_pasids.get(GUEST_PASID), self._expected[which]
        allowed = host_pasid is not None and page in expected
        content = self._rng.randbytes(8)
        granted = True
        try:
            if self._rng.random() < 0.5:
                await self._endpoint.write(page, content, host_pasid or NO_PASID)
                expected[page] = content
            else:
                assert await self._endpoint.read(page, 8, host_pasid or NO_PASID) == expected.get(page)
        except DmaFault:
            granted = False
        assert granted == allowed, f"DMA to {page:#x} of {which}: {granted=}, {allowed=}"
        self.counts["granted" if granted else "blocked"] += 1
