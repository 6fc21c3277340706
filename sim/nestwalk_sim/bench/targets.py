"""What the figures are measured against: physical limits, targets, and what the measured peer reaches.

The peer is zero-day-labs/riscv-iommu with 16 IOTLB entries (64 where said), on the same memory model; it handles one
request at a time.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple

from .cold_walk import CASES

__all__ = ["REFERENCES", "Reference", "Sense", "Verdict", "verdict_of"]


class Sense(Enum):
    """How a figure meets its target."""

    AT_LEAST = "≥"
    AT_MOST = "≤"
    EXACTLY = "="

    def holds(self, value: float, target: float) -> bool:
        """Whether a value meets the target."""
        if self is Sense.EXACTLY:
            return value == target
        return value >= target if self is Sense.AT_LEAST else value <= target


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What is known about one figure.

    Parameters
    ----------
    limit : float, optional
        What physics, or the workload itself, allows.
    target, stretch : float, optional
        What is to be reached, and what would be better still.
    sense : Sense
    peer : str
        What the measured peer reaches.
    """

    limit: float | None = None
    target: float | None = None
    stretch: float | None = None
    sense: Sense = Sense.AT_LEAST
    peer: str = ""


class Verdict(NamedTuple):
    """A figure against its target: None where there is no target."""

    met: bool | None
    text: str


PEER_TENANTS = {1: "333", 2: "333", 4: "333", 8: "333", 16: "333", 32: "28", 64: "10", 256: "6.8", 1024: "6.3"}
"""Requests per 1000 cycles of the peer at L = 30, single stage."""

CAPACITY = 1024
"""Tenants whose pages the IOTLB of DEFAULT holds."""


def _tenants() -> Iterator[tuple[str, Reference]]:
    for count in (2**power for power in range(13)):
        target = 900.0 if count <= CAPACITY else None
        for suffix in ("", "_L100"):
            peer = PEER_TENANTS.get(count, "") if not suffix else ""
            yield f"requests_per_kcycle_{count}{suffix}", Reference(limit=1000, target=target, peer=peer)
    for suffix in ("", "_L100"):
        yield f"share_of_bound_4096{suffix}", Reference(limit=1, target=0.8)


def _cold_walk() -> Iterator[tuple[str, Reference]]:
    for case in CASES:
        at_most = Sense.AT_MOST
        yield f"{case.name}_L30_cycles", Reference(limit=30 * case.reads, sense=at_most)
        yield f"{case.name}_reads", Reference(limit=case.reads, target=case.reads, sense=Sense.EXACTLY)
        peer = "1.2–1.9" if case.first and case.second else ""
        yield f"{case.name}_overhead_per_read", Reference(limit=0, target=4, stretch=2, sense=at_most, peer=peer)


def _races() -> Iterator[tuple[str, Reference]]:
    none = Reference(limit=0, target=0, sense=Sense.EXACTLY)
    yield "rows", Reference()
    for port in ("core", "axi"):
        yield f"{port}_timings", Reference()
        yield f"{port}_stale", replace(none, peer="0–67 % of a row")
        yield f"{port}_mixed", none
        yield f"{port}_hung", replace(none, peer="1–3 of a row")
        yield f"{port}_stream_invalidations", Reference(peer="stops after 70–83")
        for kind in ("reads", "writes"):
            yield f"{port}_stream_longest_gap_{kind}", Reference(peer="for ever" if kind == "writes" else "")
        yield f"{port}_stream_longest_wait", Reference()


REFERENCES: dict[str, dict[str, Reference]] = {
    "hit_latency": {
        "core_cycles": Reference(limit=1, target=6, stretch=4, sense=Sense.AT_MOST),
        "axi_cycles": Reference(limit=1, target=8, stretch=6, sense=Sense.AT_MOST, peer="2 (20 MHz)"),
    },
    "hit_throughput": {
        "requests_per_cycle": Reference(limit=1, target=0.99, peer="0.333"),
        "axi_requests_per_cycle": Reference(limit=1, target=0.99, peer="0.333"),
    },
    "cold_walk": dict(_cold_walk()),
    "warm_walk": {
        "sequential_reads": Reference(limit=0.25, target=0.3, sense=Sense.AT_MOST, peer="15"),
        "random_1g_reads": Reference(limit=2, target=2.2, sense=Sense.AT_MOST, peer="15"),
        "random_64g_reads": Reference(limit=5, target=6, sense=Sense.AT_MOST, peer="15"),
    },
    "stream": {"requests_per_cycle": Reference(limit=1, target=0.95, peer="0.04")},
    "tenants": dict(_tenants()),
    "hit_under_miss": {"requests_per_cycle": Reference(limit=1, target=0.95, peer="0")},
    "walks_in_flight": {
        "walks_per_kcycle_1": Reference(peer="one in flight"),
        "walks_per_kcycle_4": Reference(),
        "walks_per_kcycle_16": Reference(),
        "efficiency_4": Reference(limit=1, target=0.9),
        "efficiency_16": Reference(limit=1, target=0.9),
    },
    "invalidate_under_load": {
        "requests_per_cycle": Reference(limit=1, target=0.9, peer="drains"),
        "wait_cycles": Reference(target=4 * 100 + 40, sense=Sense.AT_MOST),
        "requests_per_cycle_L30": Reference(limit=1, target=0.9, peer="drains"),
        "wait_cycles_L30": Reference(target=4 * 30 + 40, sense=Sense.AT_MOST),
    },
    "bind_churn": {
        "binds_per_mcycle": Reference(),
        "tenant_requests_per_cycle": Reference(limit=1, target=0.95),
    },
    "noisy_neighbour": {
        "victim_ratio_off": Reference(limit=1),
        "victim_ratio_on": Reference(limit=1, target=0.9),
    },
    "simulator": {
        "cycles_per_second": Reference(),
        "translations_per_second": Reference(),
        "ratio": Reference(target=5),
    },
    "races": dict(_races()),
}
"""By workload and figure, in the order in which they are shown."""


def verdict_of(value: float | None, reference: Reference) -> Verdict:
    """Whether a figure meets its target, and by how much not."""
    target, sense = reference.target, reference.sense
    if target is None:
        return Verdict(None, "")
    if value is None:
        return Verdict(False, "missed: not measured")
    if sense.holds(value, target):
        beyond = reference.stretch is not None and sense.holds(value, reference.stretch)
        return Verdict(True, "met, stretch too" if beyond else "met")
    share = f" ({abs(value - target) / abs(target):.0%})" if target else ""
    return Verdict(False, f"missed by {abs(value - target):.4g}{share}")
