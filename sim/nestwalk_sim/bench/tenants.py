"""Many tenants at random: `tenants`."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .platform import GIB, Platform, Requests
from .session import Outcome, Session, Workload

__all__ = ["Tenants", "lru_misses"]

COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


def lru_misses(sequence: np.ndarray, warm_up: int, capacity: int) -> float:
    """Share of accesses that a fully associative LRU cache misses, those of the warm-up not counted."""
    cached: OrderedDict[int, None] = OrderedDict()
    misses = 0
    for number, item in enumerate(sequence.tolist()):
        if item in cached:
            cached.move_to_end(item)
            continue
        misses += number >= warm_up
        cached[item] = None
        if len(cached) > capacity:
            cached.popitem(last=False)
    return misses / (len(sequence) - warm_up)


@dataclass(frozen=True)
class Tenants(Workload):
    """N PASIDs over 16 devices, two pages each, uniform random requests after warm-up.

    The devices belong to a guest each. A tenant's pages lie anywhere in its address space.
    """

    name: ClassVar[str] = "tenants"
    counts: tuple[int, ...] = COUNTS
    latencies: tuple[int, ...] = (30, 100)
    devices: int = 16
    pages: int = 2
    requests: int = 32768

    async def run(self, session: Session) -> Outcome:
        """The tenants of a smaller N are the first of a larger."""
        outcome = Outcome()
        platform = session.platform()
        pages = self._tenants(platform)
        runs = [(latency, count) for latency in self.latencies for count in self.counts]
        for number, (latency, count) in enumerate(runs):
            session.report(number, len(runs), f"{count} tenants, L = {latency}")
            name = f"{count}" + ("_L100" if latency == 100 else "" if latency == 30 else f"_L{latency}")
            await session.start(platform, latency)
            rate, warm, order = await self._measure(session, pages, count * self.pages)
            outcome.figures[f"requests_per_kcycle_{name}"] = round(rate, 2)
            if count * self.pages > session.cfg.iotlb_4k.entries:
                walk = await self._walk_alone(session, pages, count * self.pages)
                missed = lru_misses(order, warm, session.cfg.iotlb_4k.entries)
                bound = min(1000.0, 1000 * session.cfg.walk_slots / (missed * walk))
                outcome.figures[f"bound_{name}"] = round(bound, 2)
                outcome.figures[f"share_of_bound_{name}"] = round(rate / bound, 4)
        return outcome

    def _tenants(self, platform: Platform) -> Requests:
        """The pages of all tenants, in the order of the tenants."""
        homes = [(platform.add_device(), platform.add_guest()) for _ in range(self.devices)]
        parts = []
        for number in range(max(self.counts)):
            tenant = platform.add_tenant(*homes[number % self.devices])
            parts += [tenant.map_scattered(GIB, 1) for _ in range(self.pages)]
        return Requests.gather(parts)

    async def _measure(self, session: Session, pages: Requests, used: int) -> tuple[float, int, np.ndarray]:
        """Requests per 1000 cycles over the first ``used`` pages, and which page each request was for."""
        warm = 4 * used
        order = np.concatenate(
            [session.rng.permutation(used), session.rng.integers(used, size=warm - used + self.requests)]
        )
        await session.run(pages.take(order[:warm]))
        timing = await session.run(pages.take(order[warm:]))
        return 1000 * timing.rate, warm, order

    async def _walk_alone(self, session: Session, pages: Requests, used: int) -> float:
        """Cycles of a miss while nothing else happens, right after the measurement."""
        timing = await session.run(pages.take(session.rng.integers(used, size=512)), outstanding=1)
        hit = timing.latencies.min()
        return float(timing.latencies[timing.latencies > 4 * hit].mean())
