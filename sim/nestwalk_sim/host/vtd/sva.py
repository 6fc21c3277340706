"""Native SVA: a device uses the address space of a process of the host under a PASID of its own (S03, today's form)."""

import errno
from dataclasses import dataclass, field

from ..device import Device
from ..errors import IommuError, require
from ..ioasid import MAX_PASID, Ioasid, IoasidSet
from ..iopf import IopfGroup, PageResponse
from ..mm import Mm
from .cache_tags import CacheTag, CacheTags, Stage
from .entries import FIRST_LEVEL_DOMAIN, first_level_entry
from .pasid import install, tear_down
from .svm import HOLDER
from .unit import Iommu

__all__ = ["SvaDomain", "SvaHandle", "SvaProcesses", "sva_bind_device", "sva_unbind_device"]


@dataclass(eq=False)
class SvaHandle:
    """One device that uses one process, ``users`` times. ``defunct`` once the process is gone."""

    device: Device
    domain: "SvaDomain"
    users: int = 1
    defunct: bool = False

    @property
    def pasid(self) -> int:
        """The PASID that the device has to use."""
        return self.domain.ioasid.pasid

    @property
    def domain_id(self) -> int:
        """DID of its entry."""
        return FIRST_LEVEL_DOMAIN


@dataclass(eq=False)
class SvaDomain:
    """A process that devices share: one PASID, the same for all of them, while any is bound."""

    iommu: Iommu
    mm: Mm
    ioasid: Ioasid
    tags: CacheTags
    devices: list[SvaHandle] = field(default_factory=list)

    def tag(self, device: Device) -> CacheTag:
        """Under what the device's translations are cached."""
        return CacheTag(device, self.ioasid.pasid, FIRST_LEVEL_DOMAIN, Stage.FIRST)

    async def changed(self, address: int, size: int, leaf: bool) -> None:
        """The process unmapped a range (R6)."""
        await self.tags.flush(address, size, self.iommu.log.trace("mm change", "R6"), leaf=leaf)

    async def handle(self, group: IopfGroup) -> None:
        """A device touches pages that are not there: fault them in like the process itself; EFAULT if it could not."""
        for fault in group.faults:
            await self.mm.fault(fault.address, write=fault.write)
        await group.respond(PageResponse.SUCCESS)

    async def release(self) -> None:
        """The process is gone: what its devices still send is blocked and not recorded, until they unbind (R10)."""
        async with self.iommu.pasid_mutex:
            for handle in self.devices:
                if not handle.defunct:
                    trace = self.iommu.log.trace("mm exit", "R10")
                    await tear_down(self.iommu, handle.device, handle.pasid, trace, ignore_faults=True)
                    self.tags.unassign(self.tag(handle.device))
                    handle.defunct = True


class SvaProcesses:
    """Which processes have a PASID on one unit.

    Parameters
    ----------
    iommu : Iommu
        The unit.
    """

    def __init__(self, iommu: Iommu):
        self.iommu = iommu
        self.owner = IoasidSet("host processes")
        self.domains: dict[Mm, SvaDomain] = {}


async def sva_bind_device(processes: SvaProcesses, device: Device, mm: Mm) -> SvaHandle:
    """Let a device use a process. A second bind of both gives the same handle, and counts.

    Raises
    ------
    IommuError
        ENODEV for a device without PASIDs or one that is gone, EOVERFLOW when the process has a PASID that is too wide
        for it, ENOSPC, ENOMEM, EBUSY when the process has ended. Nothing changes then.
    """
    iommu = processes.iommu
    state = iommu.state_of(device)
    require(device.pci and device.pasid_bits and not state.gone, f"{device} has no PASIDs", errno.ENODEV)
    async with iommu.pasid_mutex:
        domain = processes.domains.get(mm)
        known = next((each for each in domain.devices if each.device is device), None) if domain else None
        if known is not None:
            require(not known.defunct, "the process has ended", errno.EBUSY)
            known.users += 1
            return known
        if domain is None:
            pasid = iommu.ioasids.allocate(processes.owner, 1, min(MAX_PASID, (1 << device.pasid_bits) - 1))
            ioasid = iommu.ioasids.get(processes.owner, pasid, HOLDER)
            domain = SvaDomain(iommu, mm, ioasid, CacheTags(iommu))
        try:
            return await _bind(processes, domain, device)
        except IommuError:
            if not domain.devices:
                _drop(processes, domain)
            raise


async def _bind(processes: SvaProcesses, domain: SvaDomain, device: Device) -> SvaHandle:
    iommu, pasid = processes.iommu, domain.ioasid.pasid
    fits = pasid < 1 << device.pasid_bits
    require(fits, f"PASID {pasid} is too wide for {device}", errno.EOVERFLOW)
    iommu.fail.reach("sva handle")
    handle, trace = SvaHandle(device, domain), iommu.log.trace("sva_bind_device", "R2")
    domain.tags.assign(domain.tag(device))
    try:
        await iommu.contexts.enable_pasid(iommu.state_of(device), trace)
        entry = first_level_entry(iommu, domain.mm.table)
        await install(iommu, device, pasid, entry, "process of the host", trace, domain)
    except IommuError:
        domain.tags.unassign(domain.tag(device))
        raise
    if not domain.devices:
        processes.domains[domain.mm] = domain
        domain.ioasid.data = domain
        domain.mm.on_change.append(domain.changed)
        domain.mm.on_exit.append(domain.release)
    domain.devices.append(handle)
    return handle


async def sva_unbind_device(processes: SvaProcesses, handle: SvaHandle) -> None:
    """Undo one bind; the last one tears the entry down, and the last device's takes the PASID back."""
    iommu, domain = processes.iommu, handle.domain
    async with iommu.pasid_mutex:
        if handle.users > 1:
            handle.users -= 1
            return
        await tear_down(iommu, handle.device, handle.pasid, iommu.log.trace("sva_unbind_device", "R3"))
        if not handle.defunct:
            domain.tags.unassign(domain.tag(handle.device))
        domain.devices.remove(handle)
        if not domain.devices:
            domain.mm.on_change.remove(domain.changed)
            domain.mm.on_exit.remove(domain.release)
            _drop(processes, domain)


def _drop(processes: SvaProcesses, domain: SvaDomain) -> None:
    """Give the PASID back."""
    processes.domains.pop(domain.mm, None)
    domain.ioasid.data = None
    processes.iommu.ioasids.put(domain.ioasid, HOLDER)
    processes.iommu.ioasids.free(processes.owner, domain.ioasid.pasid)
