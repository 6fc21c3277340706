"""Page requests by the hundred while a PASID ends, is reused, or the queue overflows (S09, A4, §7.5)."""

import asyncio
import errno
from collections.abc import Awaitable, Callable
from random import Random

import pytest

from nestwalk_sim.host.audit import Auditor
from nestwalk_sim.host.iopf import PageResponse
from nestwalk_sim.host.page_requester import Unanswered
from nestwalk_sim.host.vmm import VirtualMachine
from nestwalk_sim.host.vtd.sva import sva_unbind_device
from sim.tests.host.asking import ASKING, HEAP, INVALID, SUCCESS, Holder, Station
from sim.tests.host.bench import PAGE, expect_errno
from sim.tests.host.bringup import ADDRESS, BASE, GUEST_PASID

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
