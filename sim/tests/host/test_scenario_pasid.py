"""Scenarios of Linux's iommufd.c, iommufd_device_pasid.pasid_attach: its steps, numbered as phases 1 to 8."""

import asyncio
import errno

from nestwalk_sim.host.device import Device
from nestwalk_sim.host.errors import IommuError
from nestwalk_sim.host.iommufd.hwpt import HwptFlags
from sim.tests.host.bench import IOVA, expect_errno
from sim.tests.host.user_space import UserSpace

PASID = 1000


def test_scenario_pasid_attach_phase_1():
    """Linux selftest iommufd.c, pasid_attach phase 1: detach of a PASID that nothing is attached to is no error."""

    async def scenario():
        user = await UserSpace.open()
        commands = len(user.iommu.log.entries)
        await user.bound.detach(PASID)
        assert len(user.iommu.log.entries) == commands

    asyncio.run(scenario())


def test_scenario_pasid_attach_phase_2():
    """Linux selftest iommufd.c, pasid_attach phase 2: a device whose requests without PASID use a page table that was
    not made for PASIDs gets none: EINVAL."""

    async def scenario():
        user = await UserSpace.open()
        (plain, _), (capable, page) = await user.filled(IOVA), await user.filled(IOVA, HwptFlags.PASID)
        await user.bound.attach(plain.id)
        await expect_errno(errno.EINVAL, user.bound.attach(capable.id, PASID))
        await user.bound.replace(capable.id)
        await user.bound.attach(capable.id, PASID)
        assert await user.reaches(IOVA, page, PASID)

    asyncio.run(scenario())


def test_scenario_pasid_attach_phase_3():
    """Linux selftest iommufd.c, pasid_attach phase 3: with a PASID attached first, attach and replace of requests
    without PASID to a page table that was not made for it are EINVAL."""

    async def scenario():
        user = await UserSpace.open()
        (plain, _), (capable, page) = await user.filled(IOVA), await user.filled(IOVA, HwptFlags.PASID)
        await user.bound.attach(capable.id, PASID)
        await expect_errno(errno.EINVAL, user.bound.attach(plain.id))
        await expect_errno(errno.EINVAL, user.bound.attach(user.ioas.id))
        await user.bound.attach(capable.id)
        await expect_errno(errno.EINVAL, user.bound.replace(plain.id))
        assert await user.reaches(IOVA, page)

    asyncio.run(scenario())


def test_scenario_pasid_attach_phase_4():
    """Linux selftest iommufd.c, pasid_attach phase 4: a device without PASIDs is EINVAL."""

    async def scenario():
        user = await UserSpace.open()
        plain = await user.bind(Device(0x0310, "plain", pasid_bits=0))
        capable, _ = await user.filled(IOVA, HwptFlags.PASID)
        await expect_errno(errno.EINVAL, plain.attach(capable.id, PASID))

    asyncio.run(scenario())


def test_scenario_pasid_attach_phase_5():
    """Linux selftest iommufd.c, pasid_attach phase 5: an address space, or a page table not made for it, is EINVAL for
    a PASID, which stays blocked."""

    async def scenario():
        user = await UserSpace.open()
        plain, _ = await user.filled(IOVA)
        for pt_id in (plain.id, user.ioas.id):
            await expect_errno(errno.EINVAL, user.bound.attach(pt_id, PASID))
        assert PASID not in user.bound.attached
        assert not await user.passes(IOVA, PASID)

    asyncio.run(scenario())


def test_scenario_pasid_attach_phase_6():
    """Linux selftest iommufd.c, pasid_attach phase 6: a PASID in use is EBUSY, for the same page table too; a replace
    of nothing is EINVAL."""

    async def scenario():
        user = await UserSpace.open()
        (first, page), (second, _) = [await user.filled(IOVA, HwptFlags.PASID) for _ in range(2)]
        await expect_errno(errno.EINVAL, user.bound.replace(first.id, PASID))
        await user.bound.attach(first.id, PASID)
        for hwpt in (first, second):
            await expect_errno(errno.EBUSY, user.bound.attach(hwpt.id, PASID))
        assert await user.reaches(IOVA, page, PASID)

    asyncio.run(scenario())


def test_scenario_pasid_attach_phase_7():
    """Linux selftest iommufd.c, pasid_attach phase 7: a replace that fails, for a wrong page table or in the driver at
    any point, keeps the old one."""

    async def scenario():
        user = await UserSpace.open()
        (old, page), (new, other) = [await user.filled(IOVA, HwptFlags.PASID) for _ in range(2)]
        plain, _ = await user.filled(IOVA)
        await user.bound.attach(old.id, PASID)
        await expect_errno(errno.EINVAL, user.bound.replace(plain.id, PASID))
        assert await user.reaches(IOVA, page, PASID)
        for nth in range(1, 20):
            user.iommu.fail.fail_nth(nth)
            try:
                await user.bound.replace(new.id, PASID)
            except IommuError:
                user.iommu.fail.disarm()
                assert user.bound.attached[PASID] is old
                assert await user.reaches(IOVA, page, PASID)
                continue
            user.iommu.fail.disarm()
            break
        assert user.iommu.fail.passed
        assert not user.iommu.fail.fired
        assert await user.reaches(IOVA, other, PASID)

    asyncio.run(scenario())


def test_scenario_pasid_attach_phase_8():
    """Linux selftest iommufd.c, pasid_attach phase 8: replace, then detach, which blocks; the page tables can go."""

    async def scenario():
        user = await UserSpace.open()
        (old, _), (new, page) = [await user.filled(IOVA, HwptFlags.PASID) for _ in range(2)]
        await user.bound.attach(old.id, PASID)
        await user.bound.replace(new.id, PASID)
        await user.context.destroy(old.id)
        assert await user.reaches(IOVA, page, PASID)
        await user.bound.detach(PASID)
        assert not await user.passes(IOVA, PASID)
        await user.context.destroy(new.id)

    asyncio.run(scenario())


def test_scenario_iommufd_fail_nth_device():
    """Linux selftest iommufd_fail_nth.c, device: bind, attach, PASID attach, replace, detach with a failure at each
    point: everything can be destroyed afterwards, and the next attempt works."""

    async def attempt(nth: int) -> bool:
        user = await UserSpace.open()
        (first, _), (second, page) = [await user.filled(IOVA, HwptFlags.PASID) for _ in range(2)]
        user.iommu.fail.fail_nth(nth)
        try:
            await user.bound.attach(first.id)
            await user.bound.attach(first.id, PASID)
            await user.bound.replace(second.id)
            await user.bound.replace(second.id, PASID)
            await user.bound.detach()
            await user.bound.detach(PASID)
        except IommuError:
            assert user.iommu.fail.fired
        user.iommu.fail.disarm()
        for pasid in (0, PASID):
            await user.bound.detach(pasid)
            await user.bound.attach(second.id, pasid)
            assert await user.reaches(IOVA, page, pasid or None)
        await user.context.close()
        assert user.iommu.state_of(user.device).entries == {}
        return user.iommu.fail.fired

    nth = 1
    while asyncio.run(attempt(nth)):
        nth += 1
    assert nth > 10
