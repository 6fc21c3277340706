"""Setting up and tearing down PASID-table entries (R2, R3, S06, S08; the fields as Linux writes them, §2.6)."""

from ..device import Device
from ..errors import IommuError
from ..iopf import FaultHandler
from ..log import Trace
from .cache_tags import RID_PASID, device_tlb_flush
from .descriptors import Descriptor, IotlbInvalidate, PasidCacheInvalidate, PasidIotlbInvalidate
from .drain import drain
from .entries import (
    FIRST_LEVEL_DOMAIN,
    NestedRequest,
    check_nested,
    first_level_entry,
    nested_entry,
    pass_through_entry,
    second_level_entry,
)
from .page_tables import PageTable
from .tables import PasidEntry, TranslationType
from .unit import Iommu

__all__ = [
    "RID_PASID",
    "install",
    "replace",
    "setup_first_level",
    "setup_nested",
    "setup_pass_through",
    "setup_second_level",
    "tear_down",
    "update",
]


async def install(
    iommu: Iommu,
    device: Device,
    pasid: int,
    entry: PasidEntry,
    what: str,
    trace: Trace,
    handler: FaultHandler | None = None,
) -> None:
    """R2: write the entry, P last, and do what a new entry needs. If that fails the entry is torn down again (S07).

    Parameters
    ----------
    handler : FaultHandler, optional
        Who serves page faults from now on.

    Raises
    ------
    IommuError
        EBUSY for a present entry, ENOMEM, or what a failing unit raises.
    """
    state = iommu.state_of(device)
    await drain(iommu, device, pasid, trace.follow("R5"))
    await state.table.install(pasid, entry)
    state.entries[pasid] = entry
    if handler is not None:
        iommu.page_requests.faults.handlers[device.source_id, pasid] = handler
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


async def setup_first_level(
    iommu: Iommu, device: Device, pasid: int, table: PageTable, trace: Trace, domain_id: int = FIRST_LEVEL_DOMAIN
) -> None:
    """First-stage translation by tables in host memory.

    Raises
    ------
    IommuError
        EINVAL when the unit cannot do it, EBUSY for a present entry, ENOMEM.
    """
    entry = first_level_entry(iommu, table, domain_id)
    await install(iommu, device, pasid, entry, f"first-stage root {table.root:#x}", trace)


async def setup_second_level(
    iommu: Iommu, device: Device, pasid: int, table: PageTable, domain_id: int, trace: Trace
) -> None:
    """Second-stage translation by the domain's tables.

    Raises
    ------
    IommuError
        EINVAL when the unit cannot do it or not at this depth, EBUSY for a present entry, ENOMEM.
    """
    entry = second_level_entry(iommu, table, domain_id)
    await install(iommu, device, pasid, entry, f"second-stage root {table.root:#x}", trace)


async def setup_pass_through(iommu: Iommu, device: Device, pasid: int, trace: Trace) -> None:
    """Pass-through; errors as `setup_second_level`."""
    await install(iommu, device, pasid, pass_through_entry(iommu), "pass-through", trace)


async def setup_nested(
    iommu: Iommu,
    device: Device,
    pasid: int,
    request: NestedRequest,
    domain_id: int,
    trace: Trace,
    handler: FaultHandler | None = None,
) -> None:
    """Write the nested entry, after the checks of S06, under a DID of its own; ``handler`` serves its page faults.

    Raises
    ------
    IommuError
        As `check_nested`, or what a failing unit or allocation raises. The entry is not present and all zero then,
        unless it was present before (EBUSY).
    """
    iommu.fail.reach("nested entry")
    await check_nested(iommu, device, pasid, request)
    entry = nested_entry(iommu, request, domain_id)
    what = f"nested, guest table {request.root:#x} on second stage {request.parent.root:#x}"
    await install(iommu, device, pasid, entry, what, trace, handler)


async def tear_down(
    iommu: Iommu, device: Device, pasid: int, trace: Trace, *, ignore_faults: bool = False
) -> PasidEntry | None:
    """R3: make the entry not present, flush every cache, zero it, and drain page requests. Never fails for "not there".

    An entry that an earlier attempt made not present, but could not flush, is flushed and zeroed now.

    Parameters
    ----------
    ignore_faults : bool
        R10: leave the entry defunct. FPD stays set, so that what the device still sends is blocked and not recorded,
        and page requests are drained by the tear-down that follows.

    Returns
    -------
    PasidEntry or None
        The entry as it was found; None when there was none.
    """
    state = iommu.state_of(device)
    table = state.table
    entry = await table.read(pasid)
    if entry.present:
        await table.hide(pasid, disable_faults=ignore_faults)
        trace.step(f"PASID entry {pasid} of {device}: P=0{' FPD=1' if ignore_faults else ''}")
    elif not entry.translation:
        if entry.fault_processing_disable and not ignore_faults:
            await table.clear(pasid)
            trace.step(f"PASID entry {pasid} of {device}: zeroed")
        if not ignore_faults:
            await drain(iommu, device, pasid, trace.follow("R5"))
        return None
    with_second_stage = entry.translation in (TranslationType.SECOND_STAGE, TranslationType.NESTED)
    flush: list[Descriptor] = [
        PasidCacheInvalidate(entry.domain_id, pasid),
        IotlbInvalidate(entry.domain_id) if with_second_stage else PasidIotlbInvalidate(entry.domain_id, pasid),
        *device_tlb_flush(iommu, device, pasid),
    ]
    await iommu.queue.submit_sync(flush, trace)
    state.undrained[pasid] = entry.domain_id
    await iommu.page_requests.faults.withdraw(device, pasid)
    await table.clear(pasid, disable_faults=ignore_faults)
    trace.step(f"PASID entry {pasid} of {device}: {'defunct' if ignore_faults else 'zeroed'}")
    state.entries.pop(pasid, None)
    if not ignore_faults:
        await drain(iommu, device, pasid, trace.follow("R5"))
    return entry


async def update(iommu: Iommu, device: Device, pasid: int, entry: PasidEntry, what: str, trace: Trace) -> None:
    """Change SSADE of a present entry, the one field for which it need not be torn down (§6.2)."""
    state = iommu.state_of(device)
    await state.table.update(pasid, entry)
    state.entries[pasid] = entry
    trace.step(f"PASID entry {pasid} of {device}: {what}")
    flush: list[Descriptor] = [
        PasidCacheInvalidate(entry.domain_id, pasid),
        IotlbInvalidate(entry.domain_id),
        *device_tlb_flush(iommu, device, pasid),
    ]
    await iommu.queue.submit_sync(flush, trace)


async def replace(
    iommu: Iommu,
    device: Device,
    pasid: int,
    entry: PasidEntry,
    what: str,
    trace: Trace,
    handler: FaultHandler | None = None,
) -> PasidEntry | None:
    """R4: put another entry in the place of a present one, which stays when anything fails before that.

    In between the PASID is blocked: never both, never a mixture.

    Returns
    -------
    PasidEntry or None
        The entry that was replaced.

    Raises
    ------
    IommuError
        What the unit raises; the old entry translates again if it did.
    """
    table = iommu.state_of(device).table
    old = await table.read(pasid)
    served = iommu.page_requests.faults.handlers.get((device.source_id, pasid))
    try:
        await tear_down(iommu, device, pasid, trace.follow("R4"))
        await install(iommu, device, pasid, entry, what, trace.follow("R4"), handler)
    except IommuError:
        if old.present:
            await install(iommu, device, pasid, old, "as it was", trace.follow("R4"), served)
        raise
    return old if old.present else None
