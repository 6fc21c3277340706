"""Flushing what the unit has cached of page tables: R6 for a guest's first stage, R7 for the host's second stage
(S10).
"""

import errno
from dataclasses import dataclass
from enum import Flag, IntEnum
from typing import Protocol

from ..device import Device
from ..errors import IommuError, require
from ..ioasid import IoasidSet
from ..log import Trace
from .descriptors import Descriptor, IotlbInvalidate, PasidIotlbInvalidate
from .page_tables import PageTable
from .pages import PAGE_SIZE
from .pasid import RID_PASID, device_tlb_flush
from .tables import TranslationType
from .unit import Iommu

__all__ = [
    "CacheInvalidateInfo",
    "CacheType",
    "Granularity",
    "SecondStageDomain",
    "aligned_cover",
    "flush_pasid_range",
    "flush_second_stage",
    "sva_invalidate",
]


class SecondStageDomain(Protocol):
    """What the driver has to know of a domain that it nests on and flushes (see `PagingDomain`)."""

    iommu: Iommu
    table: PageTable
    domain_id: int
    owner: IoasidSet
    nest_parent: bool
    children: set[int]
    bound: list[tuple[Device, int]]
    devices: list[Device]


class CacheType(Flag):
    """Caches that a guest may ask to flush, as bits of the interface (host-software reference 4.2)."""

    NONE = 0
    IOTLB = 1 << 0
    DEVICE_IOTLB = 1 << 1
    PASID = 1 << 2


class Granularity(IntEnum):
    """How much is flushed."""

    DOMAIN = 0
    PASID = 1
    ADDRESS = 2


@dataclass(frozen=True, kw_only=True)
class CacheInvalidateInfo:
    """`iommu_cache_invalidate_info` of a request by a guest: which caches, how much, and of what.

    Parameters
    ----------
    cache : CacheType
        One or more caches.
    granularity : Granularity
        DOMAIN, PASID or ADDRESS.
    pasid : int
        The host PASID.
    address, granule_size, granules : int
        The range of an ADDRESS request, in bytes and a count.
    leaf : bool
        Only last-level entries were changed.
    argsz, version : int
        Size and version as the caller understands the interface.
    """

    cache: CacheType
    granularity: int
    pasid: int
    address: int = 0
    granule_size: int = PAGE_SIZE
    granules: int = 1
    leaf: bool = False
    argsz: int = 64
    version: int = 1
    SIZE = 64


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


async def flush_pasid_range(
    iommu: Iommu, device: Device, domain_id: int, pasid: int, address: int, size: int, leaf: bool, trace: Trace
) -> None:
    """R6: forget translations of a range of a PASID's first stage; ``leaf`` keeps what is cached of non-leaf
    entries.
    """
    start, mask = aligned_cover(address, size)
    flush: list[Descriptor] = [PasidIotlbInvalidate(domain_id, pasid, start, mask, leaf)]
    await iommu.queue.submit_sync([*flush, *device_tlb_flush(device, pasid)], trace)


async def flush_second_stage(
    domain: SecondStageDomain, address: int, size: int, trace: Trace, *, device_tlbs: bool = True
) -> None:
    """R7: forget translations through a range of the second stage, of the domain itself and of every entry nested on
    it.

    A nested translation is cached under guest-virtual addresses, so that the children are flushed as a whole.
    """
    iommu = domain.iommu
    start, mask = aligned_cover(address, size)
    if iommu.capabilities["PSI"] and mask <= iommu.capabilities["MAMV"]:
        flush: list[Descriptor] = [IotlbInvalidate(domain.domain_id, start, mask)]
    else:
        flush = [IotlbInvalidate(domain.domain_id)]
    flush += [IotlbInvalidate(child) for child in sorted(domain.children)]
    if device_tlbs:
        for device, pasid in [*((device, RID_PASID) for device in domain.devices), *domain.bound]:
            flush += device_tlb_flush(device, pasid)
    await iommu.queue.submit_sync(flush, trace)


def _check_info(info: CacheInvalidateInfo) -> None:
    """The interface's own rules, in its order (S10)."""

    require(info.argsz >= info.SIZE, f"argsz {info.argsz} is too short for the interface")
    require(info.version == 1, f"version {info.version} of the interface is unknown")
    known = CacheType.IOTLB | CacheType.DEVICE_IOTLB | CacheType.PASID
    require(info.cache and not info.cache & ~known, f"cache {info.cache.value:#x} is unknown")
    require(info.granularity in {known.value for known in Granularity}, f"granularity {info.granularity} is unknown")
    by_address, by_domain = info.granularity == Granularity.ADDRESS, info.granularity == Granularity.DOMAIN
    require(not (by_address and CacheType.PASID in info.cache), "the PASID cache has no addresses")
    require(not (by_domain and CacheType.DEVICE_IOTLB in info.cache), "a device TLB has no domains")
    # Legal but never done: Linux once answered success here and flushed nothing.
    require(not by_domain, "flushing a whole domain is not supported", errno.EOPNOTSUPP)
    require(CacheType.PASID not in info.cache, "the PASID cache is flushed by bind and unbind", errno.EOPNOTSUPP)
    alone = info.cache == CacheType.DEVICE_IOTLB and not by_address
    require(not alone, "a device TLB alone is flushed by address", errno.EOPNOTSUPP)


async def sva_invalidate(domain: SecondStageDomain, device: Device, info: CacheInvalidateInfo) -> None:
    """A guest changed its first stage and says so; returns when no stale translation can be used any more (R6).

    An entry that is not present has nothing cached: the call succeeds and nothing is queued.

    Raises
    ------
    IommuError
        EINVAL for a malformed request, EOPNOTSUPP for one that is legal but not done, ENODEV for a device that is not
        PCI, ENOENT or EACCES for a PASID that is not the domain's.
    """
    _check_info(info)
    if not domain.nest_parent:
        raise IommuError(errno.EINVAL, f"domain {domain.domain_id} was not made for nesting")
    if not device.pci:
        raise IommuError(errno.ENODEV, f"{device} is not a PCI device")
    iommu = domain.iommu
    iommu.ioasids.find(domain.owner, info.pasid)
    entry = await iommu.state_of(device).table.read(info.pasid)
    if not entry.present or entry.translation != TranslationType.NESTED:
        return
    trace = iommu.log.trace("sva_invalidate", "R6")
    if info.cache == CacheType.DEVICE_IOTLB:
        await iommu.queue.submit_sync(device_tlb_flush(device, info.pasid), trace)
    elif info.granularity == Granularity.PASID:
        flush: list[Descriptor] = [PasidIotlbInvalidate(entry.domain_id, info.pasid)]
        await iommu.queue.submit_sync([*flush, *device_tlb_flush(device, info.pasid)], trace)
    else:
        size = info.granule_size * info.granules
        await flush_pasid_range(iommu, device, entry.domain_id, info.pasid, info.address, size, info.leaf, trace)
