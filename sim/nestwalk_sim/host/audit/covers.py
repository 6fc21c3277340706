"""What a descriptor covers (§5.2, §5.3): predicates of its words."""

from collections.abc import Callable

from .monitor import WAIT, Words

__all__ = [
    "CONTEXT_CACHE",
    "DEVICE_TLB",
    "IOTLB",
    "PASID_CACHE",
    "PASID_DEVICE_TLB",
    "PASID_IOTLB",
    "Covers",
    "context",
    "device",
    "domain",
    "domain_pages",
    "drain",
    "everything",
    "pasid",
    "pasid_cache",
    "pasid_pages",
]

Covers = Callable[[Words], bool]
"""Whether a descriptor does what is asked for."""

CONTEXT_CACHE, IOTLB, DEVICE_TLB, PASID_IOTLB, PASID_CACHE, PASID_DEVICE_TLB = 1, 2, 3, 6, 7, 8
GLOBAL = {CONTEXT_CACHE: 1, IOTLB: 1, PASID_CACHE: 3}
"""G of a global invalidation, by type."""


def _kind(words: Words) -> int:
    return words[0] & 0xF


def _granularity(words: Words) -> int:
    return words[0] >> 4 & 3


def _domain(words: Words) -> int:
    return words[0] >> 16 & 0xFFFF


def _pasid(words: Words) -> int:
    return words[0] >> 32 & 0xFFFFF


def everything(kind: int) -> Covers:
    """A global invalidation of one cache."""
    return lambda words: _kind(words) == kind and _granularity(words) == GLOBAL[kind]


def context(source_id: int) -> Covers:
    """The context cache: one device, or more."""

    def covers(words: Words) -> bool:
        mine = _granularity(words) == 3 and words[0] >> 32 & 0xFFFF == source_id
        return _kind(words) == CONTEXT_CACHE and (mine or _granularity(words) == 1)

    return covers


def pasid_cache(domain_id: int, pasid: int) -> Covers:
    """The PASID cache: one PASID of a domain, or more."""

    def covers(words: Words) -> bool:
        mine = _domain(words) == domain_id and (_granularity(words) == 0 or _pasid(words) == pasid)
        return _kind(words) == PASID_CACHE and (_granularity(words) == 3 or mine)

    return covers


def domain(domain_id: int) -> Covers:
    """The IOTLB: a whole domain, or everything."""

    def covers(words: Words) -> bool:
        mine = _granularity(words) == 2 and _domain(words) == domain_id
        return _kind(words) == IOTLB and (_granularity(words) == 1 or mine)

    return covers


def pasid(domain_id: int, pasid: int) -> Covers:
    """The IOTLB: one PASID of a domain, or more."""

    def covers(words: Words) -> bool:
        mine = _domain(words) == domain_id and _pasid(words) == pasid and _granularity(words) == 2
        return (_kind(words) == PASID_IOTLB and mine) or domain(domain_id)(words)

    return covers


def _pages(words: Words, region: range, leaf: bool) -> bool:
    """Whether a page-selective range covers a region, for which a page of it is enough when a table went that had
    become empty; with the hint IH it keeps what is cached of tables.
    """
    size = 4096 << (words[1] & 0x3F)
    start = words[1] & -4096 & -size
    if not leaf:
        return not words[1] >> 6 & 1 and start < region.stop and region.start < start + size
    return start <= region.start and region.stop <= start + size


def domain_pages(domain_id: int, region: range, leaf: bool) -> Covers:
    """The IOTLB: pages of a domain's second stage, or more."""

    def covers(words: Words) -> bool:
        mine = _kind(words) == IOTLB and _granularity(words) == 3 and _domain(words) == domain_id
        return (mine and _pages(words, region, leaf)) or domain(domain_id)(words)

    return covers


def pasid_pages(domain_id: int, number: int, region: range, leaf: bool) -> Covers:
    """The IOTLB: pages of a PASID's first stage, or more."""

    def covers(words: Words) -> bool:
        mine = _domain(words) == domain_id and _pasid(words) == number and _granularity(words) == 3
        paged = _kind(words) == PASID_IOTLB and mine and _pages(words, region, leaf)
        return paged or pasid(domain_id, number)(words)

    return covers


def drain(words: Words) -> bool:
    """A wait that drains page requests."""
    return _kind(words) == WAIT and bool(words[0] >> 7 & 1)


def device(source_id: int, number: int, region: range | None) -> Covers:
    """A device's own cache: a region of a PASID (0: of what has none), or everything of it."""
    wanted = region or range((1 << 63) - 1)

    def covers(words: Words) -> bool:
        if number:
            mine = _kind(words) == PASID_DEVICE_TLB and words[0] >> 16 & 0xFFFF == source_id and _pasid(words) == number
            sized = words[1] >> 11 & 1
        else:
            mine = _kind(words) == DEVICE_TLB and words[0] >> 32 & 0xFFFF == source_id
            sized = words[1] & 1
        size = 4096
        while sized and words[1] & size:
            size <<= 1
        size <<= sized
        start = words[1] & -4096 & -size
        return mine and start <= wanted.start and wanted.stop <= start + size

    return covers
