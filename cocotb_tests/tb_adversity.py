"""Memory that fails or changes at the worst moment: lost exclusive pairs, floods of errors, faults beyond the log."""

import cocotb
from cocotb.triggers import with_timeout

from nestwalk.bus.axi import AxiResponse
from nestwalk_sim.builders import (
    FirstStageTables,
    GuestSpace,
    HostSpace,
    ScalableTables,
    SecondStageTables,
    first_stage_fields,
    nested_fields,
)
from nestwalk_sim.host.vtd.descriptors import IotlbInvalidate, PasidCacheInvalidate, PasidIotlbInvalidate
from nestwalk_sim.memory import PAGE_SIZE, Memory
from nestwalk_sim.model import Access, Request, translate
from nestwalk_sim.rtl.driver import Driver
from nestwalk_sim.rtl.memory import MemoryTiming
from nestwalk_sim.rtl.unit import Bench, Traffic

from .expectations import compare_answer, expected_record
from .session import CONFIG, MODEL, rng_of, start

SOURCE, PASID, DOMAIN = 0x1234, 5, 7
PAGE, OLD, NEW = 0x1234_5678_9000, 0xAAAA_0000, 0xBBBB_0000
ACCESSED_DIRTY = 0x60
UPDATE_FAILED, NOT_PRESENT, ROOT_ERROR = 0x91, 0x71, 0x38
ACCESS_ERRORS = {0x38, 0x40, 0x50, 0x58, 0x70, 0x73, 0x78, 0x7B, 0x91}
FSTS, IQE, IQH, IQT = 0x34, 1 << 4, 0x80, 0x88


class Device:
    """One device with a first-stage address space, plain or nested, whose leaf has no bit set.

    ``leaf`` is the host address of the leaf entry of ``PAGE``, which leads to ``OLD``; ``present`` is its value when it
    leads to ``NEW``.
    """

    def __init__(self, bench: Bench, driver: Driver, nested: bool):
        self.bench, self.driver = bench, driver
        self.memory = Memory()
        host = HostSpace(self.memory)
        self.tables = ScalableTables(host)
        if nested:
            second = SecondStageTables(host, 4)
            guest = GuestSpace(second, 48)
            self.first = FirstStageTables(guest, 4)
            fields = nested_fields(self.first, second)
            for page in (OLD, NEW):
                second.map(page, page)
        else:
            self.first = FirstStageTables(host, 4)
            fields = first_stage_fields(self.first)
        self.first.map(PAGE, OLD, A=0, D=0)
        self.first.map(PAGE + PAGE_SIZE, NEW)
        self.tables.add_device(SOURCE, RID_PASID=0, PASIDE=1)
        self.tables.add_pasid(SOURCE, PASID, DID=DOMAIN, **fields)
        self.leaf = self.first.path(PAGE)[-1].host
        self.old = self.memory.read64(self.leaf)
        self.new = self.old - OLD + NEW
        self.queue_base = host.unused(3)

    async def begin(self) -> None:
        self.bench.memory.load(self.memory.image())
        self.bench.memory.tracing = True
        await self.driver.set_root(self.tables.state)

    def request(self, page: int = PAGE, access: Access = Access.WRITE) -> Request:
        return Request(SOURCE, PASID, page, access)

    async def fault_of(self, request: Request) -> int | None:
        """Fault reason of one request, None when it is granted."""
        answer = (await self.bench.translate([request]))[0]
        return None if answer["granted"] else int(answer["fault"])

    async def until_read(self, address: int) -> None:
        """Until the unit has asked for the entry at ``address``."""
        while address not in self.bench.memory.trace()["address"]:
            await self.bench.cycles(1)


async def device(dut, nested: bool = False) -> Device:
    made = Device(*await start(dut), nested)
    await made.begin()
    return made


@cocotb.test()
@cocotb.parametrize(nested=[False, True])
async def updates_that_memory_cannot_do(dut, nested):
    """No exclusive monitor, a monitor that always loses, an error on the write: 91h, recorded, nothing set, no hang."""
    unit = await device(dut, nested)
    memory, wanted = unit.bench.memory, unit.request()
    for timing in (MemoryTiming(exclusives=False), MemoryTiming(exclusive_loss_percent=100)):
        memory.timing = timing
        assert await unit.fault_of(wanted) == UPDATE_FAILED
    memory.timing = MemoryTiming()
    memory.inject_write_error(unit.leaf, 8)
    assert await unit.fault_of(wanted) == UPDATE_FAILED
    assert await unit.fault_of(unit.request(PAGE + PAGE_SIZE)) is None
    assert memory.read64(unit.leaf) == unit.old
    records, lost = await unit.driver.drain_faults()
    assert [record >> 96 & 0xFF for record in records] == [UPDATE_FAILED] * min(3, CONFIG.fault_records)
    assert lost == (CONFIG.fault_records < 3)
    memory.clear_errors()
    assert await unit.fault_of(wanted) is None
    assert memory.read64(unit.leaf) == unit.old | ACCESSED_DIRTY


@cocotb.test()
@cocotb.parametrize(nested=[False, True])
async def updates_that_lose_are_tried_again(dut, nested):
    unit = await device(dut, nested)
    memory = unit.bench.memory
    memory.timing = MemoryTiming(latency=3, exclusive_loss_percent=50, seed=rng_of("losing").getrandbits(32))
    for _ in range(40):
        memory.write64(unit.leaf, unit.old)
        await unit.driver.set_root(unit.tables.state)
        assert await unit.fault_of(unit.request()) is None
        assert memory.read64(unit.leaf) == unit.old | ACCESSED_DIRTY
    trace = memory.trace()
    exclusive_writes = trace[(trace["lock"] == 1) & (trace["write"] == 1)]
    assert (exclusive_writes["response"] == AxiResponse.OKAY.value).sum() > 10
    assert (exclusive_writes["response"] == AxiResponse.EXOKAY.value).sum() == 40


@cocotb.test()
@cocotb.parametrize(nested=[False, True], present=[True, False])
async def entry_changes_before_its_update(dut, nested, present):
    """Software changes a leaf at any moment of a walk that sets its bits: the walk uses what it set the bits of."""
    unit = await device(dut, nested)
    memory = unit.bench.memory
    memory.timing = MemoryTiming(latency=20)
    changed = unit.new if present else unit.old & ~1
    seen = set()
    for delay in range(0, 420 if nested else 130, 3):
        memory.write64(unit.leaf, unit.old)
        await unit.driver.set_root(unit.tables.state)
        memory.clear_trace()
        batch = unit.bench.submit([unit.request()])
        await unit.until_read(unit.leaf)
        await unit.bench.cycles(delay)
        before = memory.read64(unit.leaf)
        memory.write64(unit.leaf, changed)
        answer = (await batch)[0]
        after = memory.read64(unit.leaf)
        if answer["granted"] and int(answer["address"]) == OLD:
            outcome = "old"
            assert (before, after) == (unit.old | ACCESSED_DIRTY, changed)
        elif present:
            outcome = "new"
            assert (answer["granted"], int(answer["address"])) == (1, NEW)
            assert after == changed | ACCESSED_DIRTY
        else:
            outcome = "new"
            assert (answer["granted"], int(answer["fault"])) == (0, NOT_PRESENT)
            assert after == changed
        seen.add(outcome)
    assert seen == {"old", "new"}


@cocotb.test()
async def faults_beyond_the_log(dut):
    """The first faults are kept, the overflow is told, requests go on; so do records when software drained the log."""
    unit = await device(dut)
    bad = [Request(SOURCE, PASID, number * PAGE_SIZE) for number in range(1, 3 * CONFIG.fault_records + 1)]
    good = unit.request(PAGE + PAGE_SIZE, Access.READ)
    unit.bench.set_traffic(Traffic(max_outstanding=1))
    for _ in range(2):
        answers = await unit.bench.translate([request for wrong in bad for request in (wrong, good)])
        assert answers["granted"].tolist() == [0, 1] * len(bad)
        results = [translate(unit.memory, unit.tables.state, MODEL, request) for request in bad]
        kept = [expected_record(*pair) for pair in zip(bad, results, strict=True)][: CONFIG.fault_records]
        assert await unit.driver.drain_faults() == (kept, True)
        assert await unit.driver.drain_faults() == ([], False)
        await unit.driver.disable()  # the log starts again at its first record
        await unit.driver.set_root(unit.tables.state)


@cocotb.test()
async def nothing_but_errors(dut):
    """Every access fails: every request is answered, the queue stops with IQE, and all recovers."""
    unit = await device(dut)
    memory = unit.bench.memory
    queue = await unit.driver.start_queue(unit.queue_base, wide=True)
    pages = sorted(memory.image())
    for page in pages:
        memory.inject_error(page, PAGE_SIZE)
        memory.inject_write_error(page, PAGE_SIZE)
    pending = cocotb.start_soon(queue.submit([PasidCacheInvalidate(), IotlbInvalidate()]))
    answers = await unit.bench.translate([unit.request()] * 500)
    assert not answers["granted"].any()
    assert set(answers["fault"].tolist()) == {ROOT_ERROR}
    await unit.bench.csr_poll(FSTS, IQE, IQE)
    memory.clear_errors()
    await unit.bench.csr_write(FSTS, IQE)
    await with_timeout(pending, 200_000, "ns")
    assert await unit.fault_of(unit.request()) is None


@cocotb.test()
@cocotb.parametrize(nested=[False, True])
async def errors_at_any_access(dut, nested):
    """Single accesses fail at random under traffic and invalidations: right answers or access errors, never silence."""
    rng = rng_of("errors_at_any_access")
    unit = await device(dut, nested)
    bench, memory = unit.bench, unit.bench.memory
    queue = await unit.driver.start_queue(unit.queue_base, wide=True)
    results = {page: translate(unit.memory, unit.tables.state, MODEL, unit.request(page)) for page in (PAGE, 0)}
    failed = 0
    for _ in range(60):
        memory.timing = MemoryTiming(latency=rng.choice((1, 10)), stall_percent=20, seed=rng.getrandbits(32))
        for _ in range(6):
            memory.fail_access(rng.randrange(40), response=rng.choice((AxiResponse.SLVERR, AxiResponse.DECERR)))
        memory.fail_access(rng.randrange(3), write=True)
        memory.write64(unit.leaf, unit.old)
        pages = rng.choices((PAGE, 0), k=30)
        batch = bench.submit([unit.request(page) for page in pages])
        everything = [PasidCacheInvalidate(), PasidIotlbInvalidate(DOMAIN, PASID)]
        pending = cocotb.start_soon(queue.submit(everything))
        for page, answer in zip(pages, await batch, strict=True):
            access_error = not answer["granted"] and int(answer["fault"]) in ACCESS_ERRORS
            failed += access_error
            assert access_error or compare_answer(answer, results[page]) is None
        while await bench.csr_read(IQH, 8) != await bench.csr_read(IQT, 8):
            await bench.csr_write(FSTS, IQE)
        pending.cancel()
    assert failed > 20
    assert compare_answer((await bench.translate([unit.request(0)]))[0], results[0]) is None
