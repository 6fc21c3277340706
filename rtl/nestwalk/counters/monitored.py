"""The events that performance monitoring counts (§1.15), as data: the capabilities and the monitor are made from it."""

from dataclasses import dataclass

from amaranth.lib import data

from ..config import IommuConfig

__all__ = ["EVENT_GROUPS", "MonitoredEvent", "MonitoredEvents", "monitored_events"]

EVENT_GROUPS = 4
"""PERFCAP.EGCNT: groups 0 to 3; group 2, of caches of structures, has no events here."""


@dataclass(frozen=True)
class MonitoredEvent:
    """An event that a counter may be set to.

    Parameters
    ----------
    group, bit : int
        Its place: CNTRCFG.EGI, and the bit of CNTRCFG.ES.
    name : str
        Of the pulse.
    description : str
        One line for the documentation.
    """

    group: int
    bit: int
    name: str
    description: str


_ALWAYS = (
    MonitoredEvent(0, 0, "clocks", "clock cycles"),
    MonitoredEvent(0, 1, "requests", "requests of devices that the unit has accepted"),
    MonitoredEvent(1, 0, "memory_reads", "reads of the unit that memory has accepted, of all kinds"),
    MonitoredEvent(3, 0, "iotlb_lookups", "requests looked up in the IOTLB, each once"),
    MonitoredEvent(3, 1, "iotlb_hits", "those of them that the IOTLB has answered"),
)

_PAGE_REQUESTS = (MonitoredEvent(1, 6, "page_requests", "page requests put into their queue"),)


def monitored_events(cfg: IommuConfig) -> tuple[MonitoredEvent, ...]:
    """What a unit can count, at most two events of each group; nothing without performance monitoring."""
    if not cfg.performance_monitoring:
        return ()
    return tuple(sorted(_ALWAYS + (_PAGE_REQUESTS if cfg.page_requests else ()), key=lambda event: event.group))


class MonitoredEvents(data.StructLayout):
    """A pulse for each of them; ``clocks`` is none, as it is always high."""

    def __init__(self):
        super().__init__({event.name: 1 for event in (*_ALWAYS, *_PAGE_REQUESTS) if event.name != "clocks"})
