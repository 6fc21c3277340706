"""A6: whatever allocation, queue slot or answer of the unit fails first, second, ..., the stack survives it.

Linux selftest iommufd_fail_nth.c is the method: the same script with one more fail point each time, until none is
left. A call that makes something leaves the state of before (I12); a call that undoes something can be repeated.
"""

import asyncio
import errno
from collections.abc import Awaitable, Callable
from itertools import count

import pytest

from nestwalk_sim.host.audit import Auditor
from nestwalk_sim.host.device import Device
from nestwalk_sim.host.domain import PagingDomain
from nestwalk_sim.host.errors import IommuError
from nestwalk_sim.host.guest import READ_WRITE
from nestwalk_sim.host.vtd.descriptors import Descriptor, Words
from nestwalk_sim.host.vtd.qi import InvalidationQueue
from sim.tests.host.bringup import ADDRESS, BASE, GUEST_PASID, HOST_PASID, Platform, fault_of

Call = Callable[[], Awaitable[object]]
DEVICE = Device(0x0208, "device", ats=True, page_requests=True)
NETWORK = Device(0x0310, "network card", ats=True, page_requests=True)
PASID = 300


async def prepared() -> tuple[Platform, PagingDomain]:
    """A bound device, and another that has `PASID` and its requests-without-PASID attached to the machine's domain."""
    platform = await Platform.bring_up(device=DEVICE, caching_mode=True)
    await platform.bind()
    await platform.iommu.add_device(NETWORK)
    for pasid in (0, PASID):
        await platform.machine.domain.attach(NETWORK, pasid)
    other = await PagingDomain.create(platform.iommu, platform.machine.owner)
    await other.map(BASE, await platform.iommu.pages.allocate(), 4096, READ_WRITE)
    return platform, other


MAKES: dict[str, Callable[[Platform, PagingDomain], Call]] = {
    "bind": lambda platform, other: lambda: platform.machine.bind(NETWORK, platform.process),
    "attach": lambda platform, other: lambda: other.attach(NETWORK, PASID + 1),
    "replace": lambda platform, other: lambda: other.replace(NETWORK, platform.machine.domain),
    "replace of a PASID": lambda platform, other: lambda: other.replace(NETWORK, platform.machine.domain, PASID),
    "invalidate": lambda platform, other: lambda: platform.machine.invalidate(DEVICE, GUEST_PASID, ADDRESS, 8192),
}


@pytest.mark.parametrize("what", MAKES)
def test_host_fail_nth_leaves_the_state_of_before(what: str, auditors: list[Auditor]):
    async def scenario():
        platform, other = await prepared()
        call, fail = MAKES[what](platform, other), platform.iommu.fail
        for nth in count(1):
            before = auditors[0].state()
            fail.fail_nth(nth)
            try:
                await call()
            except IommuError:
                fail.disarm()
                assert auditors[0].state() == before, fail.passed
                assert await auditors[0].audit() == []
                continue
            fail.disarm()
            assert nth > 1
            return

    asyncio.run(scenario())


UNDOES: dict[str, Callable[[Platform, PagingDomain], Call]] = {
    "unbind": lambda platform, other: lambda: platform.machine.unbind(DEVICE, GUEST_PASID),
    "free": lambda platform, other: lambda: platform.machine.free(GUEST_PASID),
    "detach": lambda platform, other: lambda: platform.machine.domain.detach(NETWORK),
    "detach of a PASID": lambda platform, other: lambda: platform.machine.domain.detach(NETWORK, PASID),
}


@pytest.mark.parametrize("what", UNDOES)
def test_host_fail_nth_can_be_repeated(what: str, auditors: list[Auditor]):
    async def scenario():
        for nth in count(1):
            platform, other = await prepared()
            call, fail = UNDOES[what](platform, other), platform.iommu.fail
            fail.fail_nth(nth)
            try:
                await call()
            except IommuError:
                fail.disarm()
                await call()
                await platform.iommu.work.flush()
            fail.disarm()
            assert await auditors[-1].audit() == []
            if not fail.fired:
                assert nth > 1
                return

    asyncio.run(scenario())


def test_host_fail_nth_descriptor_is_refused(monkeypatch: pytest.MonkeyPatch, auditors: list[Auditor]):
    """The unit refuses the Nth descriptor (IQE): bind and replace leave the state of before."""

    class Refused:
        def words(self) -> Words:
            return 0xF, 0, 0, 0

    async def scenario():
        write_slot, left = InvalidationQueue._write_slot, 0

        async def spoiling(queue: InvalidationQueue, slot: int, descriptor: Descriptor) -> None:
            nonlocal left
            left -= 1
            await write_slot(queue, slot, Refused() if left == 0 else descriptor)

        platform, other = await prepared()
        monkeypatch.setattr(InvalidationQueue, "_write_slot", spoiling)
        for what in ("bind", "replace", "replace of a PASID"):
            for nth in count(1):
                before, left = auditors[0].state(), nth
                met = 0
                try:
                    await MAKES[what](platform, other)()
                except IommuError as error:
                    met = error.errno
                spoiled, left = left <= 0, 0
                assert met in (0, errno.EINVAL), (what, nth)
                assert not met or auditors[0].state() == before, (what, nth)
                if not met and not spoiled:
                    break
                assert spoiled or not met
        left = 0
        assert await fault_of(platform.endpoint(NETWORK), HOST_PASID) is None

    asyncio.run(scenario())
