"""What one device does to another: `hit_under_miss` and `noisy_neighbour`."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from nestwalk.bus.sharing import PARTITIONS

from .platform import GIB, Requests
from .session import Outcome, Session, Workload

__all__ = ["HitUnderMiss", "NoisyNeighbour"]

VICTIM, AGGRESSOR = 0, 1
"""Lanes of the requests; lanes that have something to send take turns."""

LATENCY = 100


class Contest(NamedTuple):
    """Two devices at once.

    Parameters
    ----------
    rate : float
        Requests of the victim answered per cycle.
    left : float
        Slots per cycle that the aggressor left it: one per cycle less the aggressor's accepted requests.
    latencies : array
        Cycles that each of the victim's requests took.
    """

    rate: float
    left: float
    latencies: np.ndarray

    @property
    def share(self) -> float:
        """The victim's requests per slot that was left to it."""
        return self.rate / self.left


async def compete(
    session: Session, victim: Requests, aggressor: Requests, outstanding: int, cycles: int, *, ahead: int = 0
) -> Contest:
    """Send the victim's requests while the aggressor has ``outstanding`` requests in flight all the time.

    With ``ahead``, what is measured begins when both are at it and so many of the aggressor's requests are answered.

    Raises
    ------
    ValueError
        When one of them has too few requests for so many cycles.
    """
    attack = session.submit(aggressor, AGGRESSOR, outstanding=outstanding)
    await session.bench.cycles(20 * LATENCY)
    defence = session.submit(victim, VICTIM)
    while attack.answered < min(ahead, len(aggressor)):
        await session.bench.cycles(1000)
    start = session.bench.now()
    await session.bench.cycles(cycles)
    stop = session.bench.now()
    defence.cancel()
    attack.cancel()
    suffered, attacked = await session.finish(defence, victim), await session.finish(attack, aggressor)
    if len(attacked.accepted) == len(aggressor) or len(suffered.accepted) == len(victim):
        raise ValueError(f"too few requests for {cycles} cycles")
    measured = (suffered.answered >= start) & (suffered.answered < stop)
    accepted = np.count_nonzero((attacked.accepted >= start) & (attacked.accepted < stop))
    return Contest(np.count_nonzero(measured) / cycles, 1 - accepted / cycles, suffered.latencies[measured])


@dataclass(frozen=True)
class HitUnderMiss(Workload):
    """A device that hits beside one that misses with as many requests in flight as there are walk slots."""

    name: ClassVar[str] = "hit_under_miss"
    working_set: int = 64
    cycles: int = 32768
    misses: int = 8192

    async def run(self, session: Session) -> Outcome:
        """Requests per cycle relative to the slots that the misses left; also with four times as many in flight."""
        outcome = Outcome()
        slots = session.cfg.walk_slots
        for name, outstanding in (("requests_per_cycle", slots), ("requests_per_cycle_flooded", 4 * slots)):
            platform = session.platform()
            pages = platform.add_tenant().map_scattered(GIB, self.working_set)
            misses = platform.add_tenant().map_scattered(64 * GIB, self.misses)
            await session.start(platform, LATENCY)
            await session.warm_up(pages)
            asked = pages.take(session.rng.integers(len(pages), size=2 * self.cycles))
            contest = await compete(session, asked, misses, outstanding, self.cycles)
            outcome.figures[name] = round(contest.share, 4)
        return outcome


@dataclass(frozen=True)
class NoisyNeighbour(Workload):
    """A victim with a small working set beside an aggressor that touches a new page per request.

    What is measured begins when the aggressor's pages have filled the IOTLB. With partitioning off, nothing is limited;
    with it on, each of the two domains has half of the ways, and no device has more than three quarters of the walk
    slots.
    """

    name: ClassVar[str] = "noisy_neighbour"
    working_set: int = 64
    cycles: int = 65536
    ahead: int = 6144
    misses: int = 12288
    outstanding: int = 64

    async def run(self, session: Session) -> Outcome:
        """The victim's rate in the slots left to it, relative to its rate alone, and what its requests took."""
        outcome = Outcome()
        platform = session.platform()
        victim, aggressor = platform.add_tenant(), platform.add_tenant()
        pages = victim.map_scattered(GIB, self.working_set)
        misses = aggressor.map_scattered(64 * GIB, self.misses)
        asked = pages.take(session.rng.integers(len(pages), size=self.cycles + 64 * self.misses))
        ways = [0] * PARTITIONS
        ways[victim.domain_id % PARTITIONS], ways[aggressor.domain_id % PARTITIONS] = 0b0011, 0b1100
        settings = {"off": {}, "on": {"ways": ways, "walk_limit": session.cfg.walk_slots * 3 // 4}}
        for number, (name, sharing) in enumerate(settings.items()):
            session.report(number, len(settings), f"partitioning {name}")
            await session.start(platform, LATENCY)
            await session.share(**sharing)
            await session.warm_up(pages)
            alone = (await session.run(asked.take(np.arange(self.cycles)))).rate
            contest = await compete(session, asked, misses, self.outstanding, self.cycles, ahead=self.ahead)
            outcome.figures[f"victim_ratio_{name}"] = round(contest.share / alone, 4)
            outcome.figures[f"victim_latency_{name}"] = round(float(contest.latencies.mean()), 2)
            outcome.figures[f"victim_latency_worst_{name}"] = float(contest.latencies.max())
            outcome.figures[f"aggressor_requests_per_kcycle_{name}"] = round(1000 * (1 - contest.left), 2)
        return outcome
