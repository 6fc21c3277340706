"""SR-IOV: virtual functions of a physical one, each with a requester id and a PASID table of its own."""

import errno
from dataclasses import replace

from .device import Device
from .errors import IommuError, require
from .vtd.unit import Iommu

__all__ = ["PhysicalFunction"]


class PhysicalFunction:
    """The function that makes others.

    Parameters
    ----------
    iommu : Iommu
        The unit before all of them.
    device : Device
        The physical function itself, known to the unit.
    total, offset, stride : int
        TotalVFs, First VF Offset and VF Stride of its capability: the virtual functions' requester ids are
        ``source_id + offset + n * stride``.

    ``functions`` are the virtual functions that there are.
    """

    def __init__(self, iommu: Iommu, device: Device, total: int, offset: int = 1, stride: int = 1):
        self.device = device
        self.functions: list[Device] = []
        self._iommu = iommu
        self._total = total
        self._offset = offset
        self._stride = stride

    async def enable(self, count: int) -> list[Device]:
        """`pci_enable_sriov`: make virtual functions; all that they do is blocked at first.

        Raises
        ------
        IommuError
            EBUSY when there are some, EINVAL for more than the device has, else as `Contexts.add`; none is left then.
        """
        require(not self.functions, f"{self.device} has virtual functions", errno.EBUSY)
        require(0 < count <= self._total, f"{self.device} has 1 to {self._total} virtual functions")
        try:
            for number in range(count):
                source_id = self.device.source_id + self._offset + number * self._stride
                name = f"{self.device.name} vf{number}"
                function = replace(self.device, source_id=source_id, name=name, physical=self.device.source_id)
                await self._iommu.add_device(function)
                self.functions.append(function)
        except IommuError:
            await self.disable()
            raise
        return list(self.functions)

    async def disable(self) -> None:
        """`pci_disable_sriov`; EBUSY while one is in use, and those before it are gone then."""
        while self.functions:
            await self._iommu.contexts.remove(self.functions[-1])
            self.functions.pop()
