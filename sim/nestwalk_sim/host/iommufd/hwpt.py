"""Hardware page tables: of an address space, or a guest's on top of one, with the guest's invalidations."""

import errno
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Flag
from typing import TypeVar

from ..dirty import read_dirty, set_dirty_tracking
from ..domain import PagingDomain
from ..errors import IommuError, require
from ..ioasid import IoasidSet
from ..iommu_domain import IommuDomain
from ..nested_domain import NestedDomain
from ..vtd.entries import NestedFlags
from ..vtd.pages import PAGE_SIZE
from .context import IommufdContext, IommufdObject
from .fault import FaultQueue
from .ioas import Ioas

__all__ = [
    "Hwpt",
    "HwptFlags",
    "HwptNested",
    "HwptPaging",
    "PartialInvalidation",
    "VtdS1",
    "VtdS1Invalidate",
    "allocate_hwpt",
    "invalidate_each",
]

EVERYTHING = (1 << 64) - 1
VTD_S1 = 1
WIDEST = 48

Item = TypeVar("Item")


class HwptFlags(Flag):
    """Flags of `iommu_hwpt_alloc` (host-software reference 4.5)."""

    NONE = 0
    NEST_PARENT = 1 << 0
    DIRTY_TRACKING = 1 << 1
    FAULT_ID_VALID = 1 << 2
    PASID = 1 << 3


@dataclass(frozen=True, kw_only=True)
class VtdS1:
    """`iommu_hwpt_vtd_s1`: a guest's first stage, ``pgtbl_addr`` guest-physical, flags as in `NestedFlags`."""

    pgtbl_addr: int
    addr_width: int = WIDEST
    flags: int = 0
    reserved: int = 0


@dataclass(frozen=True, kw_only=True)
class VtdS1Invalidate:
    """`iommu_hwpt_vtd_s1_invalidate`: pages of the guest's first stage; ``npages`` of all ones and address 0 is all of
    it. Flag 0 is LEAF.
    """

    addr: int = 0
    npages: int = EVERYTHING
    flags: int = 0
    reserved: int = 0


class PartialInvalidation(IommuError):
    """An array of invalidations was refused from entry ``done`` on; those before it are complete."""

    def __init__(self, number: int, reason: str, done: int):
        super().__init__(number, reason)
        self.done = done


class Hwpt(IommufdObject):
    """What devices are attached to.

    ``domain`` is the address space below, ``fault`` where its page faults go, ``pasid`` whether devices that use PASIDs
    can have it; an ``auto`` one goes with its last device.
    """

    domain: IommuDomain
    fault: FaultQueue | None = None
    pasid = False
    auto = False


class HwptPaging(Hwpt):
    """Page tables that follow an address space. Make one with `create`."""

    def __init__(self, ioas: Ioas, domain: PagingDomain, flags: HwptFlags):
        self.ioas = ioas
        self.domain = self.second_stage = domain
        self.flags = flags
        self.pasid = HwptFlags.PASID in flags

    @classmethod
    async def create(cls, ioas: Ioas, flags: HwptFlags = HwptFlags.NONE, fault: FaultQueue | None = None):
        """Page tables with what the address space has now.

        Raises
        ------
        IommuError
            EOPNOTSUPP for dirty tracking that the unit does not have, ENOSPC, ENOMEM, EADDRINUSE.
        """
        iommu = ioas.context.iommu
        tracking = HwptFlags.DIRTY_TRACKING in flags
        require(not tracking or iommu.capabilities["SSADS"], "the unit tracks no dirty pages", errno.EOPNOTSUPP)
        owner = IoasidSet(f"ioas {ioas.id}")
        domain = await PagingDomain.create(iommu, owner, nest_parent=HwptFlags.NEST_PARENT in flags)
        try:
            await ioas.follow(domain)
        except IommuError:
            await domain.destroy()
            raise
        hwpt = cls(ioas, domain, flags)
        ioas.users += 1
        _use(hwpt, fault)
        return hwpt

    async def set_dirty_tracking(self, on: bool) -> None:
        """`IOMMU_HWPT_SET_DIRTY_TRACKING`; EOPNOTSUPP for a HWPT that was not made for it."""
        require(HwptFlags.DIRTY_TRACKING in self.flags, "the page table tracks no dirty pages", errno.EOPNOTSUPP)
        await set_dirty_tracking(self.second_stage, on)

    async def dirty_bitmap(
        self, iova: int, size: int, bitmap: bytearray, page_size: int, *, clear: bool = True
    ) -> None:
        """`IOMMU_HWPT_GET_DIRTY_BITMAP`: set a bit for each page of ``page_size`` bytes of the range that was written.

        Raises
        ------
        IommuError
            EINVAL for a range or a page size that makes no whole bits, or a bitmap that is too short.
        """
        fits = page_size >= PAGE_SIZE and not (iova | size) % page_size and size // page_size <= 8 * len(bitmap)
        require(fits, "the range does not fit the bitmap")
        for page in await read_dirty(self.second_stage, iova, size, clear=clear):
            bit = (page - iova) // page_size
            bitmap[bit // 8] |= 1 << bit % 8

    async def release(self) -> None:
        self.ioas.domains.remove(self.second_stage)
        await self.second_stage.destroy()
        self.ioas.users -= 1
        _unuse(self)


class HwptNested(Hwpt):
    """A guest's page tables on a parent."""

    def __init__(self, parent: HwptPaging, data: VtdS1, fault: FaultQueue | None = None):
        self.parent = parent
        self.domain = self.first_stage = NestedDomain(
            parent.second_stage, data.pgtbl_addr, data.addr_width, NestedFlags(data.flags)
        )
        self.pasid = True
        parent.users += 1
        _use(self, fault)

    async def release(self) -> None:
        self.first_stage.release()
        self.parent.users -= 1
        _unuse(self)

    async def invalidate(self, requests: Sequence[VtdS1Invalidate]) -> int:
        """`IOMMU_HWPT_INVALIDATE`: the guest changed its tables and says where; complete when it returns.

        Returns
        -------
        int
            How many were processed: all.

        Raises
        ------
        PartialInvalidation
            EINVAL or EOPNOTSUPP for a malformed request, or what the unit raises; the count of those done is in it.
        """
        return await invalidate_each(requests, self._invalidate)

    async def _invalidate(self, request: VtdS1Invalidate) -> None:
        require(not request.flags & ~1 and not request.reserved, "unknown flags", errno.EOPNOTSUPP)
        everything = request.npages == EVERYTHING
        require(request.addr % PAGE_SIZE == 0, f"{request.addr:#x} is no page")
        require(not everything or request.addr == 0, "all pages begin at address 0")
        size = min(request.npages * PAGE_SIZE, (1 << 64) - request.addr)
        await self.first_stage.flush(request.addr, size, leaf=bool(request.flags & 1))


async def invalidate_each(requests: Sequence[Item], invalidate: Callable[[Item], Awaitable[None]]) -> int:
    """Process an array in order; `PartialInvalidation` tells where it ended."""
    for done, request in enumerate(requests):
        try:
            await invalidate(request)
        except IommuError as error:
            raise PartialInvalidation(error.errno, str(error), done) from error
    return len(requests)


async def allocate_hwpt(
    context: IommufdContext,
    pt_id: int,
    flags: HwptFlags = HwptFlags.NONE,
    data_type: int = 0,
    data: VtdS1 | None = None,
    fault_id: int | None = None,
) -> Hwpt:
    """`IOMMU_HWPT_ALLOC`.

    Parameters
    ----------
    pt_id : int
        An address space for a paging HWPT, a parent for a nested one.
    data_type : int
        0 none, 1 VT-d first stage, which ``data`` is.

    Raises
    ------
    IommuError
        ENOENT for ids that stand for nothing, EINVAL for objects of a wrong kind and missing or malformed data,
        EOPNOTSUPP for what is unknown or cannot be combined, else as `HwptPaging.create` and `NestedDomain`.
    """
    known = HwptFlags.NEST_PARENT | HwptFlags.DIRTY_TRACKING | HwptFlags.FAULT_ID_VALID | HwptFlags.PASID
    require(not flags & ~known, "unknown flags", errno.EOPNOTSUPP)
    table = context.get(pt_id, IommufdObject)
    both = HwptFlags.NEST_PARENT | HwptFlags.FAULT_ID_VALID
    require(both not in flags, "a parent has no faults of its own", errno.EOPNOTSUPP)
    fault = None
    if HwptFlags.FAULT_ID_VALID in flags:
        require(fault_id is not None, "no fault queue is given", errno.ENOENT)
        fault = context.get(fault_id or 0, FaultQueue)
    if isinstance(table, Ioas):
        require(data_type == 0, "an address space has no data", errno.EOPNOTSUPP)
        return context.add(await HwptPaging.create(table, flags, fault))
    if not isinstance(table, HwptPaging):
        raise IommuError(errno.EINVAL, f"object {pt_id} is no parent")
    not_nested = HwptFlags.NEST_PARENT | HwptFlags.DIRTY_TRACKING
    require(not flags & not_nested, "a nested page table is no parent", errno.EOPNOTSUPP)
    require(data_type, "a nested page table needs data")
    require(data_type == VTD_S1, f"data type {data_type} is unknown", errno.EOPNOTSUPP)
    if data is None:
        raise IommuError(errno.EFAULT, "no data is given")
    require(HwptFlags.NEST_PARENT in table.flags, "the page table was not made for nesting")
    bits = NestedFlags.SRE | NestedFlags.EAFE | NestedFlags.WPE
    require(not data.flags & ~bits.value and not data.reserved, "unknown flags", errno.EOPNOTSUPP)
    return context.add(HwptNested(table, data, fault))


def _use(hwpt: Hwpt, fault: FaultQueue | None) -> None:
    """Faults of what is attached to it go to this queue."""
    hwpt.fault = fault
    if fault is not None:
        fault.users += 1
        hwpt.domain.fault_handler = fault


def _unuse(hwpt: Hwpt) -> None:
    if hwpt.fault is not None:
        hwpt.fault.users -= 1
