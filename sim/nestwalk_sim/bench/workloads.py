"""All workloads by name, in their full sizes and in small ones."""

from .cold_walk import CASES, ColdWalk
from .hits import HitLatency, HitThroughput
from .interference import HitUnderMiss, NoisyNeighbour
from .invalidation import BindChurn, InvalidateUnderLoad
from .platform import MIB
from .races.workload import Races
from .session import Workload
from .simulator import Simulator
from .stream import Stream
from .tenants import Tenants
from .walks import WalksInFlight, WarmWalk

__all__ = ["LONG", "QUICK", "WORKLOADS"]


def _by_name(*workloads: Workload) -> dict[str, Workload]:
    return {workload.name: workload for workload in workloads}


WORKLOADS = _by_name(
    HitLatency(),
    HitThroughput(),
    ColdWalk(),
    WarmWalk(),
    Stream(),
    Tenants(),
    HitUnderMiss(),
    WalksInFlight(),
    InvalidateUnderLoad(),
    BindChurn(),
    NoisyNeighbour(),
    Simulator(),
    Races(),
)
"""As the reference describes them."""

LONG = {"races"}
"""Those that take much longer than all others together, and are run when asked for by name."""

QUICK = _by_name(
    HitLatency(requests=512),
    HitThroughput(),
    ColdWalk(CASES, latencies=(30,)),
    WarmWalk(warm_up=256, pages=512),
    Stream(size=MIB // 2),
    Tenants(counts=(1, 64), latencies=(30,), requests=2048),
    HitUnderMiss(cycles=4096, misses=1024),
    WalksInFlight(warm_up=64, pages=128),
    InvalidateUnderLoad(rounds=64, latencies=(30,)),
    BindChurn(rounds=8),
    NoisyNeighbour(cycles=4096, ahead=512, misses=2048),
    Simulator(pages=64, requests=256, repetitions=4),
    Races(sample=0.001, pages=1024),
)
"""For a quick look: the same, too short for the figures to be quoted."""
