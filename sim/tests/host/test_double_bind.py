"""A second bind of the same PASID and device, under the three policies of S02."""

import asyncio
import errno

import pytest

from nestwalk_sim.host.device import Device
from nestwalk_sim.host.errors import IommuError
from nestwalk_sim.host.vtd.svm import DoubleBind
from sim.tests.host.bringup import GUEST_PASID, HOST_PASID, Platform, fault_of

PLAIN = Device(0x0208, "plain")
SHARED = Device(0x0208, "shared", aux_domains=True)


@pytest.mark.parametrize("device", [PLAIN, SHARED], ids=str)
@pytest.mark.parametrize("policy", DoubleBind)
def test_host_double_bind_policy(policy: DoubleBind, device: Device):
    counted = policy is DoubleBind.REFCOUNT or (policy is DoubleBind.REFCOUNT_AUX_ONLY and device.aux_domains)

    async def scenario():
        platform = await Platform.bring_up(device=device)
        await platform.bind()
        table = platform.iommu.state_of(device).table
        entry, traffic, before = await table.read(HOST_PASID), platform.traffic(), await platform.state()
        if counted:
            await platform.machine.bind(device, platform.process, policy=policy)
        else:
            with pytest.raises(IommuError) as refused:
                await platform.machine.bind(device, platform.process, policy=policy)
            assert refused.value.errno == errno.EBUSY
            assert await platform.state() == before
        assert (await table.read(HOST_PASID), platform.traffic()) == (entry, traffic)

        endpoint = platform.endpoint()
        if counted:
            assert await platform.machine.unbind(device, GUEST_PASID)
            assert await fault_of(endpoint, HOST_PASID) is None
        assert await platform.machine.unbind(device, GUEST_PASID)
        assert await fault_of(endpoint, HOST_PASID) == 0x59
        assert not await platform.machine.unbind(device, GUEST_PASID)

    asyncio.run(scenario())


def test_host_concurrent_binds_have_one_winner():
    async def scenario():
        platform = await Platform.bring_up()
        platform.machine.host_pasids[GUEST_PASID] = platform.iommu.ioasids.allocate(platform.machine.owner, HOST_PASID)
        outcomes = await asyncio.gather(*(platform.bind() for _ in range(3)), return_exceptions=True)
        errors = [outcome.errno for outcome in outcomes if isinstance(outcome, IommuError)]
        assert outcomes.count(None) == 1
        assert errors == [errno.EBUSY, errno.EBUSY]
        assert await fault_of(platform.endpoint(), HOST_PASID) is None

    asyncio.run(scenario())


def test_host_two_devices_share_a_pasid():
    async def scenario():
        platform = await Platform.bring_up()
        other = Device(0x0210, "other")
        await platform.iommu.add_device(other)
        await platform.bind()
        assert await platform.machine.bind(other, platform.process) == HOST_PASID
        assert await platform.machine.unbind(platform.device, GUEST_PASID)
        assert await fault_of(platform.endpoint(), HOST_PASID) == 0x59
        assert await fault_of(platform.endpoint(other), HOST_PASID) is None
        assert await platform.machine.unbind(other, GUEST_PASID)
        assert platform.iommu.ioasids.allocated == {}

    asyncio.run(scenario())
