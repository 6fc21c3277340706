"""Native SVA: devices in a process of the host, sharing, counting, changes, and an end in either order."""

import asyncio
import errno
from itertools import count

import pytest

from nestwalk_sim.host.audit import Auditor
from nestwalk_sim.host.device import Device
from nestwalk_sim.host.errors import IommuError
from nestwalk_sim.host.mm import Mm
from nestwalk_sim.host.vtd.sva import SvaHandle, SvaProcesses, sva_bind_device, sva_unbind_device
from nestwalk_sim.host.vtd.unit import Iommu
from sim.tests.host.bench import Bench
from sim.tests.host.bringup import fault_of

PAGE = 0x7F00_1234_5000
NOT_PRESENT_PASID, NOT_PRESENT_PAGE = 0x59, 0x71


async def bench_with_process(**options) -> tuple[Bench, SvaProcesses, Mm]:
    """A bench, and a process with one page at `PAGE`."""
    bench = await Bench.bring_up(**options)
    mm = await Mm.create(bench.iommu.pages)
    await mm.map(PAGE)
    return bench, SvaProcesses(bench.iommu), mm


async def fault_under(bench: Bench, handle: SvaHandle) -> int | None:
    return await fault_of(bench.endpoint_of(handle.device), handle.pasid, PAGE)


def test_host_sva_devices_share_a_process():
    """One PASID for all devices of a process; the same handle for a second bind, which counts (section 5, row 37)."""

    async def scenario():
        bench, processes, mm = await bench_with_process(ats=True)
        other = await bench.add(Device(0x0310, "other"))
        first, second = [await sva_bind_device(processes, device, mm) for device in (bench.device, other)]
        assert first.pasid == second.pasid
        assert await sva_bind_device(processes, other, mm) is second
        await sva_unbind_device(processes, second)
        assert [await fault_under(bench, handle) for handle in (first, second)] == [None, None]
        await sva_unbind_device(processes, first)
        assert [await fault_under(bench, handle) for handle in (first, second)] == [NOT_PRESENT_PASID, None]
        await sva_unbind_device(processes, second)
        assert await fault_under(bench, second) == NOT_PRESENT_PASID
        assert bench.iommu.ioasids.allocated == {}

    asyncio.run(scenario())


@pytest.mark.parametrize("ats", [False, True])
def test_host_sva_follows_the_process(ats: bool):
    """What the process unmaps is out of reach before its page is freed."""

    async def scenario():
        bench, processes, mm = await bench_with_process(ats=ats)
        await mm.map(PAGE + 4096)
        handle = await sva_bind_device(processes, bench.device, mm)
        assert await fault_under(bench, handle) is None
        await mm.unmap(PAGE)
        assert await fault_under(bench, handle) == NOT_PRESENT_PAGE
        await mm.map(PAGE)
        await bench.endpoint.write(PAGE, b"mapped again", handle.pasid)
        leaf = await mm.table.look_up(PAGE)
        assert leaf is not None
        assert bench.transport.memory.read(leaf.output(PAGE), 12) == b"mapped again"
        await sva_unbind_device(processes, handle)
        await mm.unmap(PAGE)

    asyncio.run(scenario())


def test_host_sva_process_ends_first():
    """R10: what the device still sends is blocked and not recorded; the late unbind clears what is left."""

    async def scenario():
        bench, processes, mm = await bench_with_process(ats=True)
        handle = await sva_bind_device(processes, bench.device, mm)
        assert await fault_under(bench, handle) is None
        await mm.exit()
        assert await fault_under(bench, handle) is not None
        assert await bench.iommu.faults.drain() == []
        with pytest.raises(IommuError) as refused:
            await sva_bind_device(processes, bench.device, mm)
        assert refused.value.errno == errno.EBUSY
        await sva_unbind_device(processes, handle)
        assert await fault_under(bench, handle) == NOT_PRESENT_PASID
        assert len(await bench.iommu.faults.drain()) == 1
        assert bench.iommu.ioasids.allocated == {}

    asyncio.run(scenario())


def test_host_sva_refuses():
    """No PASIDs ENODEV, PASID too wide EOVERFLOW, none left ENOSPC; nothing is sent."""

    async def scenario():
        bench, processes, mm = await bench_with_process()
        plain = await bench.add(Device(0x0310, "plain", pasid_bits=0))
        narrow = await bench.add(Device(0x0311, "narrow", pasid_bits=1))
        for number in range(1, 3):
            bench.iommu.ioasids.allocate(processes.owner, number)
        commands = len(bench.iommu.log.entries)
        for device, expected in ((plain, errno.ENODEV), (narrow, errno.ENOSPC)):
            with pytest.raises(IommuError) as refused:
                await sva_bind_device(processes, device, mm)
            assert refused.value.errno == expected
        assert len(bench.iommu.log.entries) == commands
        handle = await sva_bind_device(processes, bench.device, mm)
        commands = len(bench.iommu.log.entries)
        with pytest.raises(IommuError) as refused:
            await sva_bind_device(processes, narrow, mm)
        assert (refused.value.errno, handle.pasid) == (errno.EOVERFLOW, 3)
        assert len(bench.iommu.log.entries) == commands

    asyncio.run(scenario())


@pytest.mark.parametrize("shared", [False, True], ids=["first device", "second device"])
def test_host_sva_bind_unwinds_at_every_fail_point(shared: bool, auditors: list[Auditor]):
    """I12: the state of before, whatever fails."""

    async def scenario():
        bench, processes, mm = await bench_with_process(ats=True)
        other = await bench.add(Device(0x0310, "other"))
        if shared:
            await sva_bind_device(processes, other, mm)
        iommu: Iommu = bench.iommu
        for nth in count(1):
            before = auditors[0].state()
            iommu.fail.fail_nth(nth)
            try:
                handle = await sva_bind_device(processes, bench.device, mm)
            except IommuError:
                iommu.fail.disarm()
                assert auditors[0].state() == before
                continue
            iommu.fail.disarm()
            assert nth > 3
            assert await fault_under(bench, handle) is None
            return

    asyncio.run(scenario())
