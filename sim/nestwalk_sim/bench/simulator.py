"""How fast the simulation itself is: `simulator`."""

from dataclasses import dataclass
from time import perf_counter
from typing import ClassVar

import numpy as np

from nestwalk.config import preset

from ..rtl.build import UNIT
from ..rtl.run import Progress
from .axi_ram import run_on_axi_ram
from .platform import GIB, Platform, Requests
from .session import Outcome, Session, Workload

__all__ = ["Simulator"]

LATENCY = 4
"""Of the memory in C++, about that of cocotbext-axi's."""


@dataclass(frozen=True)
class Simulator(Workload):
    """Hits and misses of one tenant on the bench in C++, and the same on cocotbext-axi's AxiRam with the requests
    driven in Python.

    Every repetition starts with empty caches.
    """

    name: ClassVar[str] = "simulator"
    pages: int = 256
    requests: int = 2048
    repetitions: int = 16

    def measure(self, preset_name: str, seed: int, told: Progress | None = None, *, unit: str = UNIT) -> Outcome:
        """Both simulations, one after the other; errors as for the other workloads."""
        ours = super().measure(preset_name, seed, told, unit=unit)
        cfg = preset(preset_name)
        platform = Platform(f"{seed} {self.name}", cfg.haw, compact=True)
        requests = self._traffic(platform)
        cycles, seconds = run_on_axi_ram(cfg, platform, requests)
        theirs = _speed(cycles, len(requests), seconds)
        return Outcome(
            {
                **ours.figures,
                **{f"axi_ram_{name}": value for name, value in theirs.items()},
                "ratio": round(min(ours.figures[name] / value for name, value in theirs.items()), 1),
            },
            ["the ratio is the smaller one of cycles and translations per second; wall time of this machine as it is"],
            counters=ours.counters,
        )

    async def run(self, session: Session) -> Outcome:
        """The part on the bench in C++."""
        platform = Platform(session.seed, session.cfg.haw, compact=True)
        requests = self._traffic(platform)
        await session.start(platform, LATENCY)
        began, first = perf_counter(), session.bench.now()
        for _ in range(self.repetitions):
            await session.forget(platform)
            await session.run(requests)
        count = self.repetitions * len(requests)
        return Outcome(_speed(session.bench.now() - first, count, perf_counter() - began))

    def _traffic(self, platform: Platform) -> Requests:
        """Uniform random requests to some pages of one tenant."""
        pages = platform.add_tenant().map_scattered(GIB, self.pages)
        return pages.take(np.array(platform.random.choices(range(self.pages), k=self.requests)))


def _speed(cycles: int, requests: int, seconds: float) -> dict[str, float]:
    return {"cycles_per_second": round(cycles / seconds), "translations_per_second": round(requests / seconds)}
