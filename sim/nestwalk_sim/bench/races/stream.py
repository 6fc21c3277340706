"""Invalidations amid misses: reads and writes that all walk, for as long as there are any."""

import cocotb
import numpy as np

from ...host.vtd.descriptors import (
    ContextCacheInvalidate,
    Descriptor,
    IotlbInvalidate,
    PasidCacheInvalidate,
    PasidIotlbInvalidate,
)
from ...model import Access
from ...rtl.driver import Queue
from ..platform import GIB, Requests, Tenant
from ..session import Session, Timing

__all__ = ["BETWEEN", "invalidate_amid_misses"]

BETWEEN = (200, 1000)
"""Cycles between two invalidations."""

READS, WRITES = 0, 1
TENANTS = 4
LATENCY = 100
HANG_LIMIT = 50_000


def unrelated(rng: np.random.Generator, other: Tenant) -> list[Descriptor]:
    """An invalidation of something that no request uses."""
    address = int(rng.integers(1 << 35)) << 12
    choices: list[Descriptor] = [
        PasidIotlbInvalidate(other.domain_id, other.pasid, address),
        PasidIotlbInvalidate(other.domain_id, other.pasid),
        IotlbInvalidate(other.domain_id, address),
        IotlbInvalidate(other.domain_id),
        PasidCacheInvalidate(other.domain_id, other.pasid),
        ContextCacheInvalidate(other.source_id),
    ]
    return [choices[int(rng.integers(len(choices)))]]


def longest_gap(timing: Timing) -> int:
    """Cycles between two answers, at most."""
    return int(np.diff(np.sort(timing.answered)).max())


async def invalidate_amid_misses(session: Session, pages: int) -> dict[str, float]:
    """Access ``pages`` different pages in random order, half of them by writes, with an unrelated invalidation every
    200 to 1000 cycles; every answer is checked.

    Returns
    -------
    dict of str to float
        The number of invalidations, the longest time between two answers to reads, and to writes, and the longest wait.

    Raises
    ------
    Hang
        When there is no answer, or no status, for long.
    WrongAnswer
    """
    platform, rng = session.platform(), session.rng
    tenants = [platform.add_tenant() for _ in range(TENANTS)]
    other = platform.add_tenant()
    requests = Requests.gather([tenant.map_scattered(4 * GIB, pages // TENANTS) for tenant in tenants])
    await session.start(platform, LATENCY)
    queue = await session.start_queue(platform)
    session.bench.set_hang_limit(HANG_LIMIT)
    parts = {}
    for lane, numbers in zip((READS, WRITES), np.array_split(rng.permutation(len(requests)), 2), strict=True):
        part = requests.take(numbers)
        part.records["access"] = Access.WRITE if lane == WRITES else Access.READ
        parts[lane] = part, session.submit(part, lane)
    waits: list[int] = []
    disturbing = cocotb.start_soon(_disturb(session, queue, other, waits))
    timings = {lane: await session.finish(batch, part) for lane, (part, batch) in parts.items()}
    disturbing.cancel()
    return {
        "invalidations": len(waits),
        "longest_gap_reads": longest_gap(timings[READS]),
        "longest_gap_writes": longest_gap(timings[WRITES]),
        "longest_wait": max(waits),
    }


async def _disturb(session: Session, queue: Queue, other: Tenant, waits: list[int]) -> None:
    """Invalidations for ever; the cycles that each took go into ``waits``."""
    while True:
        await session.bench.cycles(int(session.rng.integers(*BETWEEN)))
        begun = session.bench.now()
        visible = await queue.submit(unrelated(session.rng, other), HANG_LIMIT)
        waits.append(visible - begun)
