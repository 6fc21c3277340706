"""A workload inside the simulation: loads memory, programs the unit, sends requests, checks every answer."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from nestwalk.bus.memory import MemoryIds
from nestwalk.config import IommuConfig, preset

from ..errors import UserError
from ..rtl.build import UNIT
from ..rtl.driver import Driver, Queue
from ..rtl.memory import MemoryTiming
from ..rtl.run import Progress, run_in_simulation
from ..rtl.unit import Batch, Bench, Traffic
from .platform import Platform, Requests

__all__ = ["Outcome", "Session", "Timing", "Workload", "WrongAnswer", "measure_in_simulation"]

Cycles = np.ndarray

PARTS = ("4k", "2m", "1g")
"""Parts of the IOTLB."""

WARM_UP_PASSES = 8
"""Times that a working set is accessed before it is taken for what does not fit."""


class WrongAnswer(UserError):
    """The unit translated a request of a workload wrongly. Exit status 1."""

    exit_status = 1


@dataclass
class Outcome:
    """What a workload found.

    Attributes
    ----------
    figures : dict of str to float
        By the names of the benchmarks' reference, and some more.
    notes : list of str
        What a reader of the figures should know.
    histograms : dict of str to dict of int to int
        How often each number of cycles occurred.
    details : dict of str to dict of str to float
        Figures of each row of a sweep.
    counters : dict of str to int
        The unit's event counters in the end, see `nestwalk.counters.events`; of a workload at two ports that of the
        core.
    """

    figures: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    histograms: dict[str, dict[int, int]] = field(default_factory=dict)
    details: dict[str, dict[str, float]] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)

    def count(self, name: str, cycles: Iterable[int]) -> None:
        """Store the histogram of some numbers of cycles."""
        self.histograms[name] = dict(sorted(Counter(map(int, cycles)).items()))


@dataclass(frozen=True)
class Timing:
    """When requests were accepted and answered, in cycles, in the order of the requests."""

    accepted: Cycles
    answered: Cycles

    @property
    def latencies(self) -> Cycles:
        """Cycles from a request's acceptance to its valid response."""
        return self.answered - self.accepted

    @property
    def rate(self) -> float:
        """Requests per cycle, from the first acceptance to the last response."""
        return len(self.accepted) / float(self.answered.max() - self.accepted.min() + 1)


class Session:
    """The unit at work.

    Parameters
    ----------
    bench : Bench
        Just reset.
    preset_name : str
        Its configuration.
    seed : int
    name : str
        The workload, whose random numbers are its own.
    """

    def __init__(self, bench: Bench, preset_name: str, seed: int, name: str):
        self.bench = bench
        self.cfg: IommuConfig = preset(preset_name)
        self.seed = f"{seed} {name}"
        self.rng = np.random.default_rng(list(self.seed.encode()))
        self._driver = Driver(bench, self.cfg.fault_records)

    def platform(self) -> Platform:
        """An empty platform for this workload's seed."""
        return Platform(self.seed, self.cfg.haw)

    async def start(self, platform: Platform, latency: int) -> None:
        """Load the platform's memory, which answers after ``latency`` cycles, and let the unit use it with nothing
        cached."""
        while not self.bench.memory.idle:
            await self.bench.cycles(1)
        self.bench.memory.load(platform.memory.image())
        self.bench.memory.timing = MemoryTiming(latency=latency)
        await self.forget(platform)

    async def share(self, **sharing) -> None:
        """Set how devices and domains share the unit; see `Driver.share`."""
        await self._driver.share(**sharing)

    async def counters(self) -> dict[str, int]:
        """What the unit has counted since its reset, with the look-ups that follow from it."""
        counts = await self._driver.event_counts()
        if counts:
            structures = counts["pasid_cache_hits"] - counts["structure_cache_1_hits"]
            second = counts["guest_lookups"] - counts["nested_tlb_hits"]
            counts |= {
                "iotlb_misses": counts["iotlb_lookups"] - sum(counts[f"iotlb_{size}_hits"] for size in PARTS),
                "pasid_cache_lookups": counts["walks"],
                "context_cache_lookups": counts["walks"] - counts["pasid_cache_hits"],
                "structure_cache_1_lookups": counts["pasid_cache_hits"],
                "structure_cache_2_lookups": structures,
                "nested_tlb_lookups": counts["guest_lookups"],
                "second_stage_cache_1_lookups": second,
                "second_stage_cache_2_lookups": second - counts["second_stage_cache_1_hits"],
            }
        return counts

    async def forget(self, platform: Platform) -> None:
        """Set the root pointer anew, with which every cache is emptied."""
        await self._driver.set_root(platform.tables.state)

    async def start_queue(self, platform: Platform) -> Queue:
        """The invalidation queue; once in a session, memory stays loaded from then on."""
        return await self._driver.start_queue(platform.space.unused(3), wide=True)

    def submit(self, requests: Requests, lane: int = 0, *, outstanding: int = 0) -> Batch:
        """Send requests, ``outstanding`` at once (0: as many as there are tags), without waiting."""
        self.bench.set_traffic(Traffic(max_outstanding=outstanding), lane)
        return self.bench.submit(requests.records, lane)

    async def finish(self, batch: Batch, requests: Requests) -> Timing:
        """Wait for a batch's answers, those of cancelled requests excepted, and check them.

        Raises
        ------
        WrongAnswer
        """
        answers = await batch
        sent = answers["answered"] == 1
        answers = answers[sent]
        wrong = (answers["granted"] == 0) | (answers["address"] != requests.hosts[sent])
        if wrong.any():
            number = int(np.flatnonzero(wrong)[0])
            record, answer = requests.records[sent][number], answers[number]
            got = f"{answer['address']:#x}" if answer["granted"] else f"fault {answer['fault']:02x}h"
            raise WrongAnswer(
                f"request {record['source_id']:04x}:{record['pasid']} {record['address']:#x} got {got}, not "
                f"{requests.hosts[sent][number]:#x}; {wrong.sum()} of {len(answers)} answers are wrong"
            )
        return Timing(answers["accept_cycle"].astype(np.int64), answers["response_cycle"].astype(np.int64))

    async def run(self, requests: Requests, *, outstanding: int = 0) -> Timing:
        """Send requests, wait and check; see `submit` and `finish`."""
        return await self.finish(self.submit(requests, outstanding=outstanding), requests)

    async def check_blocked(self, requests: Requests) -> None:
        """Send requests none of which may be granted.

        Raises
        ------
        WrongAnswer
        """
        answers = await self.bench.translate(requests.records)
        granted = np.flatnonzero(answers["granted"])
        if len(granted):
            record = requests.records[granted[0]]
            raise WrongAnswer(
                f"request {record['source_id']:04x}:{record['pasid']} {record['address']:#x} was granted after its "
                f"invalidation; {len(granted)} of {len(answers)} were"
            )

    async def warm_up(self, requests: Requests) -> bool:
        """Send requests again and again until none of them makes the unit read; whether that came to be."""
        for _ in range(WARM_UP_PASSES):
            before = self.reads
            await self.run(requests)
            if self.reads == before:
                return True
        return False

    def report(self, done: int, total: int, what: str) -> None:
        """Tell the program outside how far the workload is."""
        self.bench.report_progress(done, total, what)

    @property
    def reads(self) -> int:
        """Table reads of the unit so far."""
        memory = self.bench.memory
        return memory.reads - memory.reads_of(MemoryIds(self.cfg).queue)


@dataclass(frozen=True)
class Workload(ABC):
    """One row of the benchmarks. The fields of each are its sizes, those of the reference by default."""

    name: ClassVar[str]

    def measure(self, preset_name: str, seed: int, told: Progress | None = None, *, unit: str = UNIT) -> Outcome:
        """Run it in a simulation of its own.

        Parameters
        ----------
        preset_name : str
            Configuration of the unit.
        seed : int
            Of pages, PASIDs and orders.
        told : callable, optional
            Told what is done, of how much, and what.
        unit : str
            The component, ``package.module:Class``, with the core's ports.

        Raises
        ------
        WrongAnswer
            When the unit translates a request wrongly.
        SimulationFailed
            When it breaks a protocol or stops.
        """
        target = f"{__name__}:{measure_in_simulation.__name__}"
        return run_in_simulation(preset(preset_name), target, self, preset_name, seed, unit=unit, progress=told)

    @abstractmethod
    async def run(self, session: Session) -> Outcome:
        """What happens inside the simulation."""


async def measure_in_simulation(bench: Bench, workload: Workload, preset_name: str, seed: int) -> Outcome:
    """The coroutine that runs inside the simulation."""
    session = Session(bench, preset_name, seed, workload.name)
    outcome = await workload.run(session)
    outcome.counters = await session.counters()
    return outcome
