"""Scenarios of Linux's iommufd.c in which page faults go to user space: fault queues of HWPTs, with and without PASID.

Each docstring names the case whose outcome is asserted.
"""

import asyncio
import errno
from typing import Self

import pytest

from nestwalk_sim.host.device import Device
from nestwalk_sim.host.endpoint import DmaFault
from nestwalk_sim.host.group import IommuGroup
from nestwalk_sim.host.iommufd.context import IommufdContext
from nestwalk_sim.host.iommufd.device import IommufdDevice
from nestwalk_sim.host.iommufd.fault import FaultQueue, HwptPgfault
from nestwalk_sim.host.iommufd.hwpt import Hwpt, HwptFlags, allocate_hwpt
from nestwalk_sim.host.iommufd.ioas import Ioas
from nestwalk_sim.host.iommufd.viommu import Vdevice, Viommu
from sim.tests.host.asking import ASKING, INVALID, SUCCESS, Station
from sim.tests.host.bench import IOVA, PAGE, expect_errno

FAULTS = HwptFlags.FAULT_ID_VALID | HwptFlags.PASID
PASID = 1000
RECORD = HwptPgfault.SIZE


class Faulting(Station):
    """A station whose device is bound to an iommufd and attached to a HWPT with a fault queue; IOVA is not mapped."""

    context: IommufdContext
    bound: IommufdDevice
    ioas: Ioas
    queue: FaultQueue
    hwpt: Hwpt

    @classmethod
    async def attached(cls, pasid: int = 0, depth: int = 64) -> Self:
        station = await cls.open()
        station.context = IommufdContext(station.iommu)
        group = IommuGroup(station.iommu, [ASKING])
        station.bound = await IommufdDevice.bind(station.context, ASKING, group)
        station.ioas = station.context.add(Ioas(station.context))
        station.queue = station.context.add(FaultQueue(depth))
        station.hwpt = await station.allocate()
        await station.bound.attach(station.hwpt.id, pasid)
        return station

    async def allocate(self) -> Hwpt:
        return await allocate_hwpt(self.context, self.ioas.id, FAULTS, fault_id=self.queue.id)


@pytest.mark.parametrize("pasid", [None, PASID])
def test_scenario_iommufd_fault_is_delivered_and_answered(pasid: int | None):
    """Linux selftest iommufd.c, alloc_hwpt_nested and pasid_attach phase 8 (faults): the fault of a faultable HWPT is
    read with its PASID, the page is mapped, and the device goes on after the answer."""

    async def scenario():
        station = await Faulting.attached(pasid or 0)
        (page,) = await station.pages(1)
        writing = asyncio.create_task(station.asking.write(IOVA + 8, b"faulted in", pasid))

        async def user() -> None:
            await station.iommu.page_requests.service()
            for record in await station.queue.read(4 * RECORD):
                assert (record.fault.pasid, record.fault.address, record.fault.write) == (pasid, IOVA, True)
                await station.ioas.map([page], record.fault.address)
                await station.queue.write(record.cookie, SUCCESS)

        assert station.asking.requester is not None
        station.asking.requester._meanwhile = user
        await writing
        assert station.transport.memory.read(page + 8, 10) == b"faulted in"
        await station.bound.detach(pasid or 0)

    asyncio.run(scenario())


def test_scenario_iommufd_fault_queue_rules():
    """Linux selftest iommufd.c, the fault queue's own rules: a read that is no multiple of a record ESPIPE; a group is
    read whole or not at all; an unknown cookie, a used one and an unknown code EINVAL; EBUSY while a HWPT uses it."""

    async def scenario():
        station = await Faulting.attached()
        await station.requester.send([IOVA, IOVA + PAGE], None, write=True)
        await station.requester.send([IOVA + 2 * PAGE], None, write=False)
        await station.serve()
        await expect_errno(errno.ESPIPE, station.queue.read(RECORD + 1))
        assert await station.queue.read(RECORD) == []
        records = await station.queue.read(2 * RECORD)
        assert [record.fault.address for record in records] == [IOVA, IOVA + PAGE]
        assert records[0].cookie == records[1].cookie
        (last,) = await station.queue.read(8 * RECORD)
        await expect_errno(errno.EINVAL, station.queue.write(1000, SUCCESS))
        await expect_errno(errno.EINVAL, station.queue.write(last.cookie, 2))
        await station.queue.write(last.cookie, INVALID)
        await expect_errno(errno.EINVAL, station.queue.write(last.cookie, SUCCESS))
        await station.queue.write(records[0].cookie, SUCCESS)
        assert station.requester.collect() == 0
        assert station.requester.answers == {SUCCESS: 1, INVALID: 1}
        await expect_errno(errno.EBUSY, station.context.destroy(station.queue.id))

    asyncio.run(scenario())


@pytest.mark.parametrize("how", ["detach", "replace", "close"])
def test_scenario_iommufd_fault_is_answered_for_its_user(how: str):
    """Linux selftest iommufd.c, alloc_hwpt_nested (attach and fault part): what is pending when the HWPT is detached or
    replaced is answered INVALID, read or not; a late answer is EINVAL."""

    async def scenario():
        station = await Faulting.attached()
        for number in range(2):
            await station.requester.send([IOVA + number * PAGE], None, write=True)
        await station.serve()
        (read,) = await station.queue.read(RECORD)
        if how == "detach":
            await station.bound.detach()
        elif how == "replace":
            await station.bound.replace((await station.allocate()).id)
        else:
            await station.context.close()
        assert station.requester.collect() == 0
        assert station.requester.answers == {INVALID: 2}
        assert await station.queue.read(8 * RECORD) == []
        await expect_errno(errno.EINVAL, station.queue.write(read.cookie, SUCCESS))

    asyncio.run(scenario())


def test_host_fault_queue_that_is_full():
    """A queue that nobody reads refuses more groups, which are answered INVALID at once; a virtual function, which
    shares its page requests with others, gets no faultable HWPT (EINVAL)."""

    async def scenario():
        station = await Faulting.attached(depth=2)
        for number in range(3):
            await station.requester.send([IOVA + number * PAGE], None, write=True)
        await station.serve()
        assert station.requester.collect() == 2
        assert station.requester.answers == {INVALID: 1}
        for record in await station.queue.read(8 * RECORD):
            await station.queue.write(record.cookie, INVALID)
        function = await station.add(Device(0x0310, "function", ats=True, page_requests=True, physical=0x0208))
        bound = await IommufdDevice.bind(station.context, function, IommuGroup(station.iommu, [function]))
        await expect_errno(errno.EINVAL, bound.attach(station.hwpt.id))

    asyncio.run(scenario())


def test_scenario_viommu_alloc_nested_iopf():
    """Linux selftest iommufd.c, iommufd_viommu.viommu_alloc_nested_iopf: an unknown fault queue ENOENT; with one,
    faults of the guest's device arrive; destroy is EBUSY while it is in use."""

    async def scenario():
        station = await Faulting.attached()
        parent = await allocate_hwpt(station.context, station.ioas.id, HwptFlags.NEST_PARENT | HwptFlags.PASID)
        viommu = Viommu.create(station.context, station.bound.id, parent.id)
        Vdevice.create(viommu, station.bound.id, 0x99)
        await expect_errno(
            errno.ENOENT, allocate_hwpt(station.context, station.ioas.id, HwptFlags.FAULT_ID_VALID, fault_id=1000)
        )
        other = await station.allocate()
        await station.bound.replace(other.id)
        await station.requester.send([IOVA], None, write=True)
        await station.serve()
        (record,) = await station.queue.read(RECORD)
        await station.queue.write(record.cookie, SUCCESS)
        assert station.requester.collect() == 0
        for made in (other, station.queue, parent):
            await expect_errno(errno.EBUSY, station.context.destroy(made.id))
        with pytest.raises(DmaFault):
            await station.endpoint_of(ASKING).write(IOVA, b"unmapped")

    asyncio.run(scenario())
