"""Tables that change under traffic: answers stay sound, invalidations complete, nothing hangs."""

from collections import Counter
from dataclasses import dataclass, field
from random import Random

import cocotb
import numpy as np

from nestwalk_sim.builders import HostSpace, LegacyTables, ScalableTables
from nestwalk_sim.host.vtd.descriptors import Wait
from nestwalk_sim.memory import PAGE_SIZE, Memory
from nestwalk_sim.model import UnitState
from nestwalk_sim.rtl.driver import CommandRegisters, Queue
from nestwalk_sim.rtl.memory import MemoryTiming, Moment
from nestwalk_sim.rtl.unit import Batch, Bench, Traffic, request_array

from .covering import unrelated_invalidation
from .edits import Edit, random_edit
from .judge import Judge
from .session import CONFIG, MODEL, count_of, rng_of, start
from .world import Group, legacy_group, scalable_group

GROUPS = 6
HANG_LIMIT = 100_000
SHOWN = 3
WALK = 10
"""Cycles that are too few for a walk."""
ACCESSED_DIRTY = 0x360
"""Bits that hardware may set, of both stages."""


@dataclass
class Life:
    """One group at work: its requests in flight and what was done so far. ``ways`` are those to invalidate, one of
    which is chosen each time.
    """

    bench: Bench
    ways: list[Queue | CommandRegisters]
    group: Group
    lane: int
    edits: list[Edit] = field(default_factory=list)
    sent: list[tuple[np.ndarray, Batch]] = field(default_factory=list)
    flying: list[Batch] = field(default_factory=list)

    def __post_init__(self):
        self.random = self.group.random
        self._requests = request_array(self.group.pool)

    def send(self, most: int, about: Edit) -> None:
        """Queue some requests: the one that an edit is about, others of its requester, any others, page after page."""
        pool, wanted = self.group.pool, about.request
        alike = [index for index, request in enumerate(pool) if request[:2] == wanted[:2]]
        kinds = [pool.index(wanted)], alike, range(len(pool))
        chosen = [self.random.choice(self.random.choice(kinds)) for _ in range(self.random.randrange(most))]
        if self.random.random() < 0.2:
            times = self.random.choice((1, 2, 8))
            chosen += [index for index in self.random.choice(self.group.sweeps) for _ in range(times)]
        indices = np.array(chosen, int)
        batch = self.bench.submit(self._requests[indices], self.lane)
        self.sent.append((indices, batch))
        self.flying.append(batch)

    async def settle(self) -> None:
        """Wait until nothing of the group is in flight."""
        while self.flying:
            await self.flying.pop()

    async def pause(self) -> None:
        await self.bench.cycles(
            self.random.choice((0, 0, 1, 5, self.random.randrange(200), self.random.randrange(1000)))
        )

    async def change(self) -> None:
        """One edit from its preparation to what may be done once it is complete."""
        edit = random_edit(self.group)
        self.send(12, edit)
        await self.pause()
        if self.random.random() < 0.3:
            await self.settle()
        self._write(edit.prepare)
        edit.begun = self.bench.now()
        self._write([(edit.address, edit.content)])
        self.send(8, edit)
        await self.pause()
        if edit.covering:
            edit.done = await self.invalidate(edit)
            self.send(16, edit)
        else:
            await self.settle()
            edit.done = self.bench.now()
        self._write(edit.cleanup)
        self.edits.append(edit)

    async def invalidate(self, edit: Edit) -> int:
        """Carry out the descriptors, at once or in two parts, among others."""
        random, descriptors = self.random, list(edit.covering)
        if random.random() < 0.3:
            descriptors.insert(random.randrange(len(descriptors) + 1), unrelated_invalidation(self.group))
        if random.random() < 0.2:
            descriptors.insert(random.randrange(len(descriptors) + 1), Wait(fence=True))
        parts = [descriptors]
        if random.random() < 0.2:
            place = random.randrange(len(descriptors) + 1)
            parts = [descriptors[:place], descriptors[place:]]
        visible = 0
        for part in parts:
            visible = await random.choice(self.ways).submit(part, HANG_LIMIT)
            self.send(8, edit)
        return visible

    def _write(self, writes: list[tuple[int, bytes]]) -> None:
        for address, content in writes:
            self.group.memory.add_pages([address])
            self.group.memory.write(address, content)
            self.bench.memory.add_pages([address])
            self.bench.memory.write(address, content)


def random_timing(random: Random) -> MemoryTiming:
    return MemoryTiming(
        latency=random.randrange(1, 61),
        jitter=random.choice((0, 0, 5, 60)),
        stall_percent=random.choice((0, 0, 20)),
        interleave=random.random() < 0.5,
        moment=random.choice(list(Moment)),
        exclusive_loss_percent=random.choice((0, 20)),
        seed=random.getrandbits(32),
    )


async def change_conditions(bench: Bench, random: Random) -> None:
    """Another memory and another pace every now and then, for ever."""
    while True:
        bench.memory.timing = random_timing(random)
        for lane in range(GROUPS):
            traffic = Traffic(
                max_outstanding=random.choice((0, 0, 2)),
                gap_percent=random.choice((0, 50, 90)),
                response_stall_percent=random.choice((0, 0, 40)),
                seed=random.getrandbits(32),
            )
            bench.set_traffic(traffic, lane)
        await bench.cycles(random.randrange(1000, 20_000))


async def live(life: Life, edits: int) -> None:
    while len(life.edits) < edits:
        await life.change()
    await life.settle()


def compare_memory(bench: Bench, memory: Memory) -> list[str]:
    """Pages of software's memory that the unit has changed beyond accessed and dirty bits."""
    mask = np.uint64((1 << 64) - 1 & ~ACCESSED_DIRTY)
    return [
        f"the page at {address:#x} differs"
        for address, content in memory.image().items()
        if ((np.frombuffer(bench.memory.read(address, PAGE_SIZE), "u8") ^ np.frombuffer(content, "u8")) & mask).any()
    ]


async def run(dut, name: str, scalable: bool, edits: int) -> None:
    """``edits`` changes in groups that live at once over one memory and one queue."""
    random = rng_of(name)
    bench, driver = await start(dut)
    bench.set_hang_limit(HANG_LIMIT)
    memory = Memory()
    host = HostSpace(memory, MODEL.haw, random)
    tables = ScalableTables(host) if scalable else LegacyTables(host)
    domains = random.sample(range(1, 1 << MODEL.domain_bits), 5 * GROUPS)
    groups = []
    for number, bus in enumerate(random.sample(range(256), GROUPS)):
        own = Random(random.getrandbits(64))
        mine = domains[5 * number : 5 * number + 5]
        if isinstance(tables, ScalableTables):
            groups.append(scalable_group(own, MODEL, tables, bus, mine))
        else:
            groups.append(legacy_group(own, MODEL, tables, bus, mine))
    queue_base = host.unused(3)
    bench.memory.load(memory.image())
    before = memory.copy()
    await driver.set_root(tables.state)
    ways: list[Queue | CommandRegisters] = [
        await driver.start_queue(queue_base, wide=scalable or bool(random.getrandbits(1)))
    ]
    if not scalable and CONFIG.version_major < 6:
        ways.append(CommandRegisters(bench))

    lives = [Life(bench, ways, group, lane) for lane, group in enumerate(groups)]
    weather = cocotb.start_soon(change_conditions(bench, random))
    for task in [cocotb.start_soon(live(life, -(-edits // GROUPS))) for life in lives]:
        await task
    weather.cancel()

    counts = sum((judge_life(life, before, tables.state) for life in lives), start=Counter())
    dut._log.info("%s: %d edits, %d cycles, %s", name, edits, bench.now(), dict(counts))
    assert compare_memory(bench, memory) == []
    # Every kind of answer was judged; with two walk slots few requests are in flight.
    assert min(counts[what] for what in ("settled", "old", "new", "uncovered", "in flight")) > edits // 10


def judge_life(life: Life, before: Memory, state: UnitState) -> Counter[str]:
    """Judge every answer to a group; how many there were of which kind."""
    indices = np.concatenate([indices for indices, _ in life.sent])
    answers = np.concatenate([batch.answers for _, batch in life.sent])
    assert answers["answered"].all()
    judge = Judge(before.copy(), state, MODEL, life.group.pool, life.edits)
    judge.judge(indices, answers)
    assert judge.problems == [], f"{len(judge.problems)} of {len(answers)}:\n" + "\n".join(judge.problems[:SHOWN])
    begun = [edit.begun for edit in life.edits]
    met = np.searchsorted(begun, answers["response_cycle"]) - np.searchsorted(begun, answers["accept_cycle"])
    judge.counts["in flight"] = int((met > 0).sum())
    quick = answers["response_cycle"] - answers["accept_cycle"] < WALK
    judge.counts["hits"] = int((answers["granted"] & quick).sum())
    judge.counts["granted"] = int(answers["granted"].sum())
    return judge.counts


@cocotb.test()
async def scalable_tables_change(dut):
    await run(dut, "scalable_tables_change", True, count_of("EDITS") * 4 // 5)


@cocotb.test()
async def legacy_tables_change(dut):
    await run(dut, "legacy_tables_change", False, count_of("EDITS") // 5)
