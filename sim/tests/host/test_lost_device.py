"""A device that answers nothing any more: what is refused to it, and its way back (R12, S10)."""

import asyncio
import errno

import pytest

from nestwalk_sim.host.audit import Auditor
from nestwalk_sim.host.device import Device
from nestwalk_sim.host.endpoint import Endpoint
from sim.tests.host.bench import expect_errno
from sim.tests.host.bringup import ADDRESS, GUEST_PASID, HOST_PASID, Platform, fault_of

CONTEXT_NOT_PRESENT = 0x41


@pytest.mark.parametrize("caching_mode", [False, True])
def test_host_lost_device_is_refused_and_comes_back(caching_mode: bool):
    """While it is out nothing can be bound to it; after a reset it finds its binding, and nothing stale."""

    async def scenario():
        device = Device(0x0208, "device", ats=True)
        platform = await Platform.bring_up(caching_mode=caching_mode, device=device)
        machine, iommu = platform.machine, platform.iommu
        await platform.bind()
        tlb = platform.transport.device_tlb(device.source_id)
        endpoint = Endpoint(device, platform.transport, iommu.pages.memory, tlb)
        await endpoint.write(ADDRESS, b"kept", HOST_PASID)
        tlb.silent = True
        second = await machine.guest.spawn(GUEST_PASID + 1)
        await platform.process.unmap(ADDRESS)
        await machine.invalidate(device, GUEST_PASID, ADDRESS, 4096)
        await iommu.work.flush()
        commands = len(iommu.log.entries)
        await expect_errno(errno.ENODEV, machine.bind(device, second))
        await expect_errno(errno.ENODEV, machine.domain.attach(device))
        assert len(iommu.log.entries) == commands, "nothing was sent"
        assert await fault_of(platform.endpoint(), HOST_PASID) == CONTEXT_NOT_PRESENT
        await expect_errno(errno.ENODEV, iommu.readmit(device))
        await iommu.work.flush()
        tlb.reset()
        await iommu.readmit(device)
        await expect_errno(errno.EBUSY, iommu.readmit(device))
        assert await fault_of(endpoint, HOST_PASID) is not None, "what it kept is gone"
        await platform.process.map(ADDRESS)
        await endpoint.write(ADDRESS, b"new", HOST_PASID)
        assert await platform.process.read(ADDRESS, 3) == b"new"
        await machine.bind(device, second)
        assert await machine.unbind(device, GUEST_PASID)

    asyncio.run(scenario())


def test_host_fault_log_is_checked(auditors: list[Auditor]):
    """I10: the auditor misses a record that was swallowed, and notices one that nobody caused."""

    async def scenario():
        platform = await Platform.bring_up()
        (auditor,) = auditors
        assert await fault_of(platform.endpoint(), HOST_PASID) is not None
        assert await auditor.audit() == []
        for listener in platform.transport.blocked:
            platform.transport.blocked.remove(listener)
        assert await fault_of(platform.endpoint(), HOST_PASID) is not None
        (problem,) = await auditor.audit()
        assert problem.startswith("I10: a record that nobody caused")
        platform.iommu.faults.on_record.clear()
        await platform.iommu.faults.drain()
        (problem,) = await auditor.audit()
        assert problem.startswith("I10: a fault without record")
        auditors.clear()

    asyncio.run(scenario())
