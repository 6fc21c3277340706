"""Groups of devices and who owns their DMA (S27): the kernel, one user, or nobody, and the same for all of a group."""

import errno
from collections.abc import Sequence

from .device import Device
from .errors import IommuError, require
from .iommu_domain import IommuDomain
from .transport import Mutex
from .vtd.unit import Iommu

__all__ = ["KERNEL", "IommuGroup"]

KERNEL = "kernel"
"""Owner of a group whose devices have drivers of the host."""


class IommuGroup:
    """Devices that cannot be told apart, or not be kept apart.

    Parameters
    ----------
    iommu : Iommu
        The unit before them.
    devices : sequence of Device
        All of them.
    default : IommuDomain, optional
        What drivers of the host use; without one the devices are blocked while nobody owns them.
    cache_coherent, isolated_interrupts : bool
        What a user has to be able to rely on.

    ``owner`` is None, `KERNEL`, or the token of a user; ``claims`` counts the user's claims. Hold ``mutex`` while
    changing what its devices are attached to.
    """

    def __init__(
        self,
        iommu: Iommu,
        devices: Sequence[Device],
        default: IommuDomain | None = None,
        *,
        cache_coherent: bool = True,
        isolated_interrupts: bool = True,
    ):
        self.iommu = iommu
        self.devices = list(devices)
        self.default = default
        self.cache_coherent = cache_coherent
        self.isolated_interrupts = isolated_interrupts
        self.owner: object = None
        self.claims = 0
        self.mutex = Mutex(iommu.transport)

    async def probe(self) -> None:
        """Let the host's drivers have the devices in the default domain.

        Raises
        ------
        IommuError
            EBUSY when a user owns the group.
        """
        async with self.mutex:
            require(self.owner in (None, KERNEL), "a user owns the group", errno.EBUSY)
            if self.owner is None:
                await self._attach_default()
                self.owner = KERNEL

    async def remove(self) -> None:
        """The host's drivers are gone; the devices are blocked until somebody comes."""
        async with self.mutex:
            if self.owner == KERNEL:
                await self._detach_default()
                self.owner = None

    async def claim(self, owner: object) -> None:
        """`iommu_device_claim_dma_owner`: from now on the devices are blocked but for what ``owner`` attaches.

        Raises
        ------
        IommuError
            EBUSY when another user or the host's drivers own it; EINVAL without cache coherency, EPERM when interrupts
            are not isolated.
        """
        async with self.mutex:
            require(self.owner in (None, owner), "somebody else owns the group", errno.EBUSY)
            require(self.cache_coherent, "the devices are not cache-coherent")
            require(self.isolated_interrupts, "interrupts of the devices are not isolated", errno.EPERM)
            self.owner = owner
            self.claims += 1

    async def release(self, owner: object) -> None:
        """Undo one claim; the last one leaves the group to nobody."""
        async with self.mutex:
            if self.owner is owner and self.claims:
                self.claims -= 1
                self.owner = owner if self.claims else None

    async def _attach_default(self) -> None:
        """All devices or none."""
        for place, device in enumerate(self.devices if self.default else []):
            try:
                await self._default.attach(device)
            except IommuError:
                for earlier in self.devices[:place]:
                    await self._default.detach(earlier)
                raise

    async def _detach_default(self) -> None:
        for device in self.devices if self.default else []:
            await self._default.detach(device)

    @property
    def _default(self) -> IommuDomain:
        if self.default is None:
            raise IommuError(errno.ENODEV, "the group has no default domain")
        return self.default
