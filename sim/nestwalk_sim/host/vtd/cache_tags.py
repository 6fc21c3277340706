"""Cache tags: under which tags, in which devices, translations of one domain may be cached, and how ranges of it are
flushed from there (S10, R6 to R8).
"""

from collections import Counter
from dataclasses import dataclass
from enum import Enum

from ..device import Device
from ..log import Trace
from .descriptors import (
    Descriptor,
    DeviceTlbInvalidate,
    IotlbInvalidate,
    PasidDeviceTlbInvalidate,
    PasidIotlbInvalidate,
)
from .pages import PAGE_SIZE
from .unit import Iommu

__all__ = ["RID_PASID", "CacheTag", "CacheTags", "Stage", "aligned_cover", "device_tlb_flush", "first_stage_flush"]

RID_PASID = 0
"""PASID of requests without PASID."""

LARGEST_DEVICE_RANGE = 50
"""Ranges of so many address bits and more are flushed from a device TLB as a whole."""


class Stage(Enum):
    """What a domain's addresses are to the entries that carry a tag, which decides how they are flushed."""

    FIRST = "first"
    """Input addresses of a first stage: flushed by PASID."""
    SECOND = "second"
    """Input addresses of a second stage alone: flushed by domain identifier."""
    NESTED = "nested"
    """Addresses below a first stage: the entry's translations are cached under other addresses and go as a whole."""


@dataclass(frozen=True)
class CacheTag:
    """One PASID-table entry that uses a domain.

    Parameters
    ----------
    device, pasid : Device, int
        Where the entry is, and whose device TLB may hold translations.
    domain_id : int
        DID of the entry.
    stage : Stage
        What the domain's addresses are to it.
    """

    device: Device
    pasid: int
    domain_id: int
    stage: Stage


def aligned_cover(address: int, size: int) -> tuple[int, int]:
    """The smallest naturally aligned power of two of pages that holds a range.

    Returns
    -------
    tuple of int
        Its address and the address mask AM: 2^AM pages.
    """
    first, last = address // PAGE_SIZE, (address + max(size, 1) - 1) // PAGE_SIZE
    mask = (first ^ last).bit_length()
    return (first >> mask << mask) * PAGE_SIZE, mask


def device_tlb_flush(iommu: Iommu, device: Device, pasid: int, start: int = 0, mask: int = 64) -> list[Descriptor]:
    """What empties a range (by default all) of a PASID from the device's own cache.

    Nothing for a device that has none or is gone, nor while translation is off (R12, R14).
    """
    if not device.ats or not iommu.translating or iommu.state_of(device).gone:
        return []
    whole = mask + 12 >= LARGEST_DEVICE_RANGE
    where = () if whole else (start, mask)
    if pasid == RID_PASID:
        return [DeviceTlbInvalidate(device.source_id, *where)]
    return [PasidDeviceTlbInvalidate(device.source_id, pasid, *where)]


def first_stage_flush(iommu: Iommu, domain_id: int, pasid: int, start: int, mask: int, leaf: bool) -> Descriptor:
    """What forgets 2^``mask`` pages of a first stage, or all of it when the unit takes no such range; ``leaf`` keeps
    what is cached of non-leaf entries.
    """
    if mask > iommu.capabilities["MAMV"]:
        return PasidIotlbInvalidate(domain_id, pasid)
    return PasidIotlbInvalidate(domain_id, pasid, start, mask, leaf)


class CacheTags:
    """The entries that use one domain. A tag is assigned before its entry becomes present and taken away after the
    entry is torn down, so that no flush in between misses it.
    """

    def __init__(self, iommu: Iommu):
        self._iommu = iommu
        self._tags: Counter[CacheTag] = Counter()

    def __iter__(self):
        return iter(sorted(self._tags, key=lambda tag: (tag.domain_id, tag.device.source_id, tag.pasid)))

    def __len__(self) -> int:
        return self._tags.total()

    def assign(self, tag: CacheTag) -> None:
        """The entry is about to use the domain."""
        self._iommu.fail.reach("cache tag")
        self._tags[tag] += 1

    def unassign(self, tag: CacheTag) -> None:
        """The entry does not use it any more."""
        self._tags[tag] -= 1
        self._tags += Counter()

    async def flush(self, address: int, size: int, trace: Trace, *, leaf: bool = False, mapped: bool = False) -> None:
        """Forget a range of the domain everywhere, and return when nothing of it can be used any more.

        Parameters
        ----------
        leaf : bool
            Only last-level entries were changed.
        mapped : bool
            What changed was not present before: only the unit itself can have cached that (R8).
        """
        start, mask = aligned_cover(address, size)
        flush = [self._unit_flush(tag, start, mask, leaf) for tag in self]
        for tag in () if mapped else self:
            whole = tag.stage is Stage.NESTED
            flush += device_tlb_flush(self._iommu, tag.device, tag.pasid, *(() if whole else (start, mask)))
        if flush:
            await self._iommu.queue.submit_sync(list(dict.fromkeys(flush)), trace)

    def _unit_flush(self, tag: CacheTag, start: int, mask: int, leaf: bool) -> Descriptor:
        capabilities = self._iommu.capabilities
        if tag.stage is Stage.FIRST:
            return first_stage_flush(self._iommu, tag.domain_id, tag.pasid, start, mask, leaf)
        if tag.stage is Stage.SECOND and capabilities["PSI"] and mask <= capabilities["MAMV"]:
            return IotlbInvalidate(tag.domain_id, start, mask, leaf)
        return IotlbInvalidate(tag.domain_id)
