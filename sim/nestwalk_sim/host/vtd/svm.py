"""Binding guest PASIDs: `bind_gpasid` and `unbind_gpasid` with Linux's checks, tracking and unwinding (S01 to S03,
S07, S08).
"""

import errno
from dataclasses import dataclass, field
from enum import Enum

from ..device import Device
from ..errors import ENOTSUPP, IommuError, require
from ..ioasid import Ioasid
from .invalidate import SecondStageDomain
from .pasid import NestedFlags, NestedRequest, check_nested, setup_nested, tear_down
from .unit import Iommu

__all__ = ["DoubleBind", "GpasidBindData", "GpasidBindDataVtd", "Svm", "SvmDev", "bind_gpasid", "unbind_gpasid"]

VTD_FORMAT = 1
GPASID_VALID = 1 << 0
PASID_BITS = 20


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
    """One device bound to a PASID: how often, on which domain, and the DID of its nested entry."""

    device: Device
    domain: SecondStageDomain
    domain_id: int
    users: int = 1


@dataclass
class Svm:
    """Everything bound to one host PASID; hangs on the `Ioasid` while there is a device, and not a moment longer
    (S03).
    """

    pasid: int
    gpasid: int | None
    devices: list[SvmDev] = field(default_factory=list)

    def find(self, device: Device) -> SvmDev | None:
        """The record of a device."""
        return next((record for record in self.devices if record.device is device), None)


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
    async with iommu.pasid_mutex:
        ioasid = iommu.ioasids.find(domain.owner, data.hpasid)
        svm: Svm | None = ioasid.data
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
    )
    await check_nested(iommu, device, data.hpasid, request)
    iommu.fail.reach("svm")
    svm: Svm = ioasid.data or Svm(data.hpasid, data.gpasid if data.flags & GPASID_VALID else None)
    iommu.fail.reach("svm device")
    domain_id = iommu.domain_ids.allocate()
    try:
        await iommu.enable_pasid(iommu.state_of(device), trace)
        await setup_nested(iommu, device, data.hpasid, request, domain_id, trace)
    except IommuError:
        iommu.domain_ids.free(domain_id)
        raise
    svm.devices.append(SvmDev(device, domain, domain_id))
    ioasid.data = svm
    domain.children.add(domain_id)
    domain.bound.append((device, data.hpasid))


async def unbind_gpasid(iommu: Iommu, device: Device, pasid: int) -> bool:
    """Undo one bind; the last one tears the entry down (S08). The PASID itself stays allocated.

    When the unit fails meanwhile the device counts as bound, and the call can be repeated.

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
        svm: Svm | None = ioasid.data if ioasid else None
        if ioasid is None or svm is None:
            return False
        require(svm.devices, f"PASID {pasid} has a binding without a device")
        record = svm.find(device)
        if record is None:
            return False
        if record.users > 1:
            record.users -= 1
            return True
        await tear_down(iommu, device, pasid, iommu.log.trace("unbind_gpasid", "R3"))
        svm.devices.remove(record)
        record.domain.children.remove(record.domain_id)
        record.domain.bound.remove((device, pasid))
        iommu.domain_ids.free(record.domain_id)
        if not svm.devices:
            ioasid.data = None
        return True
