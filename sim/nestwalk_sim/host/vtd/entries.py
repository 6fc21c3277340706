"""PASID-table entries as Linux writes them, and what has to hold before one is written (S06, §2.6)."""

import errno
from dataclasses import dataclass
from enum import Flag

from ..device import Device
from ..errors import require
from .page_tables import PageTable
from .tables import PasidEntry, TranslationType
from .unit import Iommu

__all__ = [
    "FIRST_LEVEL_DOMAIN",
    "NestedFlags",
    "NestedRequest",
    "check_nested",
    "check_nesting",
    "first_level_entry",
    "nested_entry",
    "pass_through_entry",
    "second_level_entry",
]

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


def first_level_entry(iommu: Iommu, table: PageTable, domain_id: int = FIRST_LEVEL_DOMAIN) -> PasidEntry:
    """The entry for first-stage translation by tables in host memory; EINVAL when the unit cannot do it."""
    require(iommu.capabilities["FSTS"], "the unit has no first-stage translation")
    require(table.levels == 4 or iommu.capabilities["FS5LP"], "the unit has no 5-level first stage")
    return PasidEntry(
        translation=TranslationType.FIRST_STAGE,
        domain_id=domain_id,
        second_stage_levels=max(iommu.capabilities.second_stage_levels, default=4),
        first_stage_root=table.root,
        first_stage_levels=table.levels,
        walk_snoop=bool(iommu.capabilities["SMPWCS"]),
    )


def second_level_entry(iommu: Iommu, table: PageTable, domain_id: int, *, updates: bool = False) -> PasidEntry:
    """The entry for second-stage translation by a domain's tables, with accessed and dirty bits under ``updates``;
    EINVAL when the unit cannot do it or not at this depth.
    """
    require(iommu.capabilities["SSTS"], "the unit has no second-stage translation")
    levels = table.levels
    require(levels in iommu.capabilities.second_stage_levels, f"the unit has no {levels}-level second stage")
    return PasidEntry(
        translation=TranslationType.SECOND_STAGE,
        domain_id=domain_id,
        second_stage_levels=levels,
        second_stage_root=table.root,
        walk_snoop=bool(iommu.capabilities["SMPWCS"]),
        second_stage_updates=updates,
    )


def pass_through_entry(iommu: Iommu) -> PasidEntry:
    """The entry for no translation: the request's address is the host address. EINVAL when the unit cannot do it."""
    require(iommu.capabilities["PT"], "the unit has no pass-through")
    return PasidEntry(
        translation=TranslationType.PASS_THROUGH,
        domain_id=FIRST_LEVEL_DOMAIN,
        second_stage_levels=max(iommu.capabilities.second_stage_levels, default=4),
        walk_snoop=bool(iommu.capabilities["SMPWCS"]),
    )


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
    updates : bool
        Whether accessed and dirty bits of the second stage are set.
    """

    root: int
    address_width: int
    flags: NestedFlags
    parent: PageTable
    nest_parent: bool
    updates: bool = False


async def check_nested(iommu: Iommu, device: Device, pasid: int, request: NestedRequest) -> None:
    """The checks of S06 in their order. What is left in an entry that is not present is cleared on the way.

    Raises
    ------
    IommuError
        EINVAL, or EBUSY for a present entry, which stays as it is.
    """
    table = iommu.state_of(device).table
    _check_parent(iommu, request)
    require(not (await table.read(pasid)).present, f"PASID {pasid} of {device} is in use", errno.EBUSY)
    await table.clear(pasid)
    _check_first_stage(iommu, request)


def check_nesting(iommu: Iommu, request: NestedRequest) -> None:
    """The checks of S06 that need no entry; EINVAL for the first that fails."""
    _check_parent(iommu, request)
    _check_first_stage(iommu, request)


def _check_parent(iommu: Iommu, request: NestedRequest) -> None:
    require(iommu.capabilities["NEST"], "the unit has no nested translation")
    require(request.nest_parent, "the domain was not made for nesting")


def _check_first_stage(iommu: Iommu, request: NestedRequest) -> None:
    capabilities, flags, parent = iommu.capabilities, request.flags, request.parent
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


def nested_entry(iommu: Iommu, request: NestedRequest, domain_id: int) -> PasidEntry:
    """The entry for a guest's first stage on its host's second stage, once `check_nested` has passed."""
    return PasidEntry(
        translation=TranslationType.NESTED,
        domain_id=domain_id,
        second_stage_levels=request.parent.levels,
        second_stage_root=request.parent.root,
        first_stage_root=request.root,
        first_stage_levels=FIRST_STAGE_LEVELS[request.address_width],
        walk_snoop=bool(iommu.capabilities["SMPWCS"]),
        second_stage_updates=request.updates,
        supervisor=NestedFlags.SRE in request.flags,
        write_protect=NestedFlags.WPE in request.flags,
        extended_accessed=NestedFlags.EAFE in request.flags,
    )
