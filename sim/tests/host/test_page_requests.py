"""Page requests: SVA with nothing pinned beforehand, in the host and in guests; groups, overflow, what is malformed,
storms at unbind, devices that go away (S09, S22, A4).
"""

import asyncio
import errno
from collections.abc import Awaitable, Callable
from random import Random
from typing import Self

import pytest

from nestwalk_sim.host.audit import Auditor
from nestwalk_sim.host.device import Device
from nestwalk_sim.host.endpoint import DmaFault, Endpoint
from nestwalk_sim.host.guest import READ_ONLY
from nestwalk_sim.host.iopf import IopfGroup, PageResponse
from nestwalk_sim.host.mm import Mm
from nestwalk_sim.host.page_requester import PageRequester, Unanswered
from nestwalk_sim.host.vmm import VirtualMachine
from nestwalk_sim.host.vtd.sva import SvaHandle, SvaProcesses, sva_bind_device, sva_unbind_device
from nestwalk_sim.host.vtd.unit import Iommu
from nestwalk_sim.model.page_request import PageRequest
from nestwalk_sim.model_unit import ModelTransport
from sim.tests.host.bench import PAGE, Bench, expect_errno
from sim.tests.host.bringup import ADDRESS, BASE, GUEST_PASID, MEMORY, fault_of

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


@pytest.mark.parametrize("length", [1, 2, 3, 5])
def test_historical_overflow_at_each_boundary_of_groups(length: int):
    """Section 5, row 11: the queue overflows within groups of several lengths; a group whose end was lost is dropped,
    all others are answered once, and afterwards all works again."""

    async def scenario():
        station = await Station.open()
        _, mm, handle = await station.process(length)
        pages = [HEAP + number * PAGE for number in range(length)]
        groups = 0
        while not await station.iommu.page_requests.overflowed():
            await station.requester.send(pages, handle.pasid, write=True)
            groups += 1
        await station.serve()
        assert (station.requester.collect(), station.iommu.page_requests.overflows) == (0, 1)
        assert station.requester.answers == {SUCCESS: groups}
        assert groups == 127 // length + 1
        await station.asking.write(HEAP, b"as ever", handle.pasid)
        assert mm.faults == length
        assert not await station.iommu.page_requests.overflowed()

    asyncio.run(scenario())


Ending = Callable[[Station, VirtualMachine], Awaitable[object]]
ENDINGS: dict[str, Ending] = {
    "unbind": lambda station, machine: machine.unbind(ASKING, GUEST_PASID),
    "free, then unbind": lambda station, machine: _free_and_unbind(machine),
    "kill": lambda station, machine: machine.kill(),
}


async def _free_and_unbind(machine: VirtualMachine) -> None:
    await machine.free(GUEST_PASID)
    await machine.unbind(ASKING, GUEST_PASID)


@pytest.mark.parametrize("how", ENDINGS)
def test_host_page_request_storm_during_unbind(how: str, rng: Random):
    """A4, S09, section 5, rows 1 and 3: requests on the link, in the queue, half of a group, and with a slow handler,
    while the PASID ends; then it is bound for another guest, which hears of none of them."""

    async def scenario():
        station = await Station.open()
        machine, heir = [await VirtualMachine.create(station.iommu, name, BASE, 16) for name in ("old", "heir")]
        process, heirs = [await each.guest.spawn(GUEST_PASID) for each in (machine, heir)]
        slow, storm = Holder(), station.transport.unit.page_requests
        machine.domain.fault_handler = slow
        pasid = await machine.bind(ASKING, process, minimum=100)
        for _ in range(20):
            storm.slow = rng.random() < 0.5
            await station.requester.send([ADDRESS], pasid, write=True, complete=rng.random() < 0.7)
            if rng.random() < 0.3:
                await station.serve()
        await ENDINGS[how](station, machine)
        storm.slow = False
        assert station.requester.collect() == 0
        handled = len(slow.groups)
        again = await heir.bind(ASKING, heirs, minimum=100)
        assert again == pasid
        heirs.reserve(ADDRESS)
        await station.serve()
        await station.asking.write(ADDRESS, b"mine", pasid)
        assert len(slow.groups) == handled, "the old handler hears of nothing any more"
        assert await heirs.read(ADDRESS, 4) == b"mine"
        for group in slow.groups:
            await expect_errno(errno.EINVAL, group.respond(PageResponse.SUCCESS))

    asyncio.run(scenario())


def test_host_page_request_storm_without_pasid():
    """Section 5, row 2: a domain leaves the requests without PASID while such requests are pending."""

    async def scenario():
        station = await Station.open()
        slow = Holder()
        station.domain.fault_handler = slow
        await station.domain.attach(ASKING)
        for _ in range(3):
            await station.requester.send([HEAP], None, write=True)
        await station.serve()
        station.transport.unit.page_requests.slow = True
        await station.requester.send([HEAP], None, write=True)
        await station.domain.detach(ASKING)
        assert (station.requester.collect(), len(slow.groups)) == (0, 3)
        assert station.requester.answers == {INVALID: 4}

    asyncio.run(scenario())


def test_host_page_request_is_not_lost_in_an_overflow_during_drain(auditors: list[Auditor]):
    """§7.5 step d: what overflows while it is drained is drained again."""

    async def scenario():
        station = await Station.open()
        processes, _, handle = await station.process()
        for _ in range(200):
            await station.requester.send([HEAP], handle.pasid, write=True)
        assert await station.iommu.page_requests.overflowed()
        await sva_unbind_device(processes, handle)
        assert station.requester.collect() == 0
        assert not await station.iommu.page_requests.overflowed()
        assert await auditors[0].audit() == []

    asyncio.run(scenario())


def test_host_page_request_waits_for_nobody_for_ever():
    """A handler that never answers: its groups expire INVALID; without that the device gives up by itself."""

    async def scenario():
        station = await Station.open()
        slow = Holder()
        station.domain.fault_handler = slow
        await station.domain.attach(ASKING, 40)
        with pytest.raises(Unanswered):
            await station.asking.write(HEAP, b"?", 40)
        await station.iommu.page_requests.faults.expire(1 << 30)
        assert station.requester.collect() == 1
        await station.iommu.page_requests.faults.expire(0)
        assert station.requester.collect() == 0
        await expect_errno(errno.EINVAL, slow.groups[0].respond(PageResponse.SUCCESS))

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
