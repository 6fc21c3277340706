"""Nested bind, DMA, invalidation, unbind on the software unit, whose caches keep whatever nobody invalidates."""

import asyncio
import random

import pytest

from nestwalk_sim.demo.report import StoryReport
from nestwalk_sim.demo.story import MEMORY_SIZE, tell
from nestwalk_sim.host.audit import Auditor
from nestwalk_sim.host.device import Device
from nestwalk_sim.host.domain import PagingDomain
from nestwalk_sim.host.endpoint import Endpoint
from nestwalk_sim.host.guest import READ_WRITE
from nestwalk_sim.host.ioasid import IoasidSet
from nestwalk_sim.host.page_requester import PageRequester
from nestwalk_sim.host.transport import HostMemory
from nestwalk_sim.host.vtd import descriptors, pasid, tables
from nestwalk_sim.host.vtd.page_tables import FIRST_STAGE, PageTable
from nestwalk_sim.host.vtd.pages import poison
from nestwalk_sim.host.vtd.qi import InvalidationQueue
from nestwalk_sim.host.vtd.unit import Iommu
from nestwalk_sim.model import AccessKind
from nestwalk_sim.model_unit import ModelTransport
from sim.tests.host.bringup import ADDRESS, GUEST_PASID, HOST_PASID, MEMORY, Platform, fault_of
from sim.tests.host.random_life import Population, live


def story(*, caching_mode: bool = False) -> tuple[StoryReport, ModelTransport]:
    transport = ModelTransport(MEMORY_SIZE, caching_mode=caching_mode)
    return asyncio.run(tell(transport, transport.unit.model_config)), transport


@pytest.mark.parametrize("caching_mode", [False, True])
def test_host_story_holds_and_its_log_lists_each_descriptor(caching_mode: bool):
    report, transport = story(caching_mode=caching_mode)
    assert [verdict.statement for verdict in report.verdicts if not verdict.holds] == []
    assert [transaction.problem for transaction in report.transactions if transaction.problem] == []
    assert report.holds
    queued = [entry for entry in report.commands if entry.text.startswith("queue[")]
    assert len(queued) == len(transport.unit.queue.executed)
    assert {entry.recipe for entry in report.commands} >= {"R1", "R2", "R3", "R6", "R7", "R14"}
    assert {record.reason for record in report.faults} == {0x51, 0x59, 0x71, 0x79, 0x85}
    assert report.nested_walk is not None
    # Root, context, PASID directory and table; then a second-stage walk for each first-stage table and the page.
    reads = [access for access in report.nested_walk.accesses if access.kind is AccessKind.READ]
    assert len(reads) == 4 + 4 * (4 + 1) + 4


@pytest.mark.parametrize(
    ("forgotten", "chapter"),
    [
        (descriptors.PasidIotlbInvalidate, "remap and invalidate"),
        (descriptors.IotlbInvalidate, "the host takes a page"),
    ],
)
def test_host_story_fails_without_an_invalidation(
    forgotten: type, chapter: str, monkeypatch: pytest.MonkeyPatch, auditors: list[Auditor]
):
    write_slot = InvalidationQueue._write_slot

    async def forgetful(queue: InvalidationQueue, slot: int, descriptor: descriptors.Descriptor) -> None:
        await write_slot(queue, slot, descriptors.Wait() if isinstance(descriptor, forgotten) else descriptor)

    monkeypatch.setattr(InvalidationQueue, "_write_slot", forgetful)
    report, _ = story()
    auditors.clear()
    assert not report.holds
    assert report.agree < len(report.transactions), "the comparison with the model sees the stale answer"
    assert chapter in {verdict.chapter for verdict in report.verdicts if not verdict.holds}


def test_host_unbind_empties_the_pasid_cache(monkeypatch: pytest.MonkeyPatch, auditors: list[Auditor]):
    """Without the IOTLB flush, what the PASID cache still knows would lead to a translation: both must go."""

    async def scenario():
        platform = await Platform.bring_up()
        await platform.bind()
        endpoint = platform.endpoint()
        assert await fault_of(endpoint, HOST_PASID) is None
        monkeypatch.setattr(platform.transport.unit.caches, "forget_tagged", lambda covered: None)
        assert await platform.machine.unbind(platform.device, GUEST_PASID)
        assert await fault_of(endpoint, HOST_PASID) == 0x59
        (problem,) = await auditors.pop().audit()
        assert problem.startswith("I2: IOTLB keeps")

    asyncio.run(scenario())


@pytest.mark.parametrize("caching_mode", [False, True])
@pytest.mark.parametrize("ats", [False, True])
@pytest.mark.parametrize("coherent", [False, True])
def test_host_bind_dma_unbind_fault(caching_mode: bool, ats: bool, coherent: bool):
    """A3: with and without caching mode, device TLB, and a walker that snoops the processor's caches."""

    async def scenario():
        device = Device(0x0208, "device", ats=ats)
        platform = await Platform.bring_up(caching_mode=caching_mode, coherent=coherent, device=device)
        endpoint = platform.endpoint()
        assert await fault_of(endpoint, HOST_PASID) == 0x45, "PASIDs are not enabled before the first bind"
        executed = platform.transport.unit.queue.executed
        del executed[:]
        await platform.bind()
        types = [descriptor & 0xF for descriptor in executed]
        assert types == ([1, 5, 7, 6, 5] if caching_mode else [1, 5])
        await endpoint.write(ADDRESS, b"first", HOST_PASID)
        assert await platform.process.read(ADDRESS, 5) == b"first"
        del executed[:]
        await platform.machine.unbind(platform.device, GUEST_PASID)
        assert [descriptor & 0xF for descriptor in executed] == ([7, 2, 8, 5] if ats else [7, 2, 5])
        assert await fault_of(endpoint, HOST_PASID) == 0x59
        entry = await platform.iommu.state_of(platform.device).table.read(HOST_PASID)
        assert not any(entry.words()[1:])
        await platform.bind()
        assert await fault_of(endpoint, HOST_PASID) is None

    asyncio.run(scenario())


def test_historical_entry_that_the_walker_does_not_see(monkeypatch: pytest.MonkeyPatch):
    """Section 5, row 17: an entry that is not written back is not present to a walker that does not snoop, though it is
    bound."""
    write_entry = tables.write_entry

    async def kept_in_the_cache(memory: HostMemory, address: int, words: tuple[int, ...]) -> None:
        memory.snooped = True
        await write_entry(memory, address, words)
        memory.snooped = False

    async def scenario():
        platform = await Platform.bring_up(coherent=False)
        with monkeypatch.context() as patch:
            patch.setattr(tables, "write_entry", kept_in_the_cache)
            await platform.bind()
        assert await fault_of(platform.endpoint(), HOST_PASID) is not None
        await platform.machine.unbind(platform.device, GUEST_PASID)
        await platform.bind()
        assert await fault_of(platform.endpoint(), HOST_PASID) is None

    asyncio.run(scenario())


def test_host_first_stage_and_pass_through_entries():
    async def scenario():
        platform = await Platform.bring_up()
        iommu, device = platform.iommu, platform.device
        await platform.bind()
        endpoint, trace = platform.endpoint(), iommu.log.trace("test", "R2")
        table = await PageTable.create(FIRST_STAGE, iommu.pages, 5)
        page = await iommu.pages.allocate()
        await table.map(0x1234_5000, page, 4096, READ_WRITE)
        await pasid.setup_first_level(iommu, device, 70, table, trace)
        await endpoint.write(0x1234_5000, b"by first stage", 70)
        await pasid.setup_pass_through(iommu, device, 71, trace)
        assert await endpoint.read(page, 14, 71) == b"by first stage"
        del platform.transport.unit.queue.executed[:]
        for bound in (70, 71):
            assert await pasid.tear_down(iommu, device, bound, trace) is not None
            assert await fault_of(endpoint, bound, 0x1234_5000) == 0x59
        types = [descriptor & 0xF for descriptor in platform.transport.unit.queue.executed]
        assert types == [7, 6, 5] * 2

    asyncio.run(scenario())


def test_host_freed_pages_are_poisoned_and_freed_after_the_flush():
    """R7: at the moment of the flush, the unlinked tables still are what they were."""

    async def scenario():
        transport = ModelTransport(MEMORY)
        iommu = await Iommu.create(transport, 0, MEMORY)
        await iommu.enable()
        device = Device(0x0208, "device")
        await iommu.add_device(device)
        domain = await PagingDomain.create(iommu, IoasidSet("owner"))
        await domain.attach(device)
        frame = await iommu.pages.allocate()
        before = set(iommu.pages.allocated)
        await domain.map(0x40_0000_0000, frame, 4096, READ_WRITE)
        tables = set(iommu.pages.allocated) - before
        assert len(tables) == 3
        contents: list[bytes] = []
        run = transport.unit.queue.run

        def watching() -> None:
            contents.extend(transport.memory.read(table, 4096) for table in tables)
            run()

        transport.unit.queue.run = watching
        await domain.unmap(0x40_0000_0000, 4096)
        transport.unit.queue.run = run
        assert contents[:3] == [bytes(4096)] * 3, "empty, and not poisoned yet"
        for table in tables:
            assert transport.memory.read64(table) == poison(1)
        assert set(iommu.pages.allocated) == before

    asyncio.run(scenario())


@pytest.mark.parametrize("asking", [False, True], ids=["", "devices ask for pages"])
def test_host_random_life(asking: bool, rng: random.Random):
    """Guests × devices × PASIDs, byte by byte, under the auditor."""
    population = Population(guests=3, devices=3, processes=3, asking=asking, ats=asking)
    transport = ModelTransport(population.memory)

    def dma(device: Device, iommu: Iommu) -> Endpoint:
        if not asking:
            return Endpoint(device, transport, iommu.pages.memory)
        requester = PageRequester(device, transport, iommu.page_requests.service)
        tlb = transport.device_tlb(device.source_id)
        return Endpoint(device, transport, iommu.pages.memory, tlb, requester)

    counts = asyncio.run(live(transport, rng, 2000, population, dma))
    assert min(counts["granted"], counts["blocked"], counts["bound"]) > 50, counts
    assert counts["killed"] > 3, counts
    assert (counts["faulted in"] > 10) == asking, counts
