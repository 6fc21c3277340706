"""A guest's invalidations of its own first stage (S10, R6)."""

import errno
from dataclasses import dataclass
from enum import Flag, IntEnum
from typing import Protocol

from ..device import Device
from ..errors import IommuError, require
from ..ioasid import IoasidSet
from ..iopf import FaultHandler
from .cache_tags import CacheTags, aligned_cover, device_tlb_flush, first_stage_flush
from .descriptors import Descriptor, PasidIotlbInvalidate
from .page_tables import PageTable
from .pages import PAGE_SIZE
from .tables import TranslationType
from .unit import Iommu

__all__ = [
    "CacheInvalidateInfo",
    "CacheType",
    "Granularity",
    "SecondStageDomain",
    "sva_invalidate",
]


class SecondStageDomain(Protocol):
    """What the driver has to know of a domain that it nests on and flushes (see `PagingDomain`)."""

    iommu: Iommu
    table: PageTable
    domain_id: int
    owner: IoasidSet
    nest_parent: bool
    tags: CacheTags
    fault_handler: FaultHandler | None
    dirty_tracking: bool


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
    start, mask = 0, 64
    flush: list[Descriptor] = [PasidIotlbInvalidate(entry.domain_id, info.pasid)]
    if info.granularity == Granularity.ADDRESS:
        start, mask = aligned_cover(info.address, info.granule_size * info.granules)
        flush = [first_stage_flush(iommu, entry.domain_id, info.pasid, start, mask, info.leaf)]
    if info.cache == CacheType.DEVICE_IOTLB:
        flush.clear()
    await iommu.queue.submit_sync([*flush, *device_tlb_flush(iommu, device, info.pasid, start, mask)], trace)
