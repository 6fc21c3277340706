"""VFIO: a device's file that is parked until it is bound to an iommufd, the older group path through the same steps,
and the container that speaks the oldest interface (S26 to S28).
"""

import errno
from collections.abc import Mapping, Sequence
from enum import Enum

from .device import Device
from .errors import IommuError, require
from .group import IommuGroup
from .guest import READ_WRITE
from .iommufd.context import IommufdContext
from .iommufd.device import IommufdDevice
from .iommufd.ioas import Ioas
from .transport import Mutex
from .vtd.cache_tags import RID_PASID
from .vtd.page_tables import Permission

__all__ = ["FdState", "VfioContainerShim", "VfioDevice", "VfioDeviceFd", "VfioGroup"]

PASID_FLAG = 1 << 0
API_VERSION = 0
TYPE1, TYPE1V2, UNMAP_ALL = 1, 3, 9
UNMAP_ALL_FLAG = 1 << 1


class FdState(Enum):
    """What an open file of a device can do."""

    PARKED = "parked"
    """Bind, or be closed."""
    OPERATIONAL = "operational"
    CLOSED = "closed"


class VfioDevice:
    """A device that user space may have.

    Parameters
    ----------
    device : Device
        The device.
    group : IommuGroup
        Its group.

    ``holder`` is the one file that is operational.
    """

    def __init__(self, device: Device, group: IommuGroup):
        self.device = device
        self.group = group
        self.holder: VfioDeviceFd | None = None
        self.mutex = Mutex(group.iommu.transport)

    def open(self) -> "VfioDeviceFd":
        """Open ``/dev/vfio/devices/vfioN``. Always works, and gives nothing but the chance to bind."""
        return VfioDeviceFd(self)


class VfioDeviceFd:
    """One open file of a device. Another opener's file is a matter of its own."""

    def __init__(self, device: VfioDevice, *, through_group: bool = False):
        self.device = device
        self.state = FdState.PARKED
        self._through_group = through_group
        self._bound: IommufdDevice | None = None

    async def bind_iommufd(self, context: IommufdContext | None, flags: int = 0) -> int:
        """`VFIO_DEVICE_BIND_IOMMUFD`: own the device's DMA, which is blocked, and become operational.

        Returns
        -------
        int
            The device's number in the iommufd.

        Raises
        ------
        IommuError
            EINVAL for unknown flags, something that is no iommufd, a file that came from a group, and a device that is
            bound already, by whatever file; else as `IommuGroup.claim`. The file stays parked then.
        """
        require(not flags, "unknown flags")
        require(not self._through_group, "the file came from a group")
        if context is None:
            raise IommuError(errno.EINVAL, "no iommufd is given")
        async with self.device.mutex:
            return await self._bind(context)

    async def _bind(self, context: IommufdContext) -> int:
        require(self.state is FdState.PARKED and self.device.holder is None, f"{self.device.device} is bound")
        self._bound = await IommufdDevice.bind(context, self.device.device, self.device.group)
        self.device.holder = self
        self.state = FdState.OPERATIONAL
        return self._bound.id

    async def attach_pt(self, pt_id: int, pasid: int | None = None, flags: int | None = None) -> int:
        """`VFIO_DEVICE_ATTACH_IOMMUFD_PT`: attach, or replace what is attached without PASID.

        Returns
        -------
        int
            The HWPT that is used.

        Raises
        ------
        IommuError
            EINVAL for a parked file or unknown flags, EOPNOTSUPP for PASIDs that the device does not have, else as
            `IommufdDevice.attach`.
        """
        bound = self._operational()
        self._check_flags(pasid, flags)
        if pasid is None and RID_PASID in bound.attached:
            return await bound.replace(pt_id)
        return await bound.attach(pt_id, pasid or RID_PASID)

    async def detach_pt(self, pasid: int | None = None, flags: int | None = None) -> None:
        """`VFIO_DEVICE_DETACH_IOMMUFD_PT`: blocked afterwards; errors as `attach_pt`."""
        bound = self._operational()
        self._check_flags(pasid, flags)
        await bound.detach(pasid or RID_PASID)

    def device_access(self) -> Device:
        """Anything that reaches the device: reads, writes, mappings, other calls. EINVAL while parked."""
        return self._operational().device

    async def close(self) -> None:
        """The file is closed: all that was attached goes, and the next one finds the device as if it were new."""
        async with self.device.mutex:
            bound, self._bound = self._bound, None
            if bound is not None and bound in bound.context.objects:
                await bound.context.destroy(bound.id)
            if self.device.holder is self:
                self.device.holder = None
            self.state = FdState.CLOSED

    def _operational(self) -> IommufdDevice:
        if self._bound is None or self.state is not FdState.OPERATIONAL:
            raise IommuError(errno.EINVAL, f"the file of {self.device.device} is {self.state.value}")
        return self._bound

    def _check_flags(self, pasid: int | None, flags: int | None) -> None:
        wanted = PASID_FLAG if pasid is not None else 0
        require(flags in (None, wanted), "unknown flags")
        needed = pasid is None or self.device.device.pasid_bits
        require(needed, f"{self.device.device} has no PASIDs", errno.EOPNOTSUPP)


class VfioContainerShim:
    """``/dev/vfio/vfio`` on top of an iommufd: one address space, mapped by the old calls."""

    def __init__(self, context: IommufdContext):
        self.context = context
        self.ioas_id: int | None = None

    def api_version(self) -> int:
        return API_VERSION

    def check_extension(self, extension: int) -> int:
        """1 for what it can do, 0 otherwise."""
        return int(extension in (TYPE1, TYPE1V2, UNMAP_ALL))

    def set_ioas(self, ioas_id: int) -> None:
        """`IOMMU_VFIO_IOAS_SET`; ENOENT for an unknown address space."""
        self.context.get(ioas_id, Ioas)
        self.ioas_id = ioas_id

    def clear_ioas(self) -> None:
        """`IOMMU_VFIO_IOAS_CLEAR`."""
        self.ioas()
        self.ioas_id = None

    def ioas(self) -> Ioas:
        """`IOMMU_VFIO_IOAS_GET`; ENODEV without one."""
        if self.ioas_id is None:
            raise IommuError(errno.ENODEV, "the container has no address space")
        return self.context.get(self.ioas_id, Ioas)

    def set_iommu(self, kind: int) -> None:
        """`VFIO_SET_IOMMU`; ENODEV without an address space, EINVAL for an unknown type."""
        self.ioas()
        require(kind in (TYPE1, TYPE1V2), f"type {kind} is unknown")

    async def map_dma(self, frames: Sequence[int], iova: int, permission: Permission = READ_WRITE) -> None:
        """`VFIO_IOMMU_MAP_DMA`; EINVAL for nothing, else as `Ioas.map`."""
        require(frames, "nothing to map")
        await self.ioas().map(frames, iova, permission)

    async def unmap_dma(self, iova: int, size: int, flags: int = 0) -> int:
        """`VFIO_IOMMU_UNMAP_DMA`: how many bytes were unmapped, which may be none; EINVAL for "all" with a range."""
        ioas = self.ioas()
        require(not flags & ~UNMAP_ALL_FLAG, "unknown flags")
        if flags:
            require(not iova and not size, "everything has no range")
            return await ioas.unmap_all()
        require(size, "an empty range")
        try:
            return await ioas.unmap(iova, size)
        except IommuError as error:
            if error.errno != errno.ENOENT:
                raise
            return 0


class VfioGroup:
    """``/dev/vfio/N``: the group path. A device's file is made operational before its user sees it, or not at all.

    Parameters
    ----------
    group : IommuGroup
        The group.
    devices : mapping of str to VfioDevice
        Its devices by name.
    """

    def __init__(self, group: IommuGroup, devices: Mapping[str, VfioDevice]):
        self._group = group
        self._devices = devices
        self._open = False
        self._container: VfioContainerShim | IommufdContext | None = None
        self._files: list[VfioDeviceFd] = []

    def open(self) -> None:
        """EBUSY when somebody has it open, or has one of its devices by a file of its own."""
        taken = self._open or any(device.holder is not None for device in self._devices.values())
        require(not taken, "the group is in use", errno.EBUSY)
        self._open = True

    async def set_container(self, container: object) -> None:
        """`VFIO_GROUP_SET_CONTAINER`: a container, or an iommufd in its place; it owns the group from now on.

        Raises
        ------
        IommuError
            EINVAL when one is set or the group is not open, EBADFD for something else, else as `IommuGroup.claim`.
        """
        require(self._open and self._container is None, "the group has a container already, or is closed")
        if not isinstance(container, (VfioContainerShim, IommufdContext)):
            raise IommuError(errno.EBADFD, "neither a container nor an iommufd")
        await self._group.claim(_context(container))
        self._container = container

    async def get_device_fd(self, name: str) -> VfioDeviceFd:
        """`VFIO_GROUP_GET_DEVICE_FD`: bind, attach the container's address space, and only then hand out the file.

        Raises
        ------
        IommuError
            EINVAL without a container, ENODEV for an unknown device or without address space, EBUSY for one that
            somebody has, else as `IommufdDevice.attach`.
        """
        if self._container is None:
            raise IommuError(errno.EINVAL, "the group has no container")
        device = self._devices.get(name)
        if device is None:
            raise IommuError(errno.ENODEV, f"the group has no device {name}")
        require(device.holder is None, f"{name} is in use", errno.EBUSY)
        file = VfioDeviceFd(device, through_group=True)
        async with device.mutex:
            await file._bind(_context(self._container))
        try:
            if isinstance(self._container, VfioContainerShim):
                await file.attach_pt(self._container.ioas().id)
        except IommuError:
            await file.close()
            raise
        self._files.append(file)
        return file

    async def close(self) -> None:
        """The group's file and all files of its devices are closed."""
        for file in self._files:
            await file.close()
        self._files.clear()
        if self._container is not None:
            await self._group.release(_context(self._container))
        self._container, self._open = None, False


def _context(container: VfioContainerShim | IommufdContext) -> IommufdContext:
    return container.context if isinstance(container, VfioContainerShim) else container
