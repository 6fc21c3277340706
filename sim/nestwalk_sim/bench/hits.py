"""What hits take: `hit_latency` and `hit_throughput`."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .platform import MIB, Platform, Requests
from .session import Outcome, Session, Workload

__all__ = ["HitLatency", "HitThroughput"]


def working_set(platform: Platform, contexts: int, pages: int) -> Requests:
    """One read of each page of some tenants."""
    return Requests.gather([platform.add_tenant().map_scattered(256 * MIB, pages) for _ in range(contexts)])


@dataclass(frozen=True)
class HitLatency(Workload):
    """Hits one by one: cycles from the acceptance of a request to its valid response."""

    name: ClassVar[str] = "hit_latency"
    contexts: int = 16
    pages: int = 64
    requests: int = 4096

    async def run(self, session: Session) -> Outcome:
        """Warm up, then measure: the median, and the worst."""
        platform = session.platform()
        pages = working_set(platform, self.contexts, self.pages)
        await session.start(platform, latency=1)
        settled = await session.warm_up(pages)
        asked = pages.take(session.rng.integers(len(pages), size=self.requests))
        timing = await session.run(asked, outstanding=1)
        outcome = Outcome({"core_cycles": float(np.median(timing.latencies))})
        outcome.figures["core_cycles_worst"] = float(timing.latencies.max())
        return _conclude(outcome, settled)


@dataclass(frozen=True)
class HitThroughput(Workload):
    """Hits back to back over many pages of many tenants."""

    name: ClassVar[str] = "hit_throughput"
    contexts: int = 16
    pages: int = 64
    requests: int = 4096

    async def run(self, session: Session) -> Outcome:
        """Warm up, then measure."""
        platform = session.platform()
        pages = working_set(platform, self.contexts, self.pages)
        await session.start(platform, latency=30)
        settled = await session.warm_up(pages)
        timing = await session.run(pages.take(session.rng.integers(len(pages), size=self.requests)))
        outcome = Outcome({"requests_per_cycle": round(timing.rate, 4)})
        return _conclude(outcome, settled)


def _conclude(outcome: Outcome, settled: bool) -> Outcome:
    outcome.notes.append("the unit has no AXI front end yet: figures of the AXI ports are missing")
    if not settled:
        outcome.notes.append("some pages of the working set were never cached at the same time")
    return outcome
