"""A bench whose device asks for pages."""

from typing import Self

from nestwalk_sim.host.device import Device
from nestwalk_sim.host.endpoint import Endpoint
from nestwalk_sim.host.iopf import IopfGroup
from nestwalk_sim.host.mm import Mm
from nestwalk_sim.host.page_requester import PageRequester
from nestwalk_sim.host.vtd.sva import SvaHandle, SvaProcesses, sva_bind_device
from nestwalk_sim.host.vtd.unit import Iommu
from nestwalk_sim.model_unit import ModelTransport
from sim.tests.host.bench import PAGE, Bench
from sim.tests.host.bringup import MEMORY

__all__ = ["ASKING", "FAILURE", "HEAP", "INVALID", "SUCCESS", "Holder", "Station"]

HEAP = 0x7F00_1234_5000
ASKING = Device(0x0208, "asking", ats=True, page_requests=True)
SUCCESS, INVALID, FAILURE = 0, 1, 0xF


class Station(Bench):
    """A bench whose device asks for pages."""

    asking: Endpoint
    requester: PageRequester

    @classmethod
    async def open(cls) -> Self:
        station = cls()
        station.transport = ModelTransport(MEMORY)
        station.iommu = await Iommu.create(station.transport, 0, MEMORY)
        await station.iommu.enable()
        station.device = await station.add(ASKING)
        station.domain = await station.new_domain()
        station.asking = station.asking_endpoint(ASKING)
        station.requester = station.asking.requester or PageRequester(ASKING, station.transport, station.serve)
        station.endpoint = station.asking
        return station

    async def serve(self) -> None:
        await self.iommu.page_requests.service()

    def asking_endpoint(self, device: Device) -> Endpoint:
        requester = PageRequester(device, self.transport, self.serve)
        tlb = self.transport.device_tlb(device.source_id)
        return Endpoint(device, self.transport, self.iommu.pages.memory, tlb, requester)

    async def process(self, pages: int = 4) -> tuple[SvaProcesses, Mm, SvaHandle]:
        """A process that has been promised some pages and has none of them, bound to the device."""
        processes, mm = SvaProcesses(self.iommu), await Mm.create(self.iommu.pages)
        for number in range(pages):
            mm.reserve(HEAP + number * PAGE)
        return processes, mm, await sva_bind_device(processes, ASKING, mm)


class Holder:
    """A handler that keeps groups and answers nothing by itself."""

    def __init__(self):
        self.groups: list[IopfGroup] = []

    async def handle(self, group: IopfGroup) -> None:
        self.groups.append(group)
