"""A bench for the scenarios of other projects: a unit, a device that is attached to nothing, and a domain."""

from collections.abc import Coroutine
from typing import Self

import pytest

from nestwalk_sim.host.device import Device
from nestwalk_sim.host.domain import PagingDomain
from nestwalk_sim.host.endpoint import DmaFault, Endpoint
from nestwalk_sim.host.errors import IommuError
from nestwalk_sim.host.ioasid import IoasidSet
from nestwalk_sim.host.vtd.unit import Iommu
from nestwalk_sim.model_unit import ModelTransport
from sim.tests.host.bringup import MEMORY

__all__ = ["IOVA", "PAGE", "Bench", "expect_errno"]

PAGE = 4096
IOVA = 0x4000_0000


class Bench:
    """An enabled unit, one device that is attached to nothing, and a domain."""

    transport: ModelTransport
    iommu: Iommu
    device: Device
    domain: PagingDomain
    endpoint: Endpoint

    @classmethod
    async def bring_up(cls, size: int = MEMORY, *, ats: bool = False, pasid_bits: int = 20) -> Self:
        bench = cls()
        bench.transport = ModelTransport(size)
        bench.iommu = await Iommu.create(bench.transport, 0, MEMORY)
        await bench.iommu.enable()
        bench.device = await bench.add(Device(0x0208, "device", ats=ats, pasid_bits=pasid_bits))
        bench.domain = await bench.new_domain()
        bench.endpoint = bench.endpoint_of(bench.device)
        return bench

    async def add(self, device: Device) -> Device:
        await self.iommu.add_device(device)
        return device

    async def new_domain(self) -> PagingDomain:
        return await PagingDomain.create(self.iommu, IoasidSet("owner"))

    def endpoint_of(self, device: Device) -> Endpoint:
        tlb = self.transport.device_tlb(device.source_id) if device.ats else None
        return Endpoint(device, self.transport, self.iommu.pages.memory, tlb)

    async def pages(self, number: int) -> list[int]:
        return [await self.iommu.pages.allocate() for _ in range(number)]

    async def reaches(self, iova: int, host: int, pasid: int | None = None) -> bool:
        """Whether what the device writes at ``iova`` arrives at ``host``; False when it is blocked."""
        word = iova.to_bytes(8, "little")
        try:
            await self.endpoint.write(iova, word, pasid)
        except DmaFault:
            return False
        assert self.transport.memory.read(host, 8) == word
        return True


async def expect_errno(number: int, call: Coroutine[object, object, object]) -> None:
    with pytest.raises(IommuError) as refused:
        await call
    assert refused.value.errno == number, refused.value
