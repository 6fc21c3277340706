"""The events that are counted, as data: the counters, their registers' document and their readers are made from it."""

from dataclasses import dataclass

from amaranth.lib import data

__all__ = ["EVENTS", "Event", "Events"]


@dataclass(frozen=True)
class Event:
    """Something that is counted.

    Parameters
    ----------
    name : str
        Of the counter, and of the pulse that it counts.
    description : str
        One line for the documentation.
    """

    name: str
    description: str


def _cache(name: str, what: str, hits: str) -> tuple[Event, ...]:
    """Hits, fills and evictions of a cache."""
    return (
        Event(f"{name}_hits", hits),
        Event(f"{name}_fills", f"entries written to the {what}"),
        Event(f"{name}_evictions", f"valid entries of the {what} that others have replaced"),
    )


_ANSWERED = "look-ups answered by the IOTLB's part for"

_LOOKUP = (
    Event("iotlb_lookups", "requests looked up in the IOTLB, each once"),
    *_cache("iotlb_4k", "IOTLB's part for 4 KiB pages", f"{_ANSWERED} 4 KiB pages"),
    *_cache("iotlb_2m", "IOTLB's part for 2 MiB pages", f"{_ANSWERED} 2 MiB pages"),
    *_cache("iotlb_1g", "IOTLB's part for 1 GiB pages", f"{_ANSWERED} 1 GiB pages"),
    Event("misses_merged", "times that a miss has waited for the walk of another one"),
    Event("prefetches", "pages looked up ahead of a stream of accesses"),
    Event("prefetches_cached", "pages looked up ahead that the IOTLB had"),
    Event("prefetches_dropped", "others that were being walked for already, or had no slot"),
)

_WALK = (
    Event("walks", "walks begun"),
    *_cache("pasid_cache", "PASID cache", "walks that began with a cached PASID-table entry"),
    *_cache("context_cache", "context cache", "walks that began with a cached context entry instead"),
    *_cache("structure_cache_1", "cache of level-1 tables", "walks that began at a cached level-1 table"),
    *_cache("structure_cache_2", "cache of level-2 tables", "walks that began at a cached level-2 table"),
    Event("guest_lookups", "guest-physical addresses that walks have looked up"),
    *_cache("nested_tlb", "nested TLB", "guest-physical addresses found in the nested TLB"),
    *_cache("second_stage_cache_1", "second-stage cache of level-1 tables", "others whose level-1 table was found"),
    *_cache("second_stage_cache_2", "second-stage cache of level-2 tables", "others whose level-2 table was found"),
    Event("line_buffer_lookups", "level-1 paging entries that walks have looked up in the line buffer"),
    Event("line_buffer_hits", "level-1 paging entries found in the line buffer"),
    Event("line_buffer_fills", "lines kept"),
    Event("reads", "reads of structures, paging entries and lines that memory has taken"),
    Event("faults", "requests that have faulted with a record"),
)

EVENTS: tuple[Event, ...] = (*_LOOKUP, *_WALK)
"""All events; the place is the number of the counter in every configuration."""


class Events(data.StructLayout):
    """A pulse for each of `EVENTS`."""

    def __init__(self):
        super().__init__({event.name: 1 for event in EVENTS})
