"""An everyday life of the stack: bind, DMA, invalidate, take pages, replace, double bind, free early, lose a device,
fail, shut down. It knows nothing of any particular bug.
"""

from collections.abc import Awaitable, Callable
from itertools import count

from nestwalk_sim.host.audit import Auditor
from nestwalk_sim.host.device import Device
from nestwalk_sim.host.domain import PagingDomain
from nestwalk_sim.host.endpoint import DmaFault, Endpoint
from nestwalk_sim.host.errors import IommuError
from nestwalk_sim.host.guest import READ_WRITE
from nestwalk_sim.host.mm import Mm
from nestwalk_sim.host.vmm import VirtualMachine
from nestwalk_sim.host.vtd import invalidate
from nestwalk_sim.host.vtd.invalidate import CacheInvalidateInfo, CacheType, Granularity
from nestwalk_sim.host.vtd.sva import SvaProcesses, sva_bind_device, sva_unbind_device
from nestwalk_sim.host.vtd.svm import DoubleBind
from sim.tests.host.bringup import ADDRESS, BASE, GUEST_PASID, HOST_PASID, Platform
from sim.tests.host.everyday_guests import pages_on_demand, shared_parent

__all__ = ["everyday"]

PAGE = 4096
PAGES = [ADDRESS + PAGE * number for number in range(9)]
SPARE = BASE + 13 * PAGE
"""First of three guest-physical pages that no process gets."""
FAR = 1 << 40
ACCELERATOR = Device(0x0208, "accelerator", ats=True, page_requests=True)
NETWORK = Device(0x0310, "network card", ats=True, page_requests=True)


class _Day:
    def __init__(self, platform: Platform, auditor: Auditor):
        self.platform = platform
        self.machine = platform.machine
        self.auditor = auditor
        self.complaints: list[str] = []
        self.accelerator, self.network = (self._endpoint(device) for device in (ACCELERATOR, NETWORK))

    def _endpoint(self, device: Device) -> Endpoint:
        tlb = self.platform.transport.device_tlb(device.source_id)
        return Endpoint(device, self.platform.transport, self.platform.iommu.pages.memory, tlb)

    async def look(self) -> None:
        """All is quiet now."""
        self.complaints += await self.auditor.audit()

    async def touch(self, allowed: bool = True, pages: list[int] | None = None) -> None:
        """DMA to every page, which has to pass or not."""
        for page in PAGES if pages is None else pages:
            try:
                await self.accelerator.write(page, b"everyday", HOST_PASID)
                passed = True
            except DmaFault:
                passed = False
            if passed != allowed:
                self.complaints.append(f"DMA to {page:#x} {'passed' if passed else 'was blocked'}")

    async def packets(self) -> None:
        """DMA without PASID to the pages of the machine."""
        for page in range(SPARE, SPARE + 3 * PAGE, PAGE):
            await self.network.read(page, 8)

    async def binding(self) -> None:
        await self.platform.bind()
        for page in PAGES[1:]:
            await self.platform.process.map(page)
        assert [await self.machine.guest.pages.allocate() for _ in range(3)][0] == SPARE
        await self.machine.domain.attach(NETWORK)
        await self.packets()
        await self.touch()
        await self.look()

    async def invalidations(self) -> None:
        """The guest unmaps ranges of many alignments, and says so by address, by PASID, or for the whole domain."""
        process, domain = self.platform.process, self.machine.domain
        for first, last in ((0, 1), (0, 2), (1, 3), (2, 7), (0, 9)):
            for granularity in Granularity:
                await self.touch()
                freed: list[int] = []
                for page in PAGES[first:last]:
                    freed += await process.unmap(page)
                info = CacheInvalidateInfo(
                    cache=CacheType.IOTLB,
                    granularity=granularity,
                    pasid=HOST_PASID,
                    address=PAGES[first],
                    granules=last - first,
                )
                try:
                    await invalidate.sva_invalidate(domain, ACCELERATOR, info)
                except IommuError:
                    await self.machine.invalidate(ACCELERATOR, GUEST_PASID, PAGES[first], PAGE * (last - first))
                for page in freed:
                    await self.platform.machine.guest.pages.free(page)
                await self.look()
                for page in PAGES[first:last]:
                    await process.map(page)

    async def balloon(self) -> None:
        """The host takes pages away and gives others."""
        await self.touch()
        await self.packets()
        for page in (SPARE, await self.platform.process.translate(PAGES[1])):
            await self.machine.take_page(page)
            await self.look()
            await self.machine.give_page(page)
            await self.look()
        frame = await self.platform.iommu.pages.allocate()
        await self.machine.domain.map(FAR, frame, PAGE, READ_WRITE)
        await self.network.read(FAR, 8)
        await self.machine.domain.unmap(FAR, PAGE)
        await self.platform.iommu.pages.free(frame)
        await self.look()

    async def replacing(self) -> None:
        """The network card moves to another domain and back, then rests."""
        iommu, domain = self.platform.iommu, self.machine.domain
        other = await PagingDomain.create(iommu, self.machine.owner)
        await other.map(SPARE, await iommu.pages.allocate(), PAGE, READ_WRITE)
        await self.packets()
        await self._failing_at_each_point("replace", lambda: other.replace(NETWORK, domain))
        await self.network.read(SPARE, 8)
        await self.look()
        await domain.replace(NETWORK, other)
        await self.packets()
        await domain.detach(NETWORK)
        await other.destroy()
        await self.look()

    async def failing(self) -> None:
        """A bind of the second device, and its attachment, fail at each of their points."""
        machine = self.machine
        await self._failing_at_each_point("bind", lambda: machine.bind(NETWORK, self.platform.process))
        await machine.unbind(NETWORK, GUEST_PASID)
        await self._failing_at_each_point("attach", lambda: machine.domain.attach(NETWORK))
        await self._failing_at_each_point(
            "invalidation", lambda: machine.invalidate(ACCELERATOR, GUEST_PASID, ADDRESS, 4 * PAGE)
        )
        await machine.domain.detach(NETWORK)
        await self.look()

    async def _failing_at_each_point(self, what: str, call: Callable[[], Awaitable[object]]) -> None:
        """Nothing may remain of a call that failed; the last one, in which nothing fails, counts (I12)."""
        fail = self.platform.iommu.fail
        for nth in count(1):
            before = self.auditor.state()
            fail.fail_nth(nth)
            try:
                await call()
            except IommuError:
                fail.disarm()
                if self.auditor.state() != before:
                    self.complaints.append(f"I12: a failed {what} left something, at {fail.passed[-1]}")
                    return
            fail.disarm()
            if not fail.fired:
                return

    async def double_bind(self) -> None:
        """Twice bound, once unbound: still bound."""
        await self.machine.bind(ACCELERATOR, self.platform.process, policy=DoubleBind.REFCOUNT)
        await self.machine.unbind(ACCELERATOR, GUEST_PASID)
        await self.touch()
        await self.machine.unbind(ACCELERATOR, GUEST_PASID)
        await self.touch(allowed=False)
        await self.look()

    async def early_free(self) -> None:
        """The guest frees its PASID before it unbinds; then the PASID lives again."""
        await self.platform.bind()
        await self.touch()
        await self.machine.free(GUEST_PASID)
        await self.touch(allowed=False)
        await self.look()
        await self.machine.unbind(ACCELERATOR, GUEST_PASID)
        await self.look()
        await self.platform.bind()
        await self.touch()

    async def process(self) -> None:
        """A process of the host on the network card: bound twice, unbound once; it unmaps a page, and ends."""
        iommu = self.platform.iommu
        processes, mm = SvaProcesses(iommu), await Mm.create(iommu.pages)
        for page in PAGES:
            await mm.map(page)
        handle = await sva_bind_device(processes, NETWORK, mm)
        assert await sva_bind_device(processes, NETWORK, mm) is handle
        await self.network.read(PAGES[0], 8, handle.pasid)
        await sva_unbind_device(processes, handle)
        await self.network.read(PAGES[1], 8, handle.pasid)
        await mm.unmap(PAGES[1])
        await self.look()
        await mm.exit()
        await self.look()
        await sva_unbind_device(processes, handle)
        await self.look()

    async def lost_device(self) -> None:
        """The network card falls silent while two flushes are under way, one of them its own."""
        machine, iommu = self.machine, self.platform.iommu
        await machine.domain.attach(NETWORK)
        await self.packets()
        self.platform.transport.device_tlb(NETWORK.source_id).silent = True
        await machine.take_page(SPARE)
        self.platform.transport.device_tlb(NETWORK.source_id).pages.clear()
        await iommu.work.flush()
        await self.touch()
        await machine.domain.detach(NETWORK)
        await self.look()

    async def good_night(self) -> None:
        """A second machine dies, translation ends, and the rest is undone in the dark."""
        iommu = self.platform.iommu
        doomed = await VirtualMachine.create(iommu, "doomed", BASE, 4)
        process = await doomed.guest.spawn(GUEST_PASID)
        await doomed.bind(ACCELERATOR, process)
        await doomed.kill()
        await self.look()
        await iommu.regs.global_command("TE", False, iommu.log.trace("disable", "R14"))
        iommu.translating = False
        await self.machine.unbind(ACCELERATOR, GUEST_PASID)
        await self.machine.destroy()
        await self.look()


async def everyday(auditors: list[Auditor], *, caching_mode: bool = False) -> list[str]:
    """Live a day, and tell what anybody complained of: auditor, order checker, blocked or passed DMA, failed calls.

    Parameters
    ----------
    auditors : list of Auditor
        Of the test; the day's own is taken out.
    """
    platform = await Platform.bring_up(caching_mode=caching_mode, device=ACCELERATOR)
    await platform.iommu.add_device(NETWORK)
    day = _Day(platform, auditors.pop())
    parts = [
        day.binding,
        day.invalidations,
        day.balloon,
        day.replacing,
        day.failing,
        day.double_bind,
        day.early_free,
        day.process,
        lambda: pages_on_demand(day),
        lambda: shared_parent(day),
        day.lost_device,
        day.good_night,
    ]
    for part in parts:
        try:
            await part()
        except (IommuError, DmaFault, AssertionError, ValueError) as error:
            day.complaints.append(f"{type(error).__name__}: {error}")
        if day.complaints:
            break
    return day.complaints
