"""What a walk takes when nothing is cached: `cold_walk`."""

from dataclasses import dataclass
from random import Random
from typing import ClassVar, NamedTuple

import numpy as np

from ..builders import (
    FirstStageTables,
    SecondStageTables,
    first_stage_fields,
    nested_fields,
    pass_through_fields,
    second_stage_fields,
)
from ..memory import PAGE_SIZE, Memory
from ..model import Access
from ..rtl.records import REQUEST
from .platform import GIB, MIB, Platform, Requests
from .session import Outcome, Session, Timing, Workload

__all__ = ["CASES", "Case", "ColdWalk", "Phases"]

CONSTANT = 8
"""Cycles of each request that do not count as overhead of its reads."""

LATENCIES = (1, 30, 100)

WRAP = 2
"""AxBURST of the reads of whole lines."""


class Case(NamedTuple):
    """A kind of translation.

    Parameters
    ----------
    name : str
        As in the figures.
    first, second : int
        Levels of each stage, 0 for a stage that takes no part.
    size : int
        Page size of both stages, in bytes.
    reads : int
        Dependent reads of its cold walk.
    """

    name: str
    first: int
    second: int
    size: int
    reads: int


CASES = (
    Case("pass_through", 0, 0, 4096, 4),
    Case("first_4k_4", 4, 0, 4096, 8),
    Case("first_4k_5", 5, 0, 4096, 9),
    Case("second_4k_4", 0, 4, 4096, 8),
    Case("second_4k_5", 0, 5, 4096, 9),
    Case("nested_4k_4x4", 4, 4, 4096, 28),
    Case("nested_4k_5x5", 5, 5, 4096, 39),
    Case("nested_2m_4x4", 4, 4, 2 * MIB, 19),
    Case("nested_1g_4x4", 4, 4, GIB, 12),
)


class ScatteredSpace:
    """Guest-physical space in which every table lies in a top-level region of its own, so that no second-stage walk
    can use what an earlier one cached.

    Parameters
    ----------
    second : SecondStageTables
    size : int
        Page size of the second stage, in bytes.
    width : int
        Bits of guest-physical addresses.
    random : Random
    """

    def __init__(self, second: SecondStageTables, size: int, width: int, random: Random):
        self.memory: Memory = second.space.memory
        self.second = second
        self._size = size
        self._region_bits = 12 + 9 * (second.levels - 1)
        self._regions = list(range(1 << (min(width, self._region_bits + 9) - self._region_bits)))
        random.shuffle(self._regions)
        self._random = random
        self._backing: dict[int, int] = {}

    def page(self) -> int:
        """A page in a region of its own, with host memory behind it."""
        start = self._regions.pop() << self._region_bits
        address = start + self._random.randrange(1 << self._region_bits - 12) * PAGE_SIZE
        block = address & -self._size
        host = self._random.randrange(1, (1 << 50) // self._size) * self._size
        self.second.map(block, host, self._size)
        self._backing[address] = host + address - block
        return address

    def new_pages(self, count: int = 1) -> int:
        """A table; tables of more than one page do not occur."""
        address = self.page()
        self.memory.add_pages([self._backing[address]])
        return address

    def host(self, address: int) -> int:
        """Host address of a byte in one of the pages."""
        return self._backing[address & -PAGE_SIZE] + address % PAGE_SIZE


def build(case: Case, platform: Platform) -> Requests:
    """Tables of one case, and the request that walks them."""
    random, space = platform.random, platform.space
    offset = random.randrange(case.size) & -4
    host = random.randrange(1, (1 << 50) // case.size) * case.size
    levels = case.first or case.second or 4
    address = random.randrange(1, (1 << (9 * levels + 11)) // case.size) * case.size + offset
    if case.first and case.second:
        second = SecondStageTables(space, case.second)
        guest = ScatteredSpace(second, case.size, 52, random)
        first = FirstStageTables(guest, case.first)
        final = guest.page()
        host = guest.host(final) & -case.size
        first.map(address - offset, final & -case.size, case.size)
        fields = nested_fields(first, second)
    elif case.first:
        first = FirstStageTables(space, case.first)
        first.map(address - offset, host, case.size)
        fields = first_stage_fields(first)
    elif case.second:
        second = SecondStageTables(space, case.second)
        second.map(address - offset, host, case.size)
        fields = second_stage_fields(second)
    else:
        host, fields = address - offset, pass_through_fields()
    source_id = platform.add_device()
    record = np.zeros(1, REQUEST)
    record["source_id"], record["pasid"] = source_id, platform.add_entry(source_id, **fields)[0]
    record["pasid_valid"], record["access"], record["address"] = 1, Access.READ, address
    return Requests(record, np.array([host + offset], np.uint64))


def awaited_beats(reads: np.ndarray) -> np.ndarray:
    """Beats after the first of each read (`ACCESS` records) that a walk waits for: the first one of a line will do."""
    return np.where(reads["burst"] == WRAP, 0, reads["beats"]).astype(int)


class Phases(NamedTuple):
    """Where the cycles of a walk go.

    Parameters
    ----------
    start : int
        From the acceptance of the request to that of its first read.
    between : list of int
        From the last beat of each read to the acceptance of the next; of a line it is the first beat that counts.
    end : int
        From the last beat of the last read to the valid response.
    """

    start: int
    between: list[int]
    end: int

    @classmethod
    def of(cls, timing: Timing, reads: np.ndarray, latency: int) -> "Phases":
        """Split the time of one request by the reads (`ACCESS` records) of its walk."""
        last_beats = reads["cycle"].astype(int) + latency + awaited_beats(reads)
        between = reads["cycle"][1:].astype(int) - last_beats[:-1]
        start = int(reads["cycle"][0]) - int(timing.accepted[0])
        return cls(start, between.tolist(), int(timing.answered[0]) - int(last_beats[-1]))


class Walk(NamedTuple):
    """One cold walk, measured."""

    cycles: int
    reads: int
    overhead_per_read: float
    phases: Phases


def measure(timing: Timing, trace: np.ndarray, latency: int) -> Walk:
    """Figures of one request from its times and the memory's trace."""
    during = (trace["cycle"] >= timing.accepted[0]) & (trace["cycle"] <= timing.answered[0]) & (trace["write"] == 0)
    reads: np.ndarray = trace[during]
    cycles = int(timing.latencies[0])
    overhead = cycles - len(reads) * latency - int(awaited_beats(reads).sum()) - CONSTANT
    return Walk(cycles, len(reads), max(overhead, 0) / len(reads), Phases.of(timing, reads, latency))


@dataclass(frozen=True)
class ColdWalk(Workload):
    """Each kind of translation at each latency, one request with all caches empty."""

    name: ClassVar[str] = "cold_walk"
    cases: tuple[Case, ...] = CASES
    latencies: tuple[int, ...] = LATENCIES

    async def run(self, session: Session) -> Outcome:
        """Figures of each case; the overhead is that of the worst latency."""
        outcome = Outcome()
        for number, case in enumerate(self.cases):
            session.report(number, len(self.cases), case.name)
            walks = {latency: await self._walk(session, case, latency) for latency in self.latencies}
            for latency, walk in walks.items():
                outcome.figures[f"{case.name}_L{latency}_cycles"] = walk.cycles
            worst = max(walks.values(), key=lambda walk: walk.overhead_per_read)
            outcome.figures[f"{case.name}_reads"] = max(walk.reads for walk in walks.values())
            outcome.figures[f"{case.name}_overhead_per_read"] = round(worst.overhead_per_read, 3)
            outcome.notes.append(
                f"{case.name}: {worst.phases.start} cycles to the first read, {worst.phases.between} between reads, "
                f"{worst.phases.end} after the last"
            )
        return outcome

    async def _walk(self, session: Session, case: Case, latency: int) -> Walk:
        platform = session.platform()
        request = build(case, platform)
        await session.start(platform, latency)
        session.bench.memory.tracing = True
        session.bench.memory.clear_trace()
        timing = await session.run(request, outstanding=1)
        trace = session.bench.memory.trace()
        session.bench.memory.tracing = False
        return measure(timing, trace, latency)
