"""The fault log reader, and the unwinding of calls that fail at any of their fail points."""

import asyncio

import pytest

from nestwalk.config import IommuConfig
from nestwalk_sim.host.errors import IommuError
from nestwalk_sim.host.inject import FailPoints
from nestwalk_sim.model.request import Access, Request
from sim.tests.host.bringup import GUEST_PASID, HOST_PASID, Platform, fault_of


def test_host_fault_log_drains_in_order_and_wraps():
    async def scenario():
        platform = await Platform.bring_up(IommuConfig(fault_records=4))
        await platform.bind()
        log, source = platform.iommu.faults, platform.device.source_id
        for start in range(0, 9, 3):
            for number in range(start, start + 3):
                await platform.transport.translate(Request(source, HOST_PASID, 0x1000 * number + 0x234, Access.WRITE))
            records = await log.drain()
            assert [record.address for record in records] == [0x1000 * number for number in range(start, start + 3)]
            assert {(record.source_id, record.pasid, record.reason, record.request) for record in records} == {
                (source, HOST_PASID, 0x71, "write")
            }
        assert await log.drain() == []
        assert log.overflowed == 0

    asyncio.run(scenario())


def test_host_fault_log_survives_an_overflow():
    async def scenario():
        platform = await Platform.bring_up(IommuConfig(fault_records=2))
        log, source = platform.iommu.faults, platform.device.source_id
        for number in range(5):
            await platform.transport.translate(Request(source, None, 0x1000 * number, Access.READ))
        assert [(record.address, record.pasid, record.request) for record in await log.drain()] == [
            (0x0000, None, "read"),
            (0x1000, None, "read"),
        ]
        assert log.overflowed == 1
        await platform.transport.translate(Request(source, 9, 0x9000, Access.READ, privileged=True))
        (record,) = await log.drain()
        assert (record.address, record.pasid, record.privileged) == (0x9000, 9, True)
        assert log.overflowed == 1

    asyncio.run(scenario())


@pytest.mark.parametrize("caching_mode", [False, True])
@pytest.mark.parametrize("bound_before", [False, True])
def test_host_bind_unwinds_at_every_fail_point(caching_mode: bool, bound_before: bool):
    """S07: whatever fails, the state is that of before the call, and the next try succeeds."""

    async def attempt(nth: int) -> tuple[bool, list[str]]:
        platform = await Platform.bring_up(caching_mode=caching_mode)
        if bound_before:
            await platform.bind()
            await platform.machine.unbind(platform.device, GUEST_PASID)
        before = await platform.state()
        fail: FailPoints = platform.iommu.fail
        fail.fail_nth(nth)
        try:
            await platform.bind()
        except IommuError:
            assert fail.fired, "no failure but the injected one"
            assert await platform.state() == before
            fail.disarm()
            await platform.bind()
        fail.disarm()
        assert await fault_of(platform.endpoint(), HOST_PASID) is None
        return fail.fired, list(fail.passed)

    nth = 1
    while True:
        fired, passed = asyncio.run(attempt(nth))
        if not fired:
            break
        nth += 1
    assert nth == len(passed) + 1
    assert {"ioasid", "svm", "svm device", "domain id", "pasid enable", "nested entry"} <= set(passed)
    assert ("queue slot" in passed) is (caching_mode or not bound_before)
    assert ("page" in passed) is (not bound_before)


def test_host_unbind_can_be_repeated_after_a_failure():
    async def scenario():
        platform = await Platform.bring_up()
        before = await platform.state()
        await platform.bind()
        endpoint = platform.endpoint()
        assert await fault_of(endpoint, HOST_PASID) is None
        platform.iommu.fail.fail_nth(1, "queue slot")
        with pytest.raises(IommuError):
            await platform.machine.unbind(platform.device, GUEST_PASID)
        assert await platform.machine.unbind(platform.device, GUEST_PASID)
        assert await fault_of(endpoint, HOST_PASID) == 0x59
        assert await platform.state() == before

    asyncio.run(scenario())


def test_host_fail_points_fire_once_and_by_name():
    points = FailPoints()
    points.fail_nth(2, "page")
    points.reach("page")
    points.reach("svm")
    with pytest.raises(IommuError, match="page"):
        points.reach("page")
    points.reach("page")
    assert points.fired
    assert points.passed == ["page", "svm", "page", "page"]
