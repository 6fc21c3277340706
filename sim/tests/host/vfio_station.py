"""A bench whose device is there to be opened by user space."""

from nestwalk_sim.host.group import IommuGroup
from nestwalk_sim.host.iommu_domain import IdentityDomain
from nestwalk_sim.host.iommufd.context import IommufdContext
from nestwalk_sim.host.iommufd.ioas import Ioas
from nestwalk_sim.host.vfio import VfioDevice, VfioDeviceFd, VfioGroup
from sim.tests.host.bench import IOVA, Bench

__all__ = ["NAME", "Station", "bound"]

NAME = "0000:02:01.0"


class Station(Bench):
    """A bench whose device is there to be opened."""

    group: IommuGroup
    vfio: VfioDevice
    legacy: VfioGroup

    @classmethod
    async def open(cls, **options: bool) -> "Station":
        station = await cls.bring_up(**options)
        station.group = IommuGroup(station.iommu, [station.device], IdentityDomain(station.iommu))
        station.vfio = VfioDevice(station.device, station.group)
        station.legacy = VfioGroup(station.group, {NAME: station.vfio})
        return station

    async def mapped(self) -> tuple[IommufdContext, Ioas, int]:
        """An iommufd with an address space that maps one page; and the page."""
        context = IommufdContext(self.iommu)
        ioas = context.add(Ioas(context))
        (page,) = await self.pages(1)
        await ioas.map([page], IOVA)
        return context, ioas, page


async def bound(station: Station) -> tuple[VfioDeviceFd, Ioas, int]:
    context, ioas, page = await station.mapped()
    file = station.vfio.open()
    await file.bind_iommufd(context)
    return file, ioas, page
