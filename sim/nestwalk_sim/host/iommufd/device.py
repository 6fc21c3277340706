"""A device under an iommufd: bound to it, and attached to page tables, without PASID and under PASIDs (S28)."""

import errno
from dataclasses import dataclass

from ..device import Device
from ..errors import IommuError, require
from ..group import IommuGroup
from ..vtd.cache_tags import RID_PASID
from .context import IommufdContext, IommufdObject
from .hwpt import Hwpt, HwptFlags, HwptPaging
from .ioas import Ioas

__all__ = ["HwInfo", "IommufdDevice"]

VTD = 1
DIRTY_TRACKING, PASID_EXECUTE, PASID_PRIVILEGED, ATS_NOT_SUPPORTED = (1 << bit for bit in range(4))


@dataclass(frozen=True)
class HwInfo:
    """What a VMM learns of the unit (`IOMMU_GET_HW_INFO`): raw capabilities to negotiate from."""

    data: bytes
    data_len: int
    capabilities: int
    max_pasid_log2: int


class IommufdDevice(IommufdObject):
    """A device that is bound. Make one with `bind`.

    ``attached`` are the HWPTs by PASID, 0 for requests without.
    """

    def __init__(self, context: IommufdContext, device: Device, group: IommuGroup):
        self.context = context
        self.device = device
        self.group = group
        self.attached: dict[int, Hwpt] = {}
        self.vdevices: list[IommufdObject] = []

    @classmethod
    async def bind(cls, context: IommufdContext, device: Device, group: IommuGroup) -> "IommufdDevice":
        """`iommufd_device_bind`: own the DMA of the device's group, which blocks it.

        Raises
        ------
        IommuError
            ENODEV for a device without group, else as `IommuGroup.claim`.
        """
        require(device in group.devices, f"{device} has no group", errno.ENODEV)
        await group.claim(context)
        return context.add(cls(context, device, group))

    async def release(self) -> None:
        """`iommufd_device_unbind`: everything is detached, without PASID first, and the group is given up."""
        for pasid in sorted(self.attached):
            await self.detach(pasid)
        for vdevice in self.vdevices:
            vdevice.buried = True
        await self.group.release(self.context)

    async def attach(self, pt_id: int, pasid: int = RID_PASID) -> int:
        """Let requests, without PASID or with ``pasid``, use a HWPT or an address space.

        Returns
        -------
        int
            The HWPT.

        Raises
        ------
        IommuError
            ENOENT for an unknown id, EBUSY when something is attached there, EINVAL for what the device or the HWPT
            cannot do with PASIDs, else as `IommuDomain.attach`. Nothing has changed then.
        """
        async with self.group.mutex:
            require(pasid not in self.attached, f"PASID {pasid} of {self.device} is attached", errno.EBUSY)
            hwpt = await self._hwpt(pt_id, pasid)
            try:
                self._check(hwpt, pasid)
                await hwpt.domain.attach(self.device, pasid)
            except IommuError:
                await self._drop(hwpt)
                raise
            self._attached(hwpt, pasid)
            return hwpt.id

    async def replace(self, pt_id: int, pasid: int = RID_PASID) -> int:
        """Let those requests use another HWPT, without a moment in which both or anything else answer.

        Raises
        ------
        IommuError
            EINVAL when nothing is attached, else as `attach`; the old one stays then.
        """
        async with self.group.mutex:
            require(pasid in self.attached, f"nothing is attached to PASID {pasid} of {self.device}")
            old, hwpt = self.attached[pasid], await self._hwpt(pt_id, pasid)
            if hwpt is old:
                return hwpt.id
            try:
                self._check(hwpt, pasid)
                await hwpt.domain.replace(self.device, old.domain, pasid)
            except IommuError:
                await self._drop(hwpt)
                raise
            self._attached(hwpt, pasid)
            old.users -= 1
            await self._drop(old)
            return hwpt.id

    async def detach(self, pasid: int = RID_PASID) -> None:
        """Block those requests again; what is not attached needs nothing."""
        async with self.group.mutex:
            hwpt = self.attached.get(pasid)
            if hwpt is not None:
                await hwpt.domain.detach(self.device, pasid)
                del self.attached[pasid]
                hwpt.users -= 1
                await self._drop(hwpt)

    def hw_info(self, room: int = 24, data_type: int = VTD) -> HwInfo:
        """`IOMMU_GET_HW_INFO` into a buffer of ``room`` bytes, cut off or filled with zeros.

        Raises
        ------
        IommuError
            EOPNOTSUPP for data of another kind of unit.
        """
        require(data_type in (0, VTD), f"hardware information of type {data_type} is unknown", errno.EOPNOTSUPP)
        capabilities = self.context.iommu.capabilities
        raw = bytes(8) + b"".join(each.raw.to_bytes(8, "little") for each in (capabilities.cap, capabilities.ecap))
        can = DIRTY_TRACKING * capabilities["SSADS"] | PASID_PRIVILEGED * capabilities["SRS"]
        can |= 0 if self.device.ats and capabilities["DT"] else ATS_NOT_SUPPORTED
        return HwInfo(raw[:room].ljust(room, b"\0"), len(raw), can, self.device.pasid_bits)

    async def _hwpt(self, pt_id: int, pasid: int) -> Hwpt:
        """The HWPT itself, or that of an address space: one that is there already, or a new one."""
        table = self.context.get(pt_id, IommufdObject)
        if isinstance(table, Ioas):
            require(pasid == RID_PASID, "a PASID needs a HWPT that was made for it")
            for other in self.context.objects:
                if isinstance(other, HwptPaging) and other.ioas is table and other.auto:
                    return other
            made = self.context.add(await HwptPaging.create(table))
            made.auto = True
            return made
        if not isinstance(table, Hwpt):
            raise IommuError(errno.EINVAL, f"object {pt_id} is nothing to attach to")
        return table

    def _check(self, hwpt: Hwpt, pasid: int) -> None:
        device = self.device
        require(self.group.owner is self.context, f"{device} is owned by somebody else", errno.EBUSY)
        if pasid != RID_PASID:
            require(device.pasid_bits, f"{device} has no PASIDs")
            rid = self.attached.get(RID_PASID)
            compatible = hwpt.pasid and (rid is None or rid.pasid)
            require(compatible, "the page table was not made for devices that use PASIDs")
        elif any(number != RID_PASID for number in self.attached):
            require(hwpt.pasid, "the page table was not made for devices that use PASIDs")
        tracking = isinstance(hwpt, HwptPaging) and HwptFlags.DIRTY_TRACKING in hwpt.flags
        require(not tracking or self.context.iommu.capabilities["SSADS"], "the unit tracks no dirty pages")
        faulting = hwpt.fault is not None
        require(not faulting or device.physical is None, "a virtual function shares its page requests with others")

    def _attached(self, hwpt: Hwpt, pasid: int) -> None:
        self.attached[pasid] = hwpt
        hwpt.users += 1

    async def _drop(self, hwpt: Hwpt) -> None:
        """An automatic HWPT goes with its last device."""
        if hwpt.auto and not hwpt.users:
            await self.context.destroy(hwpt.id)
