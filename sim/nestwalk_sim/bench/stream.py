"""A device that reads memory from one end to the other: `stream`."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..memory import PAGE_SIZE
from .platform import MIB, Requests
from .session import Outcome, Session, Workload

__all__ = ["Stream", "sequential"]

LINE = 64
"""Bytes of a request."""


def sequential(pages: Requests) -> Requests:
    """A request for each line of each page."""
    lines = PAGE_SIZE // LINE
    requests = pages.take(np.repeat(np.arange(len(pages)), lines))
    offsets = np.tile(np.arange(lines, dtype=np.uint64) * LINE, len(pages))
    requests.records["address"] += offsets
    return Requests(requests.records, requests.hosts + offsets)


@dataclass(frozen=True)
class Stream(Workload):
    """Sequential 64-byte requests of one device over ``size`` bytes (a power of two), back to back."""

    name: ClassVar[str] = "stream"
    size: int = 64 * MIB
    latency: int = 100

    async def run(self, session: Session) -> Outcome:
        """From the first request on nothing is cached."""
        platform = session.platform()
        requests = sequential(platform.add_tenant().map_pages(self.size, range(self.size // PAGE_SIZE)))
        await session.start(platform, self.latency)
        before = session.reads
        timing = await session.run(requests)
        return Outcome(
            {
                "requests_per_cycle": round(timing.rate, 4),
                "reads_per_page": round((session.reads - before) / (self.size // PAGE_SIZE), 4),
            }
        )
