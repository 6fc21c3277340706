"""Binding guest PASIDs: `bind_gpasid` and `unbind_gpasid` with Linux's checks, tracking and unwinding (S01 to S03,
S07, S08).
"""

import errno
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from enum import Enum

from ..device import Device
from ..errors import ENOTSUPP, IommuError, require
from ..ioasid import Ioasid, IoasidState
from ..log import Trace
from .cache_tags import CacheTag, Stage
from .entries import NestedFlags, NestedRequest, check_nested
from .invalidate import SecondStageDomain
from .pasid import setup_nested, tear_down
from .unit import Iommu

__all__ = ["DoubleBind", "GpasidBindData", "GpasidBindDataVtd", "Svm", "SvmDev", "bind_gpasid", "unbind_gpasid"]

VTD_FORMAT = 1
GPASID_VALID = 1 << 0
PASID_BITS = 20
HOLDER = "svm"


class DoubleBind(Enum):
    """What a second bind of the same PASID and device does (S02)."""

    REFCOUNT = "refcount"
    """It counts: as many unbinds are needed (as first posted)."""
    REFCOUNT_AUX_ONLY = "refcount-aux-only"
    """It counts for devices shared through auxiliary domains, else EBUSY (as first merged)."""
    EXCLUSIVE = "exclusive"
    """EBUSY (as merged since)."""

    def counts(self, device: Device) -> bool:
        """Whether a second bind of this device is counted."""
        return self is DoubleBind.REFCOUNT or (self is DoubleBind.REFCOUNT_AUX_ONLY and device.aux_domains)


@dataclass(frozen=True, kw_only=True)
class GpasidBindDataVtd:
    """The VT-d part of the bind data: `flags` as in `NestedFlags`, memory-type values that only memory-type flags
    would use.
    """

    flags: int = 0
    pat: int = 0
    emt: int = 0


@dataclass(frozen=True, kw_only=True)
class GpasidBindData:
    """`iommu_gpasid_bind_data` (host-software reference 4.1).

    Parameters
    ----------
    gpgd : int
        Guest-physical address of the guest's top first-stage table.
    hpasid, gpasid : int
        Host PASID, and the guest's own number for it, valid with bit 0 of ``flags``.
    addr_width : int
        48 or 57.
    """

    gpgd: int
    hpasid: int
    gpasid: int = 0
    addr_width: int = 48
    flags: int = 0
    vtd: GpasidBindDataVtd = field(default_factory=GpasidBindDataVtd)
    argsz: int = 72
    version: int = 1
    format: int = VTD_FORMAT
    padding: bytes = bytes(8)
    SIZE = 72


@dataclass
class SvmDev:
    """One device bound to a PASID: how often, on which domain, and the DID of its nested entry.

    It is ``defunct`` when the PASID was freed first: its entry blocks without recording faults (S13).
    """

    device: Device
    domain: SecondStageDomain
    domain_id: int
    users: int = 1
    defunct: bool = False

    def tag(self, pasid: int) -> CacheTag:
        """Under what the nested entry's translations are cached."""
        return CacheTag(self.device, pasid, self.domain_id, Stage.NESTED)


@dataclass
class Svm:
    """Everything bound to one host PASID; hangs on the `Ioasid` while there is a device, and not a moment longer
    (S03). It holds one reference to the PASID as `HOLDER`.
    """

    iommu: Iommu
    ioasid: Ioasid
    devices: list[SvmDev] = field(default_factory=list)

    def find(self, device: Device) -> SvmDev | None:
        """The record of a device."""
        return next((record for record in self.devices if record.device is device), None)

    async def release(self) -> None:
        """The PASID was freed while bound: make each entry defunct, or end the binding when the whole set is being
        freed and nobody is left to unbind.
        """
        await self.iommu.stops.flush()
        async with self.iommu.pasid_mutex:
            for record in list(self.devices):
                if self.ioasid.owner.dying:
                    await _unbind_device(self, record, self.iommu.log.trace("free_set", "R3"))
                elif not record.defunct:
                    trace = self.iommu.log.trace("free", "R10")
                    await tear_down(self.iommu, record.device, self.ioasid.pasid, trace, ignore_faults=True)
                    record.defunct = True


def _check_bind_data(data: GpasidBindData) -> None:
    """Checks 2 to 4 of S01, of the data alone."""
    require(data.argsz >= data.SIZE, f"argsz {data.argsz} does not cover the VT-d data")
    require(data.version == 1, f"version {data.version} of the bind data is unknown")
    require(data.format == VTD_FORMAT, f"format {data.format} is not VT-d's")
    require(not data.flags & ~GPASID_VALID, f"flags {data.flags:#x} are unknown")
    require(not any(data.padding), "padding is not zero")
    require(0 <= data.vtd.flags < 1 << len(NestedFlags), f"VT-d flags {data.vtd.flags:#x} are unknown")


async def bind_gpasid(
    domain: SecondStageDomain, device: Device, data: GpasidBindData | None, policy: DoubleBind = DoubleBind.EXCLUSIVE
) -> None:
    """Let a device use a guest's process by PASID: nested translation of the guest's tables on the domain's second
    stage.

    The checks are those of S01 in its order; a rejected call sends nothing to the unit and changes nothing.

    Raises
    ------
    IommuError
        The errno of S01's table; of a failed allocation ENOMEM or ENOSPC, with everything undone (S07).
    """
    iommu = domain.iommu
    if data is None or device.source_id not in iommu.devices:
        raise IommuError(errno.EINVAL, f"{device} is not behind this unit, or no data is given")
    _check_bind_data(data)
    require(device.pci, f"{device} is not a PCI device", ENOTSUPP)
    require(device.pasid_bits == PASID_BITS, f"{device} has PASIDs of {device.pasid_bits} bits, not {PASID_BITS}")
    require(0 < data.hpasid < 1 << PASID_BITS, f"host PASID {data.hpasid} is not 1 to {(1 << PASID_BITS) - 1}")
    require(not iommu.state_of(device).gone, f"{device} is gone", errno.ENODEV)
    async with iommu.pasid_mutex:
        ioasid = iommu.ioasids.find(domain.owner, data.hpasid)
        svm = ioasid.data
        require(svm is None or isinstance(svm, Svm), f"PASID {data.hpasid} is a process of the host", errno.EBUSY)
        require(svm is None or svm.devices, f"PASID {data.hpasid} has a binding without a device")
        record = svm.find(device) if svm is not None else None
        if record is not None:
            require(policy.counts(device), f"{device} is bound to PASID {data.hpasid} already", errno.EBUSY)
            record.users += 1
            return
        await _bind_device(iommu, domain, device, data, ioasid)


async def _bind_device(
    iommu: Iommu, domain: SecondStageDomain, device: Device, data: GpasidBindData, ioasid: Ioasid
) -> None:
    """Checks 11 to 13 of S01. What was done before a failure is undone in reverse (S07).

    Those of the nested entry come first, so that a call that has to be rejected does not enable PASIDs on the way.
    """
    trace = iommu.log.trace("bind_gpasid", "R2")
    request = NestedRequest(
        root=data.gpgd,
        address_width=data.addr_width,
        flags=NestedFlags(data.vtd.flags),
        parent=domain.table,
        nest_parent=domain.nest_parent,
        updates=domain.dirty_tracking,
    )
    await check_nested(iommu, device, data.hpasid, request)
    async with AsyncExitStack() as undo:
        if ioasid.data is None:
            iommu.fail.reach("svm")
            if data.flags & GPASID_VALID:
                iommu.ioasids.name_for_guest(domain.owner, data.hpasid, data.gpasid)
                undo.callback(setattr, ioasid, "spid", None)
            iommu.ioasids.get(domain.owner, data.hpasid, HOLDER)
            undo.callback(iommu.ioasids.put, ioasid, HOLDER)
        iommu.fail.reach("svm device")
        record = SvmDev(device, domain, iommu.domain_ids.allocate())
        undo.callback(iommu.domain_ids.free, record.domain_id)
        domain.tags.assign(record.tag(data.hpasid))
        undo.callback(domain.tags.unassign, record.tag(data.hpasid))
        await iommu.contexts.enable_pasid(iommu.state_of(device), trace)
        await setup_nested(iommu, device, data.hpasid, request, record.domain_id, trace, domain.fault_handler)
        undo.push_async_callback(tear_down, iommu, device, data.hpasid, trace.follow("R3"))
        require(ioasid.state is IoasidState.ALLOCATED, f"PASID {data.hpasid} was freed meanwhile", errno.ENOENT)
        # Producers of work hear of it when the translation is in place, and of its end before it goes.
        iommu.ioasids.announce_bound(ioasid)
        undo.pop_all()
    ioasid.data = ioasid.data or Svm(iommu, ioasid)
    ioasid.data.devices.append(record)


async def _unbind_device(svm: Svm, record: SvmDev, trace: Trace) -> None:
    """S08 for one device; the last one takes the binding with it."""
    iommu, ioasid = svm.iommu, svm.ioasid
    if svm.devices == [record]:
        iommu.ioasids.announce_unbound(ioasid)
        await iommu.stops.flush()
    await tear_down(iommu, record.device, ioasid.pasid, trace)
    svm.devices.remove(record)
    record.domain.tags.unassign(record.tag(ioasid.pasid))
    iommu.domain_ids.free(record.domain_id)
    if not svm.devices:
        ioasid.data = None
        ioasid.spid = None
        iommu.ioasids.put(ioasid, HOLDER)


async def unbind_gpasid(iommu: Iommu, device: Device, pasid: int) -> bool:
    """Undo one bind; the last one tears the entry down (S08). The PASID itself stays allocated.

    When the unit fails meanwhile the device counts as bound, and the call can be repeated. Unbinding after the PASID
    was freed clears what is left of the entry.

    Returns
    -------
    bool
        Whether something was bound; unbinding what is not is no error.

    Raises
    ------
    IommuError
        EINVAL for a malformed PASID or a binding without devices.
    """
    require(0 < pasid < 1 << PASID_BITS, f"host PASID {pasid} is not 1 to {(1 << PASID_BITS) - 1}")
    async with iommu.pasid_mutex:
        ioasid = iommu.ioasids.allocated.get(pasid)
        svm = ioasid.data if ioasid else None
        if not isinstance(svm, Svm):
            return False
        require(svm.devices, f"PASID {pasid} has a binding without a device")
        record = svm.find(device)
        if record is None:
            return False
        if record.users > 1 and not record.defunct:
            record.users -= 1
        else:
            await _unbind_device(svm, record, iommu.log.trace("unbind_gpasid", "R3"))
        return True
