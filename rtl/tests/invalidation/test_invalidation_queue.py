"""`InvalidationQueue` at a memory port: order, waits, wrap, errors and recovery, turning off and on."""

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring

from nestwalk.bus.axi import AxiResponse
from nestwalk.bus.mem_port import MemPort
from nestwalk.bus.memory import MemoryIds
from nestwalk.config import PRESETS, IommuConfig
from nestwalk.invalidation.queue import COMPLETING, InvalidationQueue
from rtl.tests.axi_memory import AxiMemory
from rtl.tests.invalidation.reference import decode, legal_descriptor, wait_descriptor
from rtl.tests.invalidation.test_decode import as_tuple, candidate
from rtl.tests.simulation import simulate

BASE = 0xAB_CDEF_F000  # so that the second page carries into the next bits
STATUS = 0x1_2345_0000
DEFAULT = PRESETS["DEFAULT"]


class Bench:
    """A queue, and Python for what surrounds it: register file, memory, caches, devices, draining, page requests.

    ``events`` is everything that the queue did, in order: decoded descriptors as of the reference, ("status", address,
    data), ("interrupt",) and ("error", code).
    """

    def __init__(self, rng, cfg: IommuConfig = DEFAULT, *, wide=False, mode=0, size=0, **timing):
        user = MemoryIds(cfg).queue
        self.cfg, self.rng, self.wide, self.mode, self.size = cfg, rng, wide, mode, size
        self.queue = InvalidationQueue(cfg)
        self.control = self.queue.control
        self.port = MemPort(cfg, readers=[range(user, user + 1)], writers=[range(user, user + 1)])
        self.memory = AxiMemory(self.port.mem, rng, **timing)
        self.module = Module()
        self.module.submodules += [self.queue, self.port]
        wiring.connect(self.module, self.queue.read, self.port.readers[0])
        wiring.connect(self.module, self.queue.write, self.port.writers[0])
        self.patient = "latency" not in timing  # with fixed latency the caches answer at once, too
        self.events: list[tuple] = []
        self.drained = True
        self.caches_busy = False
        self.pages_drained: set[int] = set()  # addresses of statuses that wait for page requests
        self.page_requests = self.under_way = 0
        self.offset = 0  # where software writes next, in bytes
        self.memory.before = self._before

    @property
    def step(self) -> int:
        return 32 if self.wide else 16

    @property
    def bytes(self) -> int:
        return 4096 << self.size

    def _before(self, kind: str, address: int):
        if kind == "write":
            self.events.append(("status", address))

    def place(self, value: int):
        """Write a descriptor behind the last one."""
        assert self.wide or not value >> 128
        self.memory.write(BASE + self.offset, value, self.step)
        self.offset = (self.offset + self.step) % self.bytes

    def submit(self, ctx):
        """Write IQT."""
        ctx.set(self.control.tail, self.offset >> 4)

    def enable(self, ctx):
        ctx.set(self.control.base, BASE >> 12)
        ctx.set(self.control.size, self.size)
        ctx.set(self.control.wide, self.wide)
        ctx.set(self.control.mode, self.mode)
        ctx.set(self.control.enable, 1)

    async def until_error(self, ctx, code: int):
        await ctx.tick().until(self.control.stopped)
        assert self.events.pop() == ("error", code)

    async def until_empty(self, ctx):
        while ctx.get(self.control.head) * 16 != self.offset:
            assert not ctx.get(self.control.stopped), self.events[-1]
            await ctx.tick()

    async def registers(self, ctx):
        """The register file's side: an error stops the queue until a test clears it."""
        control = self.control
        while True:
            _clk, _rst, error, code, complete = await ctx.tick().sample(
                control.error, control.error_code, control.wait_complete
            )
            if error:
                ctx.set(control.stopped, 1)
                self.events.append(("error", code))
            if complete:
                self.events.append(("interrupt",))

    async def surroundings(self, ctx):
        """Caches and devices take what they are told after a while; then draining takes another while."""
        queue = self.queue
        drained_in = 0
        ctx.set(queue.drained, 1)
        while True:
            willing = not self.patient or self.rng.random() < 0.3
            ctx.set(queue.invalidations.ready, willing and not self.caches_busy)
            ctx.set(queue.messages.ready, not self.patient or self.rng.random() < 0.3)
            _clk, _rst, *values = await ctx.tick().sample(
                *(queue.invalidations.valid, queue.invalidations.ready, queue.invalidations.payload),
                *(queue.messages.valid, queue.messages.ready, queue.messages.payload),
                *(queue.write.request.valid, queue.write.request.payload),
                *([queue.drains] if self.cfg.page_requests else []),
            )
            invalidate, taken, invalidation, message, received, content, writes, write, *drains = values
            assert self.drained or not writes, "status was written before everything had drained"
            self._ask_for_pages(ctx, drains, writes and write.address in self.pages_drained)
            if invalidate and taken:
                self.events.append(as_tuple(invalidation))
                drained_in = self.rng.choice([0, 0, 3, 40]) if self.patient else 0
            if message and received:
                self.events.append(("message", content))
            self.drained = drained_in == 0
            ctx.set(queue.drained, self.drained)
            drained_in = max(0, drained_in - 1)

    def _ask_for_pages(self, ctx, drains: list[int], draining: bool):
        """One cycle of page requests, of which one is accepted whenever none is under way and ``drains`` is low."""
        if not self.cfg.page_requests:
            return
        queue = self.queue
        accepts = ctx.get(queue.page_requests_idle) and not any(drains)
        assert not draining or not (accepts or self.under_way), "status was written before page requests were queued"
        self.under_way = self.rng.choice([1, 5, 40]) if accepts else max(0, self.under_way - 1)
        self.page_requests += accepts
        ctx.set(queue.page_requests_idle, not self.under_way)

    def run(self, software, **options):
        simulate(self.module, software, background=(self.memory.run, self.registers, self.surroundings), **options)


def verify_events(events: list[tuple], values: list[int], cfg: IommuConfig, *, scalable: bool):
    """The events are those of executing ``values`` in order, but that what comes after a wait descriptor need not wait
    for its status and its interrupt, unless it is a fence."""
    expected: list[tuple] = []
    fences: set[int] = set()
    for value in values:
        match decode(value, cfg, scalable=scalable):
            case ("wait", interrupt, status):
                expected += [("status", status[0])] if status else []
                expected += [("interrupt",)] if interrupt else []
                fences |= {len(expected)} if value >> 6 & 1 else set()
            case event:
                expected.append(event)

    def kind(event: tuple) -> str:
        return event[0] if event[0] in ("status", "interrupt") else "action"

    places = [0] * len(expected)  # where each event happened
    for which in ("status", "interrupt", "action"):
        wanted = [place for place, event in enumerate(expected) if kind(event) == which]
        happened = [place for place, event in enumerate(events) if kind(event) == which]
        assert [events[place] for place in happened] == [expected[place] for place in wanted]
        for place, when in zip(wanted, happened, strict=True):
            places[place] = when
    for place, event in enumerate(expected):
        if kind(event) != "action":
            earlier = [at for at, other in zip(places[:place], expected, strict=False) if kind(other) != "interrupt"]
            assert max(earlier, default=-1) < places[place], f"{event} came before what it waits for"
    for fence in fences:
        before, after = places[:fence], places[fence:]
        assert not before or not after or max(before) < min(after), "a fence was overtaken"


@pytest.mark.parametrize(
    ("wide", "mode", "size", "mem_data_width"),
    [(False, 0, 0, 128), (True, 0, 1, 128), (True, 1, 0, 128), (True, 3, 0, 256), (True, 1, 0, 512)],
)
def test_executes_legal_descriptors_in_order(wide, mode, size, mem_data_width, rng):
    cfg = DEFAULT.replace(mem_data_width=mem_data_width)
    bench = Bench(rng, cfg, wide=wide, mode=mode, size=size)
    count = (bench.bytes // bench.step) * 3 // 2  # wraps once
    values = [legal_descriptor(rng, cfg, scalable=mode != 0) for _ in range(count)]
    status = {}
    for value in values:
        match decode(value, cfg, scalable=mode != 0):
            case ("wait", _, (address, _)) if value >> 7 & 1:
                bench.pages_drained.add(address)

    async def software(ctx):
        bench.enable(ctx)
        waiting = values[:]
        while waiting:
            room = (ctx.get(bench.control.head) * 16 - bench.offset - bench.step) % bench.bytes // bench.step
            for _ in range(min(room, rng.choice([1, 2, 5, 30]), len(waiting))):
                bench.place(waiting.pop(0))
            bench.submit(ctx)
            await ctx.tick().repeat(rng.choice([1, 10, 300]))
        await bench.until_empty(ctx)
        await ctx.tick()
        assert ctx.get(bench.queue.executed) == count

    bench.run(software)
    for value in values:
        match decode(value, cfg, scalable=mode != 0):
            case ("wait", _, (address, data)):
                status[address] = data
    verify_events(bench.events, values, cfg, scalable=mode != 0)
    assert status
    assert bench.pages_drained
    assert bench.page_requests > 100
    assert {address: bench.memory.read(address, 4) for address in status} == status
    executed = [access for access in bench.memory.log if access.kind == "read"]
    assert sum(access.size for access in executed) == count * bench.step


@pytest.mark.parametrize(("preset", "wide", "mode"), [("DEFAULT", True, 1), ("DEFAULT", False, 0), ("TINY", True, 1)])
def test_stops_at_each_bad_descriptor_and_goes_on_once_it_is_replaced(preset, wide, mode, rng):
    """As Linux does it: the bad descriptor becomes a wait, then IQE is cleared; the tail is not written again."""
    cfg = PRESETS[preset]
    bench = Bench(rng, cfg, wide=wide, mode=mode)
    scalable = mode != 0
    executed = []
    codes = set()

    async def software(ctx):
        bench.enable(ctx)
        for _ in range(30):
            batch = [candidate(rng, cfg, scalable=scalable) % (1 << 8 * bench.step) for _ in range(rng.randrange(1, 9))]
            places = []
            for value in batch:
                places.append(bench.offset)
                bench.place(value)
            bench.submit(ctx)
            for place, value in zip(places, batch, strict=True):
                result = decode(value, cfg, scalable=scalable)
                if result[0] == "error":
                    await bench.until_error(ctx, result[1])
                    await ctx.tick().repeat(rng.choice([1, 5, 100]))
                    assert ctx.get(bench.control.head) == place >> 4
                    codes.add(result[1])
                    value = wait_descriptor(interrupt=True)
                    bench.memory.write(BASE + place, value, bench.step)
                    ctx.set(bench.control.stopped, 0)
                    await ctx.tick()
                executed.append(value)
            await bench.until_empty(ctx)

    bench.run(software)
    verify_events(bench.events, executed, cfg, scalable=scalable)
    assert codes == {3, 4}


@pytest.mark.parametrize(
    ("wide", "mode", "tail", "code"),
    [
        (True, 2, 2, 7),
        (False, 2, 1, 7),
        (False, 1, 1, 5),
        (False, 3, 1, 5),
        (True, 1, 3, 6),
        (True, 0, 0x101, 6),
        (True, 1, 0x100, 1),
        (False, 0, 0x100, 1),
        (False, 0, 0x4001, 1),
    ],
)
def test_refuses_what_the_registers_say(wide, mode, tail, code, rng):
    bench = Bench(rng, wide=wide, mode=mode)
    valid = [wait_descriptor(address=STATUS, data=number, interrupt=True) for number in range(3)]

    async def software(ctx):
        bench.enable(ctx)
        await ctx.tick().repeat(20)
        assert not bench.events, "an empty queue was in error"
        ctx.set(bench.control.tail, tail)
        await bench.until_error(ctx, code)
        assert ctx.get(bench.control.head) == 0
        # Cleared without a remedy it stops again.
        ctx.set(bench.control.stopped, 0)
        await bench.until_error(ctx, code)
        assert not bench.memory.log, "something was fetched"
        bench.wide, bench.mode = True, 1
        bench.enable(ctx)
        for value in valid:
            bench.place(value)
        bench.submit(ctx)
        ctx.set(bench.control.stopped, 0)
        await ctx.tick()
        await bench.until_empty(ctx)

    bench.run(software)
    verify_events(bench.events, valid, DEFAULT, scalable=True)
    assert bench.memory.read(STATUS, 4) == 2


def test_refuses_wide_descriptors_without_scalable_mode(rng):
    cfg = IommuConfig(
        scalable_mode=False, first_stage=False, nested=False, first_stage_5_level=False, first_stage_1g=False,
        page_walk_snoop=False, supervisor_requests=False, rid_pasid=False, page_requests=False,
    )  # fmt: skip
    bench = Bench(rng, cfg, wide=True)

    async def software(ctx):
        bench.enable(ctx)
        ctx.set(bench.control.tail, 2)
        await bench.until_error(ctx, 5)
        assert ctx.get(bench.control.head) == 0

    bench.run(software)


@pytest.mark.parametrize("half", [0, 16])
def test_reports_a_failed_fetch_and_fetches_again(half, rng):
    bench = Bench(rng, wide=True, mode=1)
    values = [legal_descriptor(rng, DEFAULT, scalable=True) for _ in range(9)]
    broken = BASE + 5 * 32 + half
    bench.memory.respond = lambda kind, address: AxiResponse.DECERR if address == broken else None

    async def software(ctx):
        bench.enable(ctx)
        for value in values:
            bench.place(value)
        bench.submit(ctx)
        for _ in range(2):
            await bench.until_error(ctx, 2)
            assert ctx.get(bench.control.head) == 10
            await ctx.tick().repeat(rng.randrange(1, 40))
            ctx.set(bench.control.stopped, 0)
            await ctx.tick()
        await bench.until_error(ctx, 2)
        bench.memory.respond = None
        ctx.set(bench.control.stopped, 0)
        await ctx.tick()
        await bench.until_empty(ctx)

    bench.run(software)
    verify_events(bench.events, values, DEFAULT, scalable=True)


def test_turns_off_in_the_middle_and_on_again(rng):
    bench = Bench(rng, wide=True, mode=1)
    control = bench.control
    executed = []

    async def software(ctx):
        for _ in range(25):
            bench.offset = 0
            bench.events.clear()
            values = [legal_descriptor(rng, DEFAULT, scalable=True) for _ in range(20)]
            for value in values:
                bench.place(value)
            ctx.set(control.tail, 0)
            bench.enable(ctx)
            await ctx.tick().until(control.enabled)
            bench.submit(ctx)
            await ctx.tick().repeat(rng.randrange(1, 300))
            if rng.random() < 0.3:  # another unit's error stops the queue first
                ctx.set(control.stopped, 1)
                await ctx.tick().repeat(rng.randrange(1, 60))
            executed_until_now = ctx.get(bench.queue.executed)
            ctx.set(control.enable, 0)
            await ctx.tick().until(~control.enabled)
            assert ctx.get(control.head) == 0
            ctx.set(control.stopped, 0)
            assert ctx.get(bench.queue.executed) - executed_until_now <= 1 + COMPLETING
            count = ctx.get(bench.queue.executed) - sum(executed)
            executed.append(count)
            verify_events(bench.events, values[:count], DEFAULT, scalable=True)

    bench.run(software)
    assert len(set(executed)) > 5


def test_stays_off_while_stopped_but_reports_enabled(rng):
    bench = Bench(rng, wide=True, mode=1)

    async def software(ctx):
        ctx.set(bench.control.stopped, 1)
        bench.place(wait_descriptor(address=STATUS, data=5))
        bench.enable(ctx)
        bench.submit(ctx)
        await ctx.tick().until(bench.control.enabled)
        await ctx.tick().repeat(100)
        assert not bench.memory.log
        ctx.set(bench.control.stopped, 0)
        await ctx.tick()
        await bench.until_empty(ctx)

    bench.run(software)
    assert bench.memory.read(STATUS, 4) == 5


def test_forgets_what_it_fetched_before_a_stop(rng):
    """Another unit's error (ITE) comes and goes while a descriptor executes; software changes those behind it."""
    bench = Bench(rng, wide=True, mode=1)
    control = bench.control
    first = 6 | 2 << 4
    renewed = [legal_descriptor(rng, DEFAULT, scalable=True) for _ in range(6)]

    async def software(ctx):
        bench.caches_busy = True
        for value in [first] + [wait_descriptor(interrupt=True)] * 6:
            bench.place(value)
        bench.enable(ctx)
        bench.submit(ctx)
        await ctx.tick().until(bench.queue.invalidations.valid)
        await ctx.tick().repeat(200)
        ctx.set(control.stopped, 1)
        await ctx.tick()
        bench.offset = 32
        for value in renewed:
            bench.place(value)
        ctx.set(control.stopped, 0)
        await ctx.tick()
        bench.caches_busy = False
        await bench.until_empty(ctx)

    bench.run(software)
    verify_events(bench.events, [first, *renewed], DEFAULT, scalable=True)


@pytest.mark.parametrize("latency", [4, 50])
def test_latency_of_an_invalidation_and_a_wait(latency, rng):
    """§4 of the benchmarks allows 4 L + 40 cycles for the whole unit."""
    bench = Bench(rng, wide=True, mode=1, latency=range(latency, latency + 1), stall=0)
    cycles = []

    async def software(ctx):
        bench.enable(ctx)
        await ctx.tick().repeat(10)
        for _ in range(3):
            bench.place(6 | 3 << 4)
            bench.place(wait_descriptor(address=STATUS, data=1, interrupt=True))
            bench.submit(ctx)
            started = bench.memory.cycle
            await bench.until_empty(ctx)
            cycles.append(bench.memory.cycle - started)

    bench.run(software)
    assert set(cycles) == {2 * latency + 17}
