"""Page requests: SVA with nothing pinned beforehand, in the host and in guests; groups, what is malformed, devices that
go away (S22).
"""

import asyncio
import errno

import pytest

from nestwalk_sim.host.device import Device
from nestwalk_sim.host.endpoint import DmaFault
from nestwalk_sim.host.guest import READ_ONLY
from nestwalk_sim.host.iopf import PageResponse
from nestwalk_sim.host.vmm import VirtualMachine
from nestwalk_sim.host.vtd.sva import sva_unbind_device
from nestwalk_sim.model.page_request import PageRequest
from sim.tests.host.asking import ASKING, HEAP, INVALID, SUCCESS, Holder, Station
from sim.tests.host.bench import PAGE, expect_errno
from sim.tests.host.bringup import ADDRESS, BASE, GUEST_PASID, fault_of


def test_host_sva_faults_pages_in():
    """S22: no page is pinned beforehand; a transfer over four pages asks for them in one group, arrives byte by byte,
    and asks no second time. What the process unmaps is faulted in anew."""

    async def scenario():
        station = await Station.open()
        processes, mm, handle = await station.process()
        content = bytes(number % 251 for number in range(2 * PAGE + 100))
        await station.asking.write(HEAP + PAGE - 50, content, handle.pasid)
        assert (mm.faults, station.requester.answers) == (4, {SUCCESS: 1})
        assert await station.asking.read(HEAP + PAGE - 50, len(content), handle.pasid) == content
        assert mm.faults == 4
        await mm.unmap(HEAP + PAGE)
        mm.reserve(HEAP + PAGE)
        assert await station.asking.read(HEAP + PAGE, 8, handle.pasid) == bytes(8)
        assert mm.faults == 5
        await sva_unbind_device(processes, handle)
        with pytest.raises(DmaFault):
            await station.asking.write(HEAP, b"late", handle.pasid)

    asyncio.run(scenario())


def test_host_guests_fault_pages_in():
    """S22, S04, A7: two guests with equal PASIDs and addresses; each hears of its own faults under its own number, the
    device is answered under the host's, and every byte lands in the right guest."""

    async def scenario():
        station = await Station.open()
        machines = [await VirtualMachine.create(station.iommu, name, BASE, 16) for name in ("red", "blue")]
        processes = [await machine.guest.spawn(GUEST_PASID) for machine in machines]
        pasids = [
            await machine.bind(ASKING, process, minimum=100 * number + 100)
            for number, (machine, process) in enumerate(zip(machines, processes, strict=True))
        ]
        for process in processes:
            process.reserve(ADDRESS)
        for pasid, text in zip(pasids, (b"red", b"blue"), strict=True):
            await station.asking.write(ADDRESS, text, pasid)
        assert [await process.read(ADDRESS, 4) for process in processes] == [b"red\0", b"blue"]
        with pytest.raises(DmaFault):
            await station.asking.write(ADDRESS + PAGE, b"not promised", pasids[0])
        assert station.requester.answers == {SUCCESS: 2, INVALID: 1}
        await machines[0].kill()
        with pytest.raises(DmaFault):
            await station.asking.write(ADDRESS, b"dead", pasids[0])
        await station.asking.write(ADDRESS, b"fine", pasids[1])

    asyncio.run(scenario())


def test_host_page_request_refused():
    """S22: what the process may not touch is INVALID, for writing a page that is read-only too; after a response
    failure the device asks for nothing."""

    async def scenario():
        station = await Station.open()
        _, mm, handle = await station.process()
        mm.reserve(HEAP, READ_ONLY)
        assert await station.asking.read(HEAP, 4, handle.pasid) == bytes(4)
        for address in (HEAP, HEAP + 8 * PAGE):
            with pytest.raises(DmaFault):
                await station.asking.write(address, b"no", handle.pasid)
        assert station.requester.answers == {SUCCESS: 1, INVALID: 2}
        faults, holder = station.iommu.page_requests.faults, Holder()
        faults.handlers[ASKING.source_id, handle.pasid] = holder
        await station.requester.send([HEAP + PAGE], handle.pasid, write=True)
        await station.serve()
        await holder.groups[0].respond(PageResponse.FAILURE)
        await expect_errno(errno.EINVAL, holder.groups[0].respond(PageResponse.SUCCESS))
        assert station.requester.collect() == 0
        assert station.requester.disabled
        with pytest.raises(DmaFault):
            await station.asking.write(HEAP + PAGE, b"no", handle.pasid)

    asyncio.run(scenario())


MALFORMED: dict[str, PageRequest] = {
    "privileged": PageRequest(ASKING.source_id, 1, HEAP, True, False, True, 3, privileged=True),
    "execute": PageRequest(ASKING.source_id, 1, HEAP, True, False, True, 4, execute=True),
    "not canonical": PageRequest(ASKING.source_id, 1, 1 << 60, True, True, True, 5),
    "nobody serves it": PageRequest(ASKING.source_id, None, HEAP, True, True, True, 6),
}


@pytest.mark.parametrize("row", MALFORMED)
def test_host_page_request_that_no_device_may_send(row: str):
    """S22, validation: the group is answered INVALID, with its own PASID and index, and no handler sees it."""

    async def scenario():
        station = await Station.open()
        _, mm, handle = await station.process()
        await station.domain.attach(ASKING)
        assert handle.pasid == 1
        request = MALFORMED[row]
        await station.transport.request_page(request)
        await station.serve()
        (response,) = station.transport.page_responses(ASKING.source_id)
        assert response == (ASKING.source_id, request.pasid, request.group, INVALID)
        assert mm.faults == 0

    asyncio.run(scenario())


def test_historical_stop_marker_is_not_answered():
    """Section 5, row 6: a stop marker is taken and gets no response."""

    async def scenario():
        station = await Station.open()
        _, _, handle = await station.process()
        await station.transport.request_page(PageRequest(ASKING.source_id, handle.pasid, 0, False, False, True, 9))
        await station.serve()
        assert station.transport.page_responses(ASKING.source_id) == []
        assert station.iommu.page_requests.faults.pending == []

    asyncio.run(scenario())


def test_historical_groups_of_equal_index_are_apart():
    """Section 5, row 9: groups with one index under two PASIDs and under none, interleaved: one answer each, with the
    pages of its own."""

    async def scenario():
        station = await Station.open()
        holder, faults = Holder(), station.iommu.page_requests.faults
        station.domain.fault_handler = holder
        for pasid in (0, 40, 41):
            await station.domain.attach(ASKING, pasid)
        for last in (False, True):
            for pasid in (None, 40, 41):
                address = HEAP + (pasid or 0) * PAGE + last * 256 * PAGE
                await station.transport.request_page(PageRequest(ASKING.source_id, pasid, address, True, True, last, 7))
        await station.serve()
        assert [(group.pasid, len(group.faults)) for group in holder.groups] == [(None, 2), (40, 2), (41, 2)]
        for group in holder.groups:
            assert {fault.address for fault in group.faults} == {
                HEAP + (group.pasid or 0) * PAGE + offset * PAGE for offset in (0, 256)
            }
            await group.respond(PageResponse.SUCCESS)
        answers = station.transport.page_responses(ASKING.source_id)
        assert [(answer.pasid, answer.group, answer.code) for answer in answers] == [
            (pasid, 7, SUCCESS) for pasid in (None, 40, 41)
        ]
        faults._settle()
        assert faults.pending == []

    asyncio.run(scenario())


def test_historical_device_removed_while_its_requests_are_in_the_queue():
    """Section 5, row 5: the requester id of a record is nobody's any more: INVALID for it, all others are served."""

    async def scenario():
        station = await Station.open()
        other = await station.add(Device(0x0310, "other", ats=True, page_requests=True))
        _, mm, handle = await station.process()
        await station.domain.attach(other)
        leaving = station.asking_endpoint(other)
        assert leaving.requester is not None
        await leaving.requester.send([HEAP], None, write=True)
        await station.requester.send([HEAP], handle.pasid, write=True)
        state = station.iommu.contexts.devices.pop(other.source_id)
        await station.serve()
        station.iommu.contexts.devices[other.source_id] = state
        assert (leaving.requester.collect(), station.requester.collect(), mm.faults) == (0, 0, 1)
        assert leaving.requester.answers == {INVALID: 1}

    asyncio.run(scenario())


def test_host_page_request_fails_nth():
    """A6: a response that cannot be sent at once is an answer all the same: INVALID, and only one."""

    async def scenario():
        station = await Station.open()
        processes, mm, handle = await station.process()
        for number in range(2):
            await station.requester.send([HEAP + number * PAGE], handle.pasid, write=True)
            station.iommu.fail.fail_nth(number + 1, "queue slot")
            await station.serve()
            station.iommu.fail.disarm()
            assert station.requester.collect() == 0
        assert (station.requester.answers, mm.faults) == ({INVALID: 1, SUCCESS: 1}, 2)
        await sva_unbind_device(processes, handle)
        assert await fault_of(station.asking, handle.pasid, HEAP) is not None

    asyncio.run(scenario())
