"""The sweep itself, inside the simulation: one timing after the other, each with a requester of its own."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from random import Random
from typing import NamedTuple

import cocotb
import numpy as np
from cocotb.triggers import Lock

from nestwalk.config import IommuConfig

from ...builders import HostSpace
from ...host.vtd.descriptors import ContextCacheInvalidate, Descriptor, IotlbInvalidate, PasidCacheInvalidate
from ...memory import Memory
from ...model import Access, ModelConfig, Result, UnitState, translate
from ...rtl.driver import Driver, Queue
from ...rtl.library import Hang
from ...rtl.memory import MemoryTiming
from ...rtl.records import REQUEST
from ...rtl.unit import Bench
from .arena import Arena, Change, Shape, unit_state
from .rows import NOTHING, Row, covering, rows_of

__all__ = ["Found", "Job", "sweep_in_simulation"]

LATENCIES = (10, 30, 100)
EVERY_CYCLE = 30
"""The greatest latency at which the invalidation starts at every cycle of the walk."""

AROUND = 3
"""Cycles before and after a read at which the invalidation starts at the greater latencies."""

THINNED = 8
"""At the greater latencies every timing is tried with the narrowest invalidation, one in so many with the others."""

SEATS = 2
SHOWN = 3


class Timing(NamedTuple):
    """When the invalidation starts: cycles after the request, at a memory latency. ``warm``: the request finds what its
    neighbour has brought, and comes twice."""

    latency: int
    warm: bool
    delay: int


@dataclass
class Found:
    """What a row has come to.

    Attributes
    ----------
    timings : int
    old, new : int
        Requests in flight that were answered by the tables before and after the change.
    stale : int
        Timings with an access after the wait that was answered by the old tables, or by neither.
    mixed : int
        Timings with a request in flight that was answered by neither.
    hung : int
        Timings in which an answer or the wait's status did not come in time.
    longest_wait : int
        Cycles from the start of an invalidation to its visible status, at most.
    problems : list of str
        Some of the timings that went wrong.
    """

    timings: int = 0
    old: int = 0
    new: int = 0
    stale: int = 0
    mixed: int = 0
    hung: int = 0
    longest_wait: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def figures(self) -> dict[str, float]:
        """All numbers by name."""
        return {name: value for name, value in asdict(self).items() if name != "problems"}

    def blame(self, what: str) -> None:
        """Remember a timing that went wrong, if it is one of the first."""
        if len(self.problems) < SHOWN:
            self.problems.append(what)


class Job(NamedTuple):
    """What one simulation sweeps.

    Parameters
    ----------
    cfg, model : IommuConfig, ModelConfig
        The unit, and what it announces.
    shapes : tuple of Shape
    seed : int
    faults : bool
        Whether the port tells faults, so that entries can be removed.
    sample : float
        Share of the timings of each row that is drawn, at least one; 1 for all.
    done : frozenset of str
        Rows to leave out.
    uncovered : bool
        Invalidate something else than what covers the change, to see that this is found.
    """

    cfg: IommuConfig
    model: ModelConfig
    shapes: tuple[Shape, ...]
    seed: int
    faults: bool = True
    sample: float = 1
    done: frozenset[str] = frozenset()
    uncovered: bool = False


class _Walk(NamedTuple):
    """A walk that nothing disturbs: cycles to its answer, and when its reads are accepted."""

    cycles: int
    reads: tuple[int, ...]

    def delays(self, latency: int) -> list[int]:
        """When invalidations start."""
        if latency <= EVERY_CYCLE:
            return list(range(self.cycles + 1))
        around = {read + step for read in self.reads for step in range(-AROUND, AROUND + 1)}
        return sorted(cycle for cycle in around if cycle >= 0)


class _Seat:
    """An arena, a lane of requests, and the requesters that are left.

    ``changed`` is what the last timing has left changed, with what covers it. With recycled tables the changes are
    ``detached`` and stay, and ``turned`` tells whether the leaf leads elsewhere.
    """

    def __init__(self, arena: Arena, lane: int):
        self.arena, self.lane = arena, lane
        self.numbers: Iterator[int] = iter(range(arena.uses))
        self.changed: tuple[Change, list[Descriptor]] | None = None
        self.turned = False
        self.detached: list[Change] = []


class _Answers(NamedTuple):
    """The golden model's answers before and after a change, and before it with a leaf that leads elsewhere."""

    old: Result
    new: Result
    turned: Result


class _Ground:
    """A shape in memory: a root table of its own, and the arenas that it leads to."""

    def __init__(self, shape: Shape, space: HostSpace, random: Random):
        self.shape = shape
        root = space.new_pages()
        self.state: UnitState = unit_state(root, shape)
        self.seats = [_Seat(Arena(shape, space, root, random, lane), lane) for lane in range(SEATS)]
        self.arena = self.seats[0].arena


class _Sweep:
    """Some shapes in one simulation."""

    def __init__(self, bench: Bench, job: Job):
        self.bench, self.job = bench, job
        self.random = Random(f"{job.seed} races")
        self.memory = Memory()
        space = HostSpace(self.memory, job.cfg.haw, self.random)
        self.grounds = [_Ground(shape, space, self.random) for shape in job.shapes]
        self.found: dict[str, Found] = {}
        self._queue_base = space.unused(3)
        self._racing = Lock()
        self._limit = 0
        self._queue: Queue

    async def run(self) -> str | None:
        """All rows; the name of the one in which the unit hung, after which there are no others."""
        self.bench.memory.load(self.memory.image())
        driver = Driver(self.bench, self.job.cfg.fault_records)
        self._queue = await driver.start_queue(self._queue_base, wide=True)
        for ground in self.grounds:
            await driver.set_root(ground.state)
            hung = await self._run_shape(ground)
            if hung:
                return hung
        return None

    async def _run_shape(self, ground: _Ground) -> str | None:
        rows = [row for row in rows_of(ground.arena, removed=self.job.faults) if row.name not in self.job.done]
        if not rows:
            return None
        warmths = (False,) if ground.arena.neighbour is None else (False, True)
        walks = {
            (latency, warm): await self._measure(ground, latency, warm) for latency in LATENCIES for warm in warmths
        }
        for number, row in enumerate(rows):
            self.bench.report_progress(number, len(rows), row.name)
            found = self.found[row.name] = Found()
            try:
                await self._race(ground, row, found, walks)
            except Hang as hang:
                found.hung += 1
                found.blame(str(hang))
                return row.name
        return None

    # --- one row

    def _timings(self, row: Row, walks: dict[tuple[int, bool], _Walk]) -> list[Timing]:
        """All timings of a row, or what is drawn of them, in random order; removed entries and warm caches are for the
        least latency."""
        timings = []
        for (latency, warm), walk in walks.items():
            if latency == LATENCIES[0] or not (warm or row.removed):
                delays = walk.delays(latency)
                if latency > LATENCIES[0] and not row.narrow:
                    delays = delays[self.random.randrange(THINNED) :: THINNED]
                timings += [Timing(latency, warm, delay) for delay in delays]
        count = len(timings) if self.job.sample >= 1 else max(1, round(self.job.sample * len(timings)))
        return self.random.sample(timings, count)

    async def _race(self, ground: _Ground, row: Row, found: Found, walks: dict[tuple[int, bool], _Walk]) -> None:
        timings = self._timings(row, walks)
        # The invalidations of another seat would hide what recycled tables have left behind.
        seats = [(seat, self._golden(ground, seat.arena, row)) for seat in ground.seats[: 1 if row.recycled else None]]
        for latency in LATENCIES:
            self.bench.memory.timing = MemoryTiming(latency=latency)
            self._set_limit(20 * walks[latency, False].cycles + 10_000)
            todo = iter([timing for timing in timings if timing.latency == latency])
            tasks = [cocotb.start_soon(self._serve(seat, row, todo, expected, found)) for seat, expected in seats]
            for task in tasks:
                await task
        for seat, _ in seats:
            await self._settle(seat)

    async def _serve(self, seat: _Seat, row: Row, todo: Iterable[Timing], expected: _Answers, found: Found) -> None:
        for timing in todo:
            await self._one(seat, row, timing, expected, found)

    async def _one(self, seat: _Seat, row: Row, timing: Timing, expected: _Answers, found: Found) -> None:
        """A request, and in time the change and its invalidation; then the page anew, and once more.

        No other invalidation is under way as long as the request is, lest one hide what another lacks.
        """
        bench, arena = self.bench, seat.arena
        number, heir = await self._fresh(seat), await self._fresh(seat) if row.recycled else 0
        request = self._requests(arena, number)
        change = None if row.target == NOTHING else arena.change(row.target, number, removed=row.removed)
        async with self._racing:
            await self._undo(seat)
            if timing.warm:
                await bench.translate(self._requests(arena, number, arena.neighbour), seat.lane)
            batch = bench.submit(np.repeat(request, 2) if timing.warm else request, seat.lane)
            await bench.cycles(timing.delay)
            if change is not None:
                bench.memory.write(change.address, change.new)
            begun = bench.now()
            visible = await self._queue.submit(self._descriptors(arena, row, number), self._limit)
            anew = [] if row.recycled else [bench.submit(request, seat.lane)]
            met_late = batch.answered < len(batch.answers)
            met = await batch
            after = [await bench.translate(request, seat.lane)] if met_late else []
            if change is not None and row.recycled:
                seat.detached.append(change)
                expected = await self._recycle(seat, row, timing, expected, found, heir)
        after += [await batch for batch in anew]
        after.append(await bench.translate(request, seat.lane))
        if change is not None and not row.recycled:
            seat.changed = change, covering(arena, row.target, number)[row.covering]
        self._judge(row, timing, expected, (met, np.concatenate(after)), found)
        found.longest_wait = max(found.longest_wait, visible - begun)

    async def _undo(self, seat: _Seat) -> None:
        """Take the last change back, and cover that too: other requesters share the tables."""
        if seat.changed is not None:
            change, descriptors = seat.changed
            seat.changed = None
            self.bench.memory.write(change.address, change.old)
            await self._queue.submit(descriptors, self._limit)

    async def _recycle(
        self, seat: _Seat, row: Row, timing: Timing, expected: _Answers, found: Found, heir: int
    ) -> _Answers:
        """Let the leaf lead elsewhere, now that nothing leads to it, and invalidate nothing; a new requester finds it
        so, and goes too. What the request in flight may have met."""
        bench, arena = self.bench, seat.arena
        leaf, met, now = arena.change(arena.leaf, 0), expected.old, expected.turned
        if seat.turned:
            met, now = now, met
        bench.memory.write(leaf.address, leaf.old if seat.turned else leaf.new)
        seat.turned = not seat.turned
        answers = await bench.translate(self._requests(arena, heir), seat.lane)
        if not self._is(answers[0], now):
            found.stale += 1
            found.blame(f"{row.name} {timing}: whose tables these are now {_shown(answers)}, not {now[:6]}")
        change = arena.change(row.target, heir)
        seat.detached.append(change)
        bench.memory.write(change.address, change.new)
        await self._queue.submit(covering(arena, row.target, heir)[row.covering], self._limit)
        return expected._replace(old=met)

    def _descriptors(self, arena: Arena, row: Row, number: int) -> list[Descriptor]:
        if self.job.uncovered:
            return covering(arena, row.target, (number + arena.uses // 2) % arena.uses)[row.covering]
        return covering(arena, row.target, number)[row.covering]

    def _judge(
        self, row: Row, timing: Timing, expected: _Answers, answers: tuple[np.ndarray, np.ndarray], found: Found
    ) -> None:
        met, after = answers
        found.timings += 1
        new = [self._is(answer, expected.new) for answer in met]
        old = [self._is(answer, expected.old) for answer in met]
        found.new += sum(new)
        found.old += sum(of_old and not of_new for of_old, of_new in zip(old, new, strict=True))
        if not all(of_old or of_new for of_old, of_new in zip(old, new, strict=True)):
            found.mixed += 1
            found.blame(f"{row.name} {timing}: in flight {_shown(met)}, not {expected.old[:6]} or {expected.new[:6]}")
        if not all(self._is(answer, expected.new) for answer in after):
            found.stale += 1
            found.blame(f"{row.name} {timing}: afterwards {_shown(after)}, not {expected.new[:6]}")

    def _is(self, answer: np.void, result: Result) -> bool:
        if not result.granted:
            return bool(not answer["granted"] and answer["fault"] == result.fault)
        size = not self.job.faults or answer["page_size"] == result.page_size
        return bool(answer["granted"] and answer["address"] == result.address and size)

    async def _settle(self, seat: _Seat) -> None:
        """Leave an arena as it was, with nothing cached."""
        await self._undo(seat)
        if seat.turned:
            change, seat.turned = seat.arena.change(seat.arena.leaf, 0), False
            self.bench.memory.write(change.address, change.old)
        seat.numbers = iter(())

    # --- what rows have in common

    async def _fresh(self, seat: _Seat) -> int:
        """A requester that nothing is cached for; when none is left everything is forgotten."""
        number = next(seat.numbers, None)
        if number is None:
            everything: list[Descriptor] = [ContextCacheInvalidate(), IotlbInvalidate()]
            if not seat.arena.shape.legacy:
                everything.insert(1, PasidCacheInvalidate())
            async with self._racing:
                await self._queue.submit(everything, self._limit)
            seat.numbers = iter(range(seat.arena.uses))
            number = next(seat.numbers)
            for change in seat.detached:
                self.bench.memory.write(change.address, change.old)
            seat.detached.clear()
        return number

    def _requests(self, arena: Arena, number: int, address: int | None = None) -> np.ndarray:
        use = arena.use(number)
        record = np.zeros(1, REQUEST)
        record["source_id"], record["pasid"], record["pasid_valid"] = (
            use.source_id,
            use.pasid or 0,
            use.pasid is not None,
        )
        record["access"], record["address"] = Access.READ, arena.address if address is None else address
        return record

    def _golden(self, ground: _Ground, arena: Arena, row: Row) -> _Answers:
        """The model's answers; every requester of an arena has the same."""
        old = self._translate(ground, arena)
        if row.target == NOTHING:
            return _Answers(old, old, old)
        change = arena.change(row.target, 0, removed=row.removed)
        self.memory.write(change.address, change.new)
        new = self._translate(ground, arena)
        self.memory.write(change.address, change.old)
        if not old.granted or new.granted == row.removed or new[:6] == old[:6]:
            raise ValueError(f"{row.name} changes nothing that can be seen: {old[:6]}, {new[:6]}")
        leaf = arena.change(arena.leaf, 0)
        self.memory.write(leaf.address, leaf.new)
        turned = self._translate(ground, arena)
        self.memory.write(leaf.address, leaf.old)
        return _Answers(old, new, turned)

    def _translate(self, ground: _Ground, arena: Arena) -> Result:
        return translate(self.memory, ground.state, self.job.model, arena.request(0), updating=False)

    async def _measure(self, ground: _Ground, latency: int, warm: bool) -> _Walk:
        """A walk at a latency."""
        memory, seat = self.bench.memory, ground.seats[0]
        memory.timing = MemoryTiming(latency=latency)
        self._set_limit(100_000)
        number = await self._fresh(seat)
        if warm:
            await self.bench.translate(self._requests(seat.arena, number, seat.arena.neighbour), seat.lane)
        memory.tracing = True
        memory.clear_trace()
        begun = self.bench.now()
        answer = (await self.bench.translate(self._requests(seat.arena, number), seat.lane))[0]
        trace = memory.trace()
        memory.tracing = False
        during = trace["cycle"][trace["cycle"] <= answer["response_cycle"]]
        reads = tuple(int(cycle) - begun for cycle in during)
        return _Walk(int(answer["response_cycle"]) - begun, reads)

    def _set_limit(self, cycles: int) -> None:
        self._limit = cycles
        self.bench.set_hang_limit(cycles)


def _shown(answers: np.ndarray) -> str:
    """Answers for people."""
    columns = ["granted", "address", "page_size", "fault", "accept_cycle", "response_cycle"]
    return ", ".join(
        f"{f'{address:#x} of {size:#x}' if granted else f'fault {fault:02x}h'} from {accepted} to {answered}"
        for granted, address, size, fault, accepted, answered in answers[columns].tolist()
    )


async def sweep_in_simulation(bench: Bench, job: Job) -> tuple[dict[str, Found], str | None]:
    """The coroutine that runs inside the simulation: what was found by row, and the row that hung the unit, if any."""
    sweep = _Sweep(bench, job)
    hung = await sweep.run()
    return sweep.found, hung
