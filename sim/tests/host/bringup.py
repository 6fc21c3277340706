"""A small platform for the tests of the host stack: a software unit, its driver, one machine and one device."""

from dataclasses import dataclass
from typing import Self

from nestwalk.config import IommuConfig
from nestwalk_sim.host.device import Device
from nestwalk_sim.host.endpoint import DmaFault, Endpoint
from nestwalk_sim.host.guest import Process
from nestwalk_sim.host.vmm import VirtualMachine
from nestwalk_sim.host.vtd.unit import Iommu
from nestwalk_sim.model_unit import ModelTransport

__all__ = ["ADDRESS", "BASE", "GUEST_PASID", "HOST_PASID", "MEMORY", "Platform", "fault_of"]

MEMORY = 8 << 20
BASE = 0x4000_0000
ADDRESS = 0x12_3456_7000
GUEST_PASID, HOST_PASID = 5, 100


@dataclass
class Platform:
    """An enabled unit with one machine, whose process has one page mapped at `ADDRESS`, and a device that is not bound
    yet.
    """

    transport: ModelTransport
    iommu: Iommu
    machine: VirtualMachine
    process: Process
    device: Device

    @classmethod
    async def bring_up(
        cls,
        config: IommuConfig | None = None,
        *,
        caching_mode: bool = False,
        coherent: bool = True,
        device: Device | None = None,
    ) -> Self:
        transport = ModelTransport(MEMORY, config, caching_mode=caching_mode, coherent=coherent)
        iommu = await Iommu.create(transport, 0, MEMORY)
        await iommu.enable()
        device = device or Device(0x0208, "device")
        await iommu.add_device(device)
        machine = await VirtualMachine.create(iommu, "guest", BASE, 16)
        process = await machine.guest.spawn(GUEST_PASID)
        await process.map(ADDRESS)
        return cls(transport, iommu, machine, process, device)

    async def bind(self) -> None:
        """Bind the process to the device under `HOST_PASID`."""
        await self.machine.bind(self.device, self.process, minimum=HOST_PASID)

    def endpoint(self, device: Device | None = None) -> Endpoint:
        return Endpoint(device or self.device, self.transport, self.iommu.pages.memory)

    def traffic(self) -> tuple[int, int]:
        """What the unit has seen so far: register accesses and executed descriptors."""
        return self.transport.register_accesses, len(self.transport.unit.queue.executed)

    async def state(self) -> tuple[object, ...]:
        """Everything that a failed call must leave as it was (I12): entries, bindings, PASIDs, domain identifiers."""
        table = self.iommu.state_of(self.device).table
        entries = [await table.read(pasid) for pasid in (0, HOST_PASID, HOST_PASID + 1)]
        bindings = {
            pasid: ioasid.data and [(record.device, record.users) for record in ioasid.data.devices]
            for pasid, ioasid in self.iommu.ioasids.allocated.items()
        }
        domain = self.machine.domain
        return entries, bindings, set(self.iommu.domain_ids.used), list(domain.tags)


async def fault_of(endpoint: Endpoint, pasid: int | None, address: int = ADDRESS) -> int | None:
    """Fault reason of a DMA write, None when it is granted."""
    try:
        await endpoint.write(address, b"probe", pasid)
    except DmaFault as fault:
        return fault.reason
    return None
