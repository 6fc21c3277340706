"""Scenarios of Linux's iommufd.c, fixture iommufd_viommu: virtual units, their devices and events.

Each docstring names the case whose outcome is asserted.
"""

import asyncio
import errno
from collections.abc import Callable

import pytest

from nestwalk_sim.host.device import Device
from nestwalk_sim.host.errors import IommuError
from nestwalk_sim.host.iommufd.hwpt import PartialInvalidation, VtdS1Invalidate
from nestwalk_sim.host.iommufd.viommu import FAULT_EVENTS, LOST_EVENTS, Vdevice, VdeviceInvalidate, Veventq, Viommu
from sim.tests.host.bench import PAGE, expect_errno
from sim.tests.host.user_space import USER, GuestTables, UserSpace

VIRTUAL = 0x99


def refused(call: Callable[[], object]) -> int:
    """The errno of a call that has to fail."""
    with pytest.raises(IommuError) as error:
        call()
    return error.value.errno


async def virtual_unit() -> tuple[UserSpace, GuestTables, Viommu]:
    user = await UserSpace.open()
    parent, guest = await user.guest()
    return user, guest, Viommu.create(user.context, user.bound.id, parent.id)


def test_scenario_viommu_auto_destroy():
    """Linux selftest iommufd.c, iommufd_viommu.viommu_auto_destroy: a close takes virtual unit, device and events."""

    async def scenario():
        user, _, viommu = await virtual_unit()
        Vdevice.create(viommu, user.bound.id, VIRTUAL)
        user.context.add(Veventq(viommu, FAULT_EVENTS, 2))
        await user.context.close()
        assert user.context.objects == []

    asyncio.run(scenario())


def test_scenario_viommu_negative_tests():
    """Linux selftest iommufd.c, iommufd_viommu.viommu_negative_tests: unknown ids ENOENT, a page table that is no
    parent EINVAL, an unknown kind EOPNOTSUPP; EBUSY for a parent with a virtual unit, and for that with children."""

    async def scenario():
        user, guest, viommu = await virtual_unit()
        plain, context = await user.hwpt(), user.context
        assert refused(lambda: Viommu.create(context, user.bound.id, 0)) == errno.ENOENT
        assert refused(lambda: Viommu.create(context, 1000, guest.parent.id)) == errno.ENOENT
        assert refused(lambda: Viommu.create(context, user.bound.id, plain.id)) == errno.EINVAL
        assert refused(lambda: Viommu.create(context, user.bound.id, guest.parent.id, 7)) == errno.EOPNOTSUPP
        await expect_errno(errno.EBUSY, context.destroy(guest.parent.id))
        vdevice = Vdevice.create(viommu, user.bound.id, VIRTUAL)
        await expect_errno(errno.EBUSY, context.destroy(viommu.id))
        for made in (vdevice, viommu, guest.parent):
            await context.destroy(made.id)

    asyncio.run(scenario())


def test_scenario_viommu_vdevice_alloc():
    """Linux selftest iommufd.c, iommufd_viommu.vdevice_alloc: an event before the device is known ENOENT; a second
    queue of a type, and a second device with an id, EEXIST; three events where two fit: a record tells of the loss."""

    async def scenario():
        user, _, viommu = await virtual_unit()
        queue = user.context.add(Veventq(viommu, FAULT_EVENTS, 2))
        await expect_errno(errno.ENOENT, viommu.report(FAULT_EVENTS, VIRTUAL, "early"))
        Vdevice.create(viommu, user.bound.id, VIRTUAL)
        other = await user.bind(Device(0x0310, "other"))
        assert refused(lambda: Vdevice.create(viommu, other.id, VIRTUAL)) == errno.EEXIST
        assert refused(lambda: Vdevice.create(viommu, 1000, VIRTUAL + 1)) == errno.ENOENT
        assert refused(lambda: Veventq(viommu, FAULT_EVENTS, 2)) == errno.EEXIST
        assert refused(lambda: Veventq(viommu, 9, 2)) == errno.EOPNOTSUPP
        await expect_errno(errno.ENOENT, viommu.report(9, VIRTUAL, "of no type"))
        for number in range(3):
            await viommu.report(FAULT_EVENTS, VIRTUAL, number)
        assert [(event.sequence, event.flags, event.data) for event in queue.read()] == [
            (1, 0, 0),
            (2, 0, 1),
            (3, LOST_EVENTS, None),
        ]
        await viommu.report(FAULT_EVENTS, VIRTUAL, "after")
        assert [event.sequence for event in queue.read()] == [4]

    asyncio.run(scenario())


def test_scenario_viommu_vdevice_cache():
    """Linux selftest iommufd.c, iommufd_viommu.vdevice_cache, and S19: invalidations through the virtual unit reach
    what its own devices use; a wrong device is EINVAL, with the count of those done before."""

    async def scenario():
        user, guest, viommu = await virtual_unit()
        vdevice = Vdevice.create(viommu, user.bound.id, VIRTUAL)
        other = await user.bind(Device(0x0310, "other", ats=True))
        (table, _), (foreign, _) = [await guest.table() for _ in range(2)]
        await user.bound.attach((await guest.nested(table)).id)
        await other.attach((await guest.nested(foreign)).id)
        assert await user.passes(USER)
        await table.unmap(USER, PAGE)
        one = VtdS1Invalidate(addr=USER, npages=1)
        commands = len(user.iommu.log.entries)
        with pytest.raises(PartialInvalidation) as error:
            await viommu.invalidate([VdeviceInvalidate(vdevice.id, one), VdeviceInvalidate(other.id, one)])
        assert (error.value.errno, error.value.done) == (errno.EINVAL, 1)
        assert not await user.passes(USER)
        texts = " ".join(entry.text for entry in user.iommu.log.entries[commands:])
        assert "0208" in texts
        assert "0310" not in texts
        assert await viommu.invalidate([]) == 0
        bad = VdeviceInvalidate(vdevice.id, VtdS1Invalidate(addr=USER, npages=1, flags=4))
        with pytest.raises(PartialInvalidation) as error:
            await viommu.invalidate([bad])
        assert (error.value.errno, error.value.done) == (errno.EOPNOTSUPP, 0)

    asyncio.run(scenario())


def test_scenario_viommu_vdevice_tombstone():
    """Linux selftest iommufd.c, iommufd_viommu.vdevice_tombstone: when the device goes first, its number answers ENOENT
    and its virtual id stays taken, until the number is destroyed."""

    async def scenario():
        user, _, viommu = await virtual_unit()
        vdevice = Vdevice.create(viommu, user.bound.id, VIRTUAL)
        other = await user.bind(Device(0x0310, "other"))
        await user.context.destroy(user.bound.id)
        assert refused(lambda: user.context.get(vdevice.id, Vdevice)) == errno.ENOENT
        assert refused(lambda: Vdevice.create(viommu, other.id, VIRTUAL)) == errno.EEXIST
        await expect_errno(errno.EBUSY, user.context.destroy(viommu.id))
        await user.context.destroy(vdevice.id)
        Vdevice.create(viommu, other.id, VIRTUAL)

    asyncio.run(scenario())
