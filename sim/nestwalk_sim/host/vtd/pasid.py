"""Setting up and tearing down PASID-table entries (R2, R3, S06, S08; the fields as Linux writes them, §2.6)."""

import errno
from dataclasses import dataclass
from enum import Flag

from ..device import Device
from ..errors import IommuError, require
from ..log import Trace
from .descriptors import (
    Descriptor,
    DeviceTlbInvalidate,
    IotlbInvalidate,
    PasidCacheInvalidate,
    PasidDeviceTlbInvalidate,
    PasidIotlbInvalidate,
)
from .page_tables import PageTable
from .tables import PasidEntry, TranslationType
from .unit import Iommu

__all__ = [
    "FIRST_LEVEL_DOMAIN",
    "NestedFlags",
    "NestedRequest",
    "RID_PASID",
    "check_nested",
    "device_tlb_flush",
    "setup_first_level",
    "setup_nested",
    "setup_pass_through",
    "setup_second_level",
    "tear_down",
]

RID_PASID = 0
"""PASID of requests without PASID."""

FIRST_LEVEL_DOMAIN = 1
"""DID of pass-through entries and of first-stage entries that share the processor's tables."""

FIRST_STAGE_LEVELS = {48: 4, 57: 5}
"""Levels of a first-stage table for each address width that can be bound."""


class NestedFlags(Flag):
    """VT-d flags of `iommu_gpasid_bind_data` (host-software reference 4.1)."""

    NONE = 0
    SRE = 1 << 0
    EAFE = 1 << 1
    PCD = 1 << 2
    PWT = 1 << 3
    EMTE = 1 << 4
    CD = 1 << 5
    WPE = 1 << 6
    MEMORY_TYPE = PCD | PWT | EMTE | CD


async def _install(iommu: Iommu, device: Device, pasid: int, entry: PasidEntry, what: str, trace: Trace) -> None:
    """Write the entry, P last, and do what a new entry needs. If that fails the entry is torn down again (S07)."""
    table = iommu.state_of(device).table
    await table.install(pasid, entry)
    trace.step(f"PASID entry {pasid} of {device}: {what}, domain {entry.domain_id}")
    flush: list[Descriptor] = [
        PasidCacheInvalidate(entry.domain_id, pasid),
        PasidIotlbInvalidate(entry.domain_id, pasid),
    ]
    try:
        await iommu.settle_new_entry(flush, trace)
    except IommuError:
        await tear_down(iommu, device, pasid, trace.follow("R3"))
        raise


async def setup_first_level(iommu: Iommu, device: Device, pasid: int, table: PageTable, trace: Trace) -> None:
    """First-stage translation by tables in host memory.

    Raises
    ------
    IommuError
        EINVAL when the unit cannot do it, EBUSY for a present entry, ENOMEM.
    """
    require(iommu.capabilities["FSTS"], "the unit has no first-stage translation")
    require(table.levels == 4 or iommu.capabilities["FS5LP"], "the unit has no 5-level first stage")
    entry = PasidEntry(
        translation=TranslationType.FIRST_STAGE,
        domain_id=FIRST_LEVEL_DOMAIN,
        second_stage_levels=max(iommu.capabilities.second_stage_levels, default=4),
        first_stage_root=table.root,
        first_stage_levels=table.levels,
        walk_snoop=bool(iommu.capabilities["SMPWCS"]),
    )
    await _install(iommu, device, pasid, entry, f"first-stage root {table.root:#x}", trace)


async def setup_second_level(
    iommu: Iommu, device: Device, pasid: int, table: PageTable, domain_id: int, trace: Trace
) -> None:
    """Second-stage translation by the domain's tables.

    Raises
    ------
    IommuError
        EINVAL when the unit cannot do it or not at this depth, EBUSY for a present entry, ENOMEM.
    """
    require(iommu.capabilities["SSTS"], "the unit has no second-stage translation")
    levels = table.levels
    require(levels in iommu.capabilities.second_stage_levels, f"the unit has no {levels}-level second stage")
    entry = PasidEntry(
        translation=TranslationType.SECOND_STAGE,
        domain_id=domain_id,
        second_stage_levels=levels,
        second_stage_root=table.root,
        walk_snoop=bool(iommu.capabilities["SMPWCS"]),
    )
    await _install(iommu, device, pasid, entry, f"second-stage root {table.root:#x}", trace)


async def setup_pass_through(iommu: Iommu, device: Device, pasid: int, trace: Trace) -> None:
    """No translation: the request's address is the host address.

    Raises
    ------
    IommuError
        EINVAL when the unit cannot do it, EBUSY for a present entry, ENOMEM.
    """
    require(iommu.capabilities["PT"], "the unit has no pass-through")
    entry = PasidEntry(
        translation=TranslationType.PASS_THROUGH,
        domain_id=FIRST_LEVEL_DOMAIN,
        second_stage_levels=max(iommu.capabilities.second_stage_levels, default=4),
        walk_snoop=bool(iommu.capabilities["SMPWCS"]),
    )
    await _install(iommu, device, pasid, entry, "pass-through", trace)


@dataclass(frozen=True, kw_only=True)
class NestedRequest:
    """A guest's first stage to be put on top of its host's second stage.

    Parameters
    ----------
    root : int
        Guest-physical address of the guest's top first-stage table.
    address_width : int
        48 or 57 bits.
    flags : NestedFlags
        SRE, WPE, EAFE; memory-type flags are refused.
    parent : PageTable
        The second stage.
    nest_parent : bool
        Whether the parent's domain was made for nesting.
    """

    root: int
    address_width: int
    flags: NestedFlags
    parent: PageTable
    nest_parent: bool


async def check_nested(iommu: Iommu, device: Device, pasid: int, request: NestedRequest) -> None:
    """The checks of S06 in their order. What is left in an entry that is not present is cleared on the way.

    Raises
    ------
    IommuError
        EINVAL, or EBUSY for a present entry, which stays as it is.
    """
    capabilities, table, flags, parent = iommu.capabilities, iommu.state_of(device).table, request.flags, request.parent
    require(capabilities["NEST"], "the unit has no nested translation")
    require(request.nest_parent, "the domain was not made for nesting")
    require(not (await table.read(pasid)).present, f"PASID {pasid} of {device} is in use", errno.EBUSY)
    await table.clear(pasid)
    width, root = request.address_width, request.root
    require(width in FIRST_STAGE_LEVELS, f"a guest's address width is 48 or 57, not {width}")
    require(width == 48 or capabilities["FS5LP"], "the unit has no 5-level first stage")
    require(root < 1 << parent.width, f"guest table at {root:#x} lies beyond the {parent.width}-bit guest memory")
    require(root % 4096 == 0, f"guest table at {root:#x} is not page-aligned")
    require(NestedFlags.SRE not in flags or capabilities["SRS"], "the unit has no supervisor requests")
    supervisor = NestedFlags.SRE in flags and capabilities["SRS"]
    require(NestedFlags.WPE not in flags or supervisor, "write protection for supervisors needs supervisor requests")
    require(NestedFlags.EAFE not in flags or capabilities["EAFS"], "the unit has no extended accessed bit")
    require(not flags & NestedFlags.MEMORY_TYPE, "the unit has no memory types")
    require(parent.levels in capabilities.second_stage_levels, f"the unit has no {parent.levels}-level second stage")


async def setup_nested(
    iommu: Iommu, device: Device, pasid: int, request: NestedRequest, domain_id: int, trace: Trace
) -> None:
    """Write the nested entry, after the checks of S06, under a DID of its own.

    Raises
    ------
    IommuError
        As `check_nested`, or what a failing unit or allocation raises. The entry is not present and all zero then,
        unless it was present before (EBUSY).
    """
    iommu.fail.reach("nested entry")
    await check_nested(iommu, device, pasid, request)
    entry = PasidEntry(
        translation=TranslationType.NESTED,
        domain_id=domain_id,
        second_stage_levels=request.parent.levels,
        second_stage_root=request.parent.root,
        first_stage_root=request.root,
        first_stage_levels=FIRST_STAGE_LEVELS[request.address_width],
        walk_snoop=bool(iommu.capabilities["SMPWCS"]),
        supervisor=NestedFlags.SRE in request.flags,
        write_protect=NestedFlags.WPE in request.flags,
        extended_accessed=NestedFlags.EAFE in request.flags,
    )
    what = f"nested, guest table {request.root:#x} on second stage {request.parent.root:#x}"
    await _install(iommu, device, pasid, entry, what, trace)


def device_tlb_flush(device: Device, pasid: int) -> list[Descriptor]:
    """What empties the device's own cache of a PASID; nothing for a device that has none."""
    if not device.ats:
        return []
    if pasid == RID_PASID:
        return [DeviceTlbInvalidate(device.source_id)]
    return [PasidDeviceTlbInvalidate(device.source_id, pasid)]


async def tear_down(iommu: Iommu, device: Device, pasid: int, trace: Trace) -> PasidEntry | None:
    """R3: make the entry not present, flush every cache, then zero it. Never fails for "not there".

    An entry that an earlier attempt made not present, but could not flush, is flushed and zeroed now.

    Returns
    -------
    PasidEntry or None
        The entry as it was found; None when there was none.
    """
    table = iommu.state_of(device).table
    entry = await table.read(pasid)
    if entry.present:
        await table.hide(pasid)
        trace.step(f"PASID entry {pasid} of {device}: P=0")
    elif not entry.translation:
        await table.clear(pasid)
        return None
    with_second_stage = entry.translation in (TranslationType.SECOND_STAGE, TranslationType.NESTED)
    flush: list[Descriptor] = [
        PasidCacheInvalidate(entry.domain_id, pasid),
        IotlbInvalidate(entry.domain_id) if with_second_stage else PasidIotlbInvalidate(entry.domain_id, pasid),
        *device_tlb_flush(device, pasid),
    ]
    await iommu.queue.submit_sync(flush, trace)
    await table.clear(pasid)
    trace.step(f"PASID entry {pasid} of {device}: zeroed")
    return entry
