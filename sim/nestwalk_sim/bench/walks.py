"""What walks take once paging structures are cached, and how many run at once: `warm_walk` and `walks_in_flight`."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..memory import PAGE_SIZE
from .platform import GIB, Platform, Requests
from .session import Outcome, Session, Workload

__all__ = ["WalksInFlight", "WarmWalk"]

LATENCY = 100


@dataclass(frozen=True)
class WarmWalk(Workload):
    """Reads for each page that was never accessed before, one request at a time.

    ``warm_up`` pages are accessed before counting, ``pages`` are counted.
    """

    name: ClassVar[str] = "warm_walk"
    warm_up: int = 2048
    pages: int = 4096

    async def run(self, session: Session) -> Outcome:
        """Sequential pages, random pages of 1 GiB, random pages of 64 GiB; each also with many requests at once."""
        outcome = Outcome()
        patterns = {
            "sequential": self._sequential,
            "random_1g": lambda platform: self._random(platform, GIB),
            "random_64g": lambda platform: self._random(platform, 64 * GIB),
        }
        for number, (name, pattern) in enumerate(patterns.items()):
            session.report(number, len(patterns), name)
            platform = session.platform()
            pages = pattern(platform)
            outcome.figures[f"{name}_reads"], latencies = await self._measure(session, platform, pages, 1)
            flooded, _ = await self._measure(session, platform, pages, session.cfg.walk_slots)
            outcome.figures[f"{name}_reads_at_once"] = flooded
            outcome.count(f"{name}_latency", latencies)
        return outcome

    def _sequential(self, platform: Platform) -> Requests:
        count = self.warm_up + self.pages
        return platform.add_tenant().map_pages(1 << (count * PAGE_SIZE - 1).bit_length(), range(count))

    def _random(self, platform: Platform, span: int) -> Requests:
        return platform.add_tenant().map_scattered(span, self.warm_up + self.pages)

    async def _measure(
        self, session: Session, platform: Platform, pages: Requests, outstanding: int
    ) -> tuple[float, np.ndarray]:
        """Reads per page, and the requests' latencies."""
        await session.start(platform, LATENCY)
        order = np.arange(len(pages))
        await session.run(pages.take(order[: self.warm_up]))
        before = session.reads
        timing = await session.run(pages.take(order[self.warm_up :]), outstanding=outstanding)
        return round((session.reads - before) / self.pages, 4), timing.latencies


@dataclass(frozen=True)
class WalksInFlight(Workload):
    """Misses only: walks per 1000 cycles with so many in flight as there are requests."""

    name: ClassVar[str] = "walks_in_flight"
    warm_up: int = 2048
    pages: int = 2048
    slots: tuple[int, ...] = (1, 4, 16)

    async def run(self, session: Session) -> Outcome:
        """Random pages of 64 GiB. The limit is slots / walk, a walk taking as long as when it is alone."""
        outcome = Outcome()
        platform = session.platform()
        pages = platform.add_tenant().map_scattered(64 * GIB, self.warm_up + self.pages)
        order = np.arange(len(pages))
        alone = 0.0
        for number, slots in enumerate(self.slots):
            session.report(number, len(self.slots), f"{slots} at once")
            await session.start(platform, LATENCY)
            await session.run(pages.take(order[: self.warm_up]))
            timing = await session.run(pages.take(order[self.warm_up :]), outstanding=slots)
            rate = 1000 * timing.rate
            outcome.figures[f"walks_per_kcycle_{slots}"] = round(rate, 4)
            if slots == 1:
                alone = float(timing.latencies.mean())
            outcome.figures[f"efficiency_{slots}"] = round(rate * alone / (1000 * slots), 4)
            outcome.count(f"latency_{slots}", timing.latencies)
        return outcome
