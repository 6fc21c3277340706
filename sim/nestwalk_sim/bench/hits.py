"""What hits take, at the core port and at the AXI ports: `hit_latency` and `hit_throughput`."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..model import Access
from ..rtl.build import UNIT
from ..rtl.run import Progress
from .hardware.axi_port import AXI_PORT, AxiPort
from .platform import MIB, Requests
from .session import Outcome, Session, Timing, Workload

__all__ = ["HitLatency", "HitThroughput"]


@dataclass(frozen=True)
class _Hits(Workload):
    """Requests to pages of some tenants, all of them cached."""

    contexts: int = 16
    pages: int = 64
    requests: int = 4096

    def measure(self, preset_name: str, seed: int, told: Progress | None = None, *, unit: str = UNIT) -> Outcome:
        """At the core port, then at the AXI ports; errors as for the other workloads."""
        core = super().measure(preset_name, seed, told, unit=unit)
        axi = super().measure(preset_name, seed, told, unit=AXI_PORT)
        return self.joined(core, axi)

    async def run(self, session: Session) -> Outcome:
        """Access everything until nothing misses, then measure."""
        platform = session.platform()
        tenants = [platform.add_tenant().map_scattered(256 * MIB, self.pages) for _ in range(self.contexts)]
        pages = Requests.gather(tenants)
        await session.start(platform, latency=30)
        settled = await session.warm_up(pages)
        requests = pages.take(session.rng.integers(len(pages), size=self.requests))
        requests.records["access"] = session.rng.choice([Access.READ, Access.WRITE], size=self.requests)
        outcome = self.figures(await self.send(session, requests))
        if not settled:
            outcome.notes.append("some pages of the working set were never cached at the same time")
        return outcome

    @abstractmethod
    async def send(self, session: Session, requests: Requests) -> Timing:
        """Send the requests."""

    @abstractmethod
    def figures(self, timing: Timing) -> Outcome:
        """What is measured."""

    @abstractmethod
    def joined(self, core: Outcome, axi: Outcome) -> Outcome:
        """The figures of both ports by their names."""


@dataclass(frozen=True)
class HitLatency(_Hits):
    """Hits one by one: cycles from the acceptance of a request to its valid response, or from address to address."""

    name: ClassVar[str] = "hit_latency"

    async def send(self, session: Session, requests: Requests) -> Timing:
        return await session.run(requests, outstanding=1)

    def figures(self, timing: Timing) -> Outcome:
        return Outcome({"cycles": float(np.median(timing.latencies)), "cycles_worst": float(timing.latencies.max())})

    def joined(self, core: Outcome, axi: Outcome) -> Outcome:
        figures = {f"core_{name}": value for name, value in core.figures.items()}
        figures |= {f"axi_{name}": value - AxiPort.DELAY for name, value in axi.figures.items()}
        return Outcome(figures, core.notes + axi.notes, counters=core.counters)


@dataclass(frozen=True)
class HitThroughput(_Hits):
    """Hits back to back, reads and writes mixed."""

    name: ClassVar[str] = "hit_throughput"

    async def send(self, session: Session, requests: Requests) -> Timing:
        return await session.run(requests)

    def figures(self, timing: Timing) -> Outcome:
        return Outcome({"requests_per_cycle": round(timing.rate, 4)})

    def joined(self, core: Outcome, axi: Outcome) -> Outcome:
        figures = {**core.figures, **{f"axi_{name}": value for name, value in axi.figures.items()}}
        return Outcome(figures, core.notes + axi.notes, counters=core.counters)
