"""Scenarios of Linux's iommufd.c, fixtures iommufd and iommufd_ioas: address spaces, areas, accesses.

Each docstring names the case whose outcome is asserted.
"""

import asyncio
import errno

import pytest

from nestwalk_sim.host.device import Device
from nestwalk_sim.host.errors import IommuError
from nestwalk_sim.host.iommufd.hwpt import HwptFlags, HwptPaging, allocate_hwpt
from nestwalk_sim.host.iommufd.ioas import INTERRUPTS, Ioas
from sim.tests.host.bench import IOVA, PAGE, expect_errno
from sim.tests.host.user_space import UserSpace


def test_scenario_iommufd_simple_close():
    """Linux selftest iommufd.c, iommufd.simple_close and iommufd_ioas.ioas_auto_destroy, area_auto_destroy: a close
    without any destroy leaves nothing, and blocks the device."""

    async def scenario():
        user = await UserSpace.open()
        pages, domains = len(user.iommu.pages.allocated), len(user.iommu.domain_ids.used)
        frames = await user.pages(3)
        await user.ioas.map(frames, IOVA)
        await user.bound.attach(user.ioas.id)
        assert await user.passes(IOVA)
        await user.context.close()
        assert not await user.passes(IOVA)
        assert user.context.objects == []
        assert len(user.iommu.domain_ids.used) == domains
        assert len(user.iommu.pages.allocated) <= pages + len(frames) + 1, "one PASID table may have been made"
        assert user.group.owner is None

    asyncio.run(scenario())


def test_scenario_iommufd_cmd_fail():
    """Linux selftest iommufd.c, iommufd.cmd_fail: destroy of id 0, and of one that was never given, is ENOENT."""

    async def scenario():
        user = await UserSpace.open()
        for number in (0, 1000):
            await expect_errno(errno.ENOENT, user.context.destroy(number))

    asyncio.run(scenario())


def test_scenario_iommufd_ioas_object_destroy():
    """Linux selftest iommufd.c, iommufd_ioas.ioas_destroy and ioas_area_destroy: EBUSY while a device is attached, and
    the device keeps translating; areas do not hinder."""

    async def scenario():
        user = await UserSpace.open()
        (page,) = await user.pages(1)
        await user.ioas.map([page], IOVA)
        await user.bound.attach(user.ioas.id)
        await expect_errno(errno.EBUSY, user.context.destroy(user.ioas.id))
        assert await user.reaches(IOVA, page)
        await user.bound.detach()
        await user.context.destroy(user.ioas.id)
        await expect_errno(errno.ENOENT, user.context.destroy(user.ioas.id))

    asyncio.run(scenario())


def test_scenario_iommufd_hwpt_attach():
    """Linux selftest iommufd.c, iommufd_ioas.hwpt_attach: attach to a HWPT by its id, to its own again, to another;
    destroy in the order of use."""

    async def scenario():
        user = await UserSpace.open()
        (first, page), (second, other) = [await user.filled(IOVA) for _ in range(2)]
        assert await user.bound.attach(first.id) == first.id
        assert await user.bound.replace(first.id) == first.id
        assert await user.reaches(IOVA, page)
        await expect_errno(errno.EBUSY, user.context.destroy(first.id))
        assert await user.bound.replace(second.id) == second.id
        assert await user.reaches(IOVA, other)
        await user.context.destroy(first.id)
        await user.bound.detach()
        await user.context.destroy(second.id)
        assert not await user.passes(IOVA)

    asyncio.run(scenario())


def test_scenario_iommufd_mock_domain_replace_ioas():
    """Linux selftest iommufd.c, iommufd_mock_domain.replace: the address space of an attached device is replaced, and
    the automatic HWPT of the old one is gone (ENOENT)."""

    async def scenario():
        user = await UserSpace.open()
        second = user.context.add(Ioas(user.context))
        old, new = await user.pages(2)
        await user.ioas.map([old], IOVA)
        await second.map([new], IOVA)
        automatic = await user.bound.attach(user.ioas.id)
        assert await user.bound.replace(second.id) != automatic
        assert await user.reaches(IOVA, new)
        await expect_errno(errno.ENOENT, user.context.destroy(automatic))
        await expect_errno(errno.ENOENT, user.bound.replace(automatic))
        assert await user.reaches(IOVA, new)

    asyncio.run(scenario())


def test_scenario_iommufd_mock_domain_alloc_hwpt():
    """Linux selftest iommufd.c, iommufd_mock_domain.alloc_hwpt: unknown flags EOPNOTSUPP; several HWPTs of one address
    space translate alike; EBUSY for the one that is attached."""

    async def scenario():
        user = await UserSpace.open()
        await expect_errno(errno.EOPNOTSUPP, allocate_hwpt(user.context, user.ioas.id, HwptFlags(1 << 3 | 1 << 1)))
        (page,) = await user.pages(1)
        tables = [await user.hwpt(), await user.hwpt(HwptFlags.NEST_PARENT)]
        await user.ioas.map([page], IOVA)
        tables.append(await user.hwpt(HwptFlags.PASID))
        for hwpt in tables:
            await user.bound.attach(hwpt.id)
            assert await user.reaches(IOVA, page)
            await expect_errno(errno.EBUSY, user.context.destroy(hwpt.id))
            await user.bound.detach()
        await user.ioas.unmap(IOVA, PAGE)
        for hwpt in tables:
            await user.context.destroy(hwpt.id)

    asyncio.run(scenario())


def test_scenario_iommufd_get_hw_info():
    """Linux selftest iommufd.c, iommufd_ioas.get_hw_info: a type that is not the unit's EOPNOTSUPP; a smaller buffer is
    cut off, a larger one filled with zeros; PASID width of the device."""

    async def scenario():
        user = await UserSpace.open(pasid_bits=16)
        with pytest.raises(IommuError) as refused:
            user.bound.hw_info(24, 2)
        assert refused.value.errno == errno.EOPNOTSUPP
        exact = user.bound.hw_info()
        registers = [(await user.iommu.regs.read(name)).raw for name in ("CAP", "ECAP")]
        assert [int.from_bytes(exact.data[at : at + 8], "little") for at in (8, 16)] == registers
        assert (exact.data_len, exact.max_pasid_log2) == (24, 16)
        assert user.bound.hw_info(12).data == exact.data[:12]
        assert user.bound.hw_info(40).data == exact.data + bytes(16)
        assert user.bound.hw_info(12).data_len == 24

    asyncio.run(scenario())


def test_scenario_iommufd_area_of_user():
    """Linux selftest iommufd.c, iommufd_ioas.area: unmap of nothing ENOENT, of a part of an area ENOENT, overlap
    EEXIST; a partial unmap leaves the mapping whole; unmap of all twice is fine."""

    async def scenario():
        user = await UserSpace.open()
        await user.bound.attach(user.ioas.id)
        frames = await user.pages(4)
        await expect_errno(errno.ENOENT, user.ioas.unmap(IOVA, PAGE))
        await user.ioas.map(frames, IOVA)
        for iova, size in ((IOVA, PAGE), (IOVA + PAGE, 3 * PAGE), (IOVA - PAGE, 3 * PAGE)):
            await expect_errno(errno.ENOENT, user.ioas.unmap(iova, size))
        await expect_errno(errno.EEXIST, user.ioas.map(frames, IOVA + 3 * PAGE))
        for number, frame in enumerate(frames):
            assert await user.reaches(IOVA + number * PAGE, frame)
        assert await user.ioas.unmap_all() == 4 * PAGE
        assert await user.ioas.unmap_all() == 0
        assert not await user.passes(IOVA)

    asyncio.run(scenario())


def test_scenario_iommufd_unmap_over_areas():
    """Linux selftest iommufd.c, iommufd_ioas.unmap_fully_contained_areas: one unmap over several areas with holes tells
    how much it was, and nothing stale remains."""

    async def scenario():
        user = await UserSpace.open()
        await user.bound.attach(user.ioas.id)
        frames = await user.pages(8)
        for number in range(4):
            await user.ioas.map(frames[2 * number : 2 * number + 2], IOVA + number * 4 * PAGE)
            assert await user.reaches(IOVA + number * 4 * PAGE, frames[2 * number])
        assert await user.ioas.unmap(IOVA, 16 * PAGE) == 8 * PAGE
        assert not any([await user.passes(IOVA + number * 4 * PAGE) for number in range(4)])

    asyncio.run(scenario())


def test_scenario_iommufd_area_auto_iova():
    """Linux selftest iommufd.c, iommufd_ioas.area_auto_iova: alignment as asked for, no overlap, never a reserved
    range, which is EADDRINUSE when it is named."""

    async def scenario():
        user = await UserSpace.open()
        frames = await user.pages(2)
        found = [await user.ioas.map(frames, align=align) for align in (PAGE, 1 << 21, 1 << 30, 1 << 21)]
        assert [iova % align for iova, align in zip(found, (PAGE, 1 << 21, 1 << 30, 1 << 21), strict=True)] == [0] * 4
        assert len(set(found)) == 4
        for iova in (INTERRUPTS[0], INTERRUPTS[0] - PAGE, INTERRUPTS[1] + 1 - PAGE):
            await expect_errno(errno.EADDRINUSE, user.ioas.map(frames, iova))

    asyncio.run(scenario())


def test_scenario_iommufd_reserved_overflow():
    """Linux selftest iommufd.c, iommufd_ioas.reserved_overflow: no room among the allowed addresses is ENOSPC."""

    async def scenario():
        user = await UserSpace.open()
        frames = await user.pages(3)
        user.ioas.allow([(IOVA, IOVA + 4 * PAGE - 1)])
        assert await user.ioas.map(frames) == IOVA
        await expect_errno(errno.ENOSPC, user.ioas.map(frames))
        assert await user.ioas.map(frames[:1]) == IOVA + 3 * PAGE

    asyncio.run(scenario())


def test_scenario_iommufd_area_allowed():
    """Linux selftest iommufd.c, iommufd_ioas.area_allowed: allowed addresses that are reserved are EADDRINUSE, and so
    is an area beyond the page table that is attached later."""

    async def scenario():
        user = await UserSpace.open()
        frames = await user.pages(1)
        for first, last in (INTERRUPTS, (0, 1 << 40)):
            with pytest.raises(IommuError) as refused:
                user.ioas.allow([(first, last)])
            assert refused.value.errno == errno.EADDRINUSE
        await user.ioas.map(frames, 1 << 50)
        await expect_errno(errno.EADDRINUSE, user.bound.attach(user.ioas.id))
        assert not await user.passes(1 << 50)

    asyncio.run(scenario())


def test_scenario_iommufd_copy_area_between_spaces():
    """Linux selftest iommufd.c, iommufd_ioas.copy_area and copy_sweep: a copy leads to the same pages; what is not
    mapped throughout is ENOENT."""

    async def scenario():
        user = await UserSpace.open()
        second = user.context.add(Ioas(user.context))
        other = await user.bind(Device(0x0310, "other"))
        frames = await user.pages(3)
        await user.ioas.map(frames, IOVA)
        for iova, size in ((IOVA - PAGE, PAGE), (IOVA, 4 * PAGE), (IOVA + 2 * PAGE, 2 * PAGE)):
            await expect_errno(errno.ENOENT, second.copy(user.ioas, iova, size))
        await second.copy(user.ioas, IOVA + PAGE, 2 * PAGE, 2 * IOVA)
        await user.bound.attach(user.ioas.id)
        await other.attach(second.id)
        await user.endpoint.write(IOVA + PAGE, b"the same page")
        assert await user.endpoint_of(other.device).read(2 * IOVA, 13) == b"the same page"

    asyncio.run(scenario())


def test_scenario_iommufd_iova_ranges():
    """Linux selftest iommufd.c, iommufd_ioas.iova_ranges: EMSGSIZE when there is no room for all; an attached device
    bounds them."""

    async def scenario():
        user = await UserSpace.open()
        with pytest.raises(IommuError) as refused:
            user.ioas.ranges(1)
        assert refused.value.errno == errno.EMSGSIZE
        assert user.ioas.ranges(2)[-1][1] == (1 << 64) - 1
        await user.bound.attach(user.ioas.id)
        assert user.ioas.ranges()[-1][1] == (1 << 48) - 1

    asyncio.run(scenario())


def test_scenario_iommufd_failing_map_rolls_back():
    """Linux selftest iommufd.c, iommufd_mock_domain.basic: a map over memory that is partly not there is EFAULT, and
    no page table has any of it."""

    async def scenario():
        user = await UserSpace.open()
        hwpt = await user.hwpt()
        (page,) = await user.pages(1)
        await user.bound.attach(hwpt.id)
        await expect_errno(errno.EFAULT, user.ioas.map([page, page + 64 * PAGE], IOVA))
        assert not await user.passes(IOVA)
        assert hwpt.second_stage is user.ioas.domains[0]
        assert await hwpt.second_stage.table.look_up(IOVA) is None

    asyncio.run(scenario())


def test_scenario_iommufd_fail_nth_map_two_domains():
    """Linux selftest iommufd_fail_nth.c, map_two_domains: a map that fails at any point is in neither page table, and
    can be repeated."""

    async def scenario():
        user = await UserSpace.open()
        tables: list[HwptPaging] = [await user.hwpt() for _ in range(2)]
        frames, nth = await user.pages(3), 0
        while True:
            nth += 1
            user.iommu.fail.fail_nth(nth)
            try:
                await user.ioas.map(frames, IOVA)
            except IommuError:
                user.iommu.fail.disarm()
                for hwpt in tables:
                    assert await hwpt.second_stage.table.look_up(IOVA) is None
                continue
            user.iommu.fail.disarm()
            break
        assert nth > 5
        for hwpt in tables:
            assert await hwpt.second_stage.table.look_up(IOVA + 2 * PAGE) is not None

    asyncio.run(scenario())
