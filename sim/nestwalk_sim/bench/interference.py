"""What one device does to another: `hit_under_miss` and `noisy_neighbour`."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

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
    """

    rate: float
    left: float

    @property
    def share(self) -> float:
        """The victim's requests per slot that was left to it."""
        return self.rate / self.left


async def compete(session: Session, victim: Requests, aggressor: Requests, outstanding: int, cycles: int) -> Contest:
    """Send the victim's requests while the aggressor has ``outstanding`` requests in flight all the time.

    Raises
    ------
    ValueError
        When one of them has too few requests for so many cycles.
    """
    attack = session.submit(aggressor, AGGRESSOR, outstanding=outstanding)
    await session.bench.cycles(20 * LATENCY)
    defence = session.submit(victim, VICTIM)
    start = session.bench.now()
    await session.bench.cycles(cycles)
    stop = session.bench.now()
    defence.cancel()
    attack.cancel()
    suffered, attacked = await session.finish(defence, victim), await session.finish(attack, aggressor)
    if len(attacked.accepted) == len(aggressor) or len(suffered.accepted) == len(victim):
        raise ValueError(f"too few requests for {cycles} cycles")
    answered = np.count_nonzero((suffered.answered >= start) & (suffered.answered < stop))
    accepted = np.count_nonzero((attacked.accepted >= start) & (attacked.accepted < stop))
    return Contest(answered / cycles, 1 - accepted / cycles)


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
    """A victim with a small working set beside an aggressor that touches a new page per request."""

    name: ClassVar[str] = "noisy_neighbour"
    working_set: int = 64
    cycles: int = 32768
    misses: int = 8192
    outstanding: int = 64

    async def run(self, session: Session) -> Outcome:
        """The victim's rate in the slots left to it, relative to its rate alone."""
        outcome = Outcome()
        platform = session.platform()
        pages = platform.add_tenant().map_scattered(GIB, self.working_set)
        misses = platform.add_tenant().map_scattered(64 * GIB, self.misses)
        asked = pages.take(session.rng.integers(len(pages), size=2 * self.cycles))
        await session.start(platform, LATENCY)
        await session.warm_up(pages)
        alone = (await session.run(asked)).rate
        contest = await compete(session, asked, misses, self.outstanding, self.cycles)
        outcome.figures["victim_ratio_off"] = round(contest.share / alone, 4)
        outcome.notes.append("victim_ratio_on: the unit has no partitioning yet")
        return outcome
