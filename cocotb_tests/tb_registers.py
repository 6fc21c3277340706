"""Random accesses to the whole page of registers of the hardware."""

from random import Random

import cocotb

from nestwalk.bus.memory import MemoryIds
from nestwalk_sim.builders import HostSpace, ScalableTables, SecondStageTables, second_stage_fields
from nestwalk_sim.memory import PAGE_SIZE, Memory
from nestwalk_sim.model import Request
from nestwalk_sim.rtl.driver import Driver
from nestwalk_sim.rtl.memory import BenchMemory
from nestwalk_sim.rtl.unit import Bench, Interrupt

from .register_life import Life
from .register_model import CNTR, CNTRCFG, ECMD, ECRSP
from .session import CONFIG, MODEL, count_of, random_timing, rng_of, start

SOURCE = 0x0310
SETTLED = 400
"""Cycles in which everything is over but a global command, or what the queue executes."""

LONGEST = 5_000_000
"""Cycles that a queue full of global invalidations may take."""


class Hardware:
    """The unit behind a bench as what a `Life` is lived with."""

    def __init__(self, bench: Bench):
        self._bench = bench
        self.memory: BenchMemory = bench.memory
        self.memory.tracing = True

    async def read(self, offset: int, size: int) -> int:
        return await self._bench.csr_read(offset, size)

    async def write(self, offset: int, size: int, value: int) -> None:
        await self._bench.csr_write(offset, value, size)

    async def follow(self, offset: int, mask: int, value: int) -> None:
        await self._bench.csr_poll(offset, mask, value, limit=LONGEST)

    async def settle(self) -> None:
        await self._bench.cycles(SETTLED)

    async def ask(self, request: Request) -> None:
        await self._bench.translate([request])

    async def reset(self) -> None:
        await self._bench.reset()
        self.memory.clear_trace()

    def vary(self, random: Random) -> None:
        self.memory.timing = random_timing(random)
        self._bench.set_csr_skew(random.choice((0, 50)))

    @property
    def messages(self) -> list[tuple[int, int]]:
        trace = self.memory.trace()
        sent = trace[(trace["write"] == 1) & (trace["id"] == MemoryIds(CONFIG).event)]
        return [(int(message["address"]), int(message["data"])) for message in sent]

    @property
    def lines(self) -> tuple[bool, ...]:
        return tuple(map(self._bench.interrupt_level, Interrupt))


@cocotb.test()
async def random_accesses(dut):
    """Whatever software writes anywhere, every register reads as the model's, and every message is sent once."""
    bench, _ = await start(dut)
    life = Life(Hardware(bench), CONFIG, MODEL, rng_of("random_accesses"))
    await life.run(count_of("ACTIONS"))
    dut._log.info("%s, %d messages", dict(life.done), len(life.model.messages))
    assert min(life.done.values()) > 3


async def monitored(bench: Bench, group: int, events: int, pages: list[int]) -> tuple[int, dict[str, int], int]:
    """What counter 1 says of requests to some pages, what the event counters say of them, and how many reads memory
    saw.
    """
    driver = Driver(bench, CONFIG.fault_records)
    await bench.csr_write(CNTRCFG[1], events << 32 | group << 8, 8)
    before, value = await driver.event_counts(), await bench.csr_read(CNTR[1], 8)
    await enhanced(bench, 1 << 16 | 240)
    bench.memory.clear_trace()
    await bench.translate([Request(SOURCE, None, page) for page in pages])
    await enhanced(bench, 1 << 16 | 241)
    reads = int((bench.memory.trace()["write"] == 0).sum())
    after = await driver.event_counts()
    difference = {name: after[name] - before[name] for name in after}
    return await bench.csr_read(CNTR[1], 8) - value, difference, reads


async def enhanced(bench: Bench, command: int) -> None:
    """An enhanced command that succeeds."""
    await bench.csr_write(ECMD, command, 8)
    assert await bench.csr_poll(ECRSP, 1, 0, 8) == 0


async def count_traffic(dut) -> None:
    """Let a counter count each event, and compare it with how often that has happened."""
    rng = rng_of("performance_counters")
    bench, driver = await start(dut)
    memory = Memory()
    host = HostSpace(memory, MODEL.haw, rng)
    tables, second = ScalableTables(host), SecondStageTables(host, 4)
    pages = [PAGE_SIZE * number for number in range(40)]
    for page in pages:
        second.map(page, PAGE_SIZE * rng.getrandbits(30))
    tables.add_device(SOURCE)
    tables.add_pasid(SOURCE, 0, DID=5, **second_stage_fields(second))
    bench.memory.load(memory.image())
    bench.memory.tracing = True
    await driver.set_root(tables.state)
    found = set()
    for _ in range(20):
        bench.memory.timing = random_timing(rng)
        asked = rng.choices(pages, k=rng.randrange(1, 200))
        group, events = rng.choice(((0, 2), (1, 1), (3, 1), (3, 2), (3, 3)))
        counted, happened, reads = await monitored(bench, group, events, asked)
        hits = sum(happened[f"iotlb_{size}_hits"] for size in ("4k", "2m", "1g"))
        assert happened["iotlb_lookups"] >= len(asked)
        wanted = {
            (0, 2): len(asked),
            (1, 1): reads,
            (3, 1): happened["iotlb_lookups"],
            (3, 2): hits,
            (3, 3): happened["iotlb_lookups"] + hits,
        }
        assert counted == wanted[group, events], (group, events)
        found.add((group, events, counted > 0))
        if rng.random() < 0.3:
            await driver.set_root(tables.state)
    assert len(found) >= 5
    await bench.csr_write(CNTRCFG[0], 1 << 32, 8)
    await enhanced(bench, 240)
    begun = bench.now()
    await bench.cycles(10_000)
    ended = bench.now()
    await enhanced(bench, 244)
    assert 0 <= await bench.csr_read(CNTR[0], 8) - (ended - begun) <= SETTLED


if CONFIG.performance_monitoring:

    @cocotb.test()
    async def performance_counters(dut):
        await count_traffic(dut)
