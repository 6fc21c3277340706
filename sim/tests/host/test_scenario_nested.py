"""Scenarios of Linux's iommufd.c, alloc_hwpt_nested: a guest's page tables on a parent, and its invalidations.

Each docstring names the case whose outcome is asserted.
"""

import asyncio
import errno
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from nestwalk_sim.host.guest import READ_WRITE
from nestwalk_sim.host.iommufd.fault import FaultQueue
from nestwalk_sim.host.iommufd.hwpt import (
    HwptFlags,
    HwptNested,
    PartialInvalidation,
    VtdS1,
    VtdS1Invalidate,
    allocate_hwpt,
)
from nestwalk_sim.host.vtd.page_tables import PageTable
from sim.tests.host.bench import PAGE, expect_errno
from sim.tests.host.user_space import GUEST_BASE, USER, UserSpace

GOOD = VtdS1(pgtbl_addr=GUEST_BASE)
NONE = HwptFlags.NONE
Arguments = tuple[object, ...]

REFUSED: dict[str, tuple[int, Callable[[UserSpace, int, int], Arguments]]] = {
    "unknown parent": (errno.ENOENT, lambda user, parent, plain: (1000,)),
    "a device as parent": (errno.EINVAL, lambda user, parent, plain: (user.bound.id,)),
    "parent with a fault queue": (
        errno.EOPNOTSUPP,
        lambda user, parent, plain: (user.ioas.id, HwptFlags.NEST_PARENT | HwptFlags.FAULT_ID_VALID, 0, None, 1),
    ),
    "no data": (errno.EINVAL, lambda user, parent, plain: (parent,)),
    "unknown data type": (errno.EOPNOTSUPP, lambda user, parent, plain: (parent, NONE, 2, GOOD)),
    "data that is not there": (errno.EFAULT, lambda user, parent, plain: (parent, NONE, 1)),
    "nested as parent": (errno.EOPNOTSUPP, lambda user, parent, plain: (parent, HwptFlags.NEST_PARENT, 1, GOOD)),
    "parent not made for it": (errno.EINVAL, lambda user, parent, plain: (plain, NONE, 1, GOOD)),
    "unknown fault queue": (
        errno.ENOENT,
        lambda user, parent, plain: (parent, HwptFlags.FAULT_ID_VALID, 1, GOOD, 1000),
    ),
    "unknown flags of the data": (
        errno.EOPNOTSUPP,
        lambda user, parent, plain: (parent, NONE, 1, replace(GOOD, flags=1 << 3)),
    ),
    "width": (errno.EINVAL, lambda user, parent, plain: (parent, NONE, 1, replace(GOOD, addr_width=39))),
    "dirty tracking that the unit does not have": (
        errno.EOPNOTSUPP,
        lambda user, parent, plain: (user.ioas.id, HwptFlags.DIRTY_TRACKING),
    ),
}


@pytest.mark.parametrize("row", REFUSED)
def test_scenario_iommufd_alloc_hwpt_nested_refused(row: str):
    """Linux selftest iommufd.c, iommufd_ioas.alloc_hwpt_nested (allocation), and iommufd_dirty_tracking.enforce_dirty:
    the errno of each bad allocation, and nothing sent to the unit."""

    async def scenario():
        user = await UserSpace.open()
        parent, _ = await user.guest()
        plain = await user.hwpt()
        objects, commands = len(user.context.objects), len(user.iommu.log.entries)
        domains = set(user.iommu.domain_ids.used)
        number, arguments = REFUSED[row]
        await expect_errno(number, allocate_hwpt(user.context, *cast(Any, arguments(user, parent.id, plain.id))))
        assert (len(user.context.objects), len(user.iommu.log.entries)) == (objects, commands)
        assert user.iommu.domain_ids.used == domains

    asyncio.run(scenario())


def test_scenario_iommufd_alloc_hwpt_nested_on_nested():
    """Linux selftest iommufd.c, alloc_hwpt_nested: a nested HWPT is no parent (EINVAL); a parent with children is
    EBUSY, and goes after them; a page table with the largest root goes too far (EINVAL)."""

    async def scenario():
        user = await UserSpace.open()
        parent, guest = await user.guest()
        nested = await guest.nested((await guest.table())[0])
        await expect_errno(errno.EINVAL, allocate_hwpt(user.context, nested.id, NONE, 1, GOOD))
        far = VtdS1(pgtbl_addr=1 << 48)
        await expect_errno(errno.EINVAL, allocate_hwpt(user.context, parent.id, NONE, 1, far))
        await expect_errno(errno.EBUSY, user.context.destroy(parent.id))
        await user.context.destroy(nested.id)
        await user.context.destroy(parent.id)

    asyncio.run(scenario())


async def attached(user: UserSpace) -> tuple[HwptNested, PageTable, list[int]]:
    """A nested HWPT under the device, with four pages that the device has used; and their host addresses."""
    _, guest = await user.guest()
    table, page = await guest.table()
    hosts = [page]
    for number in range(1, 4):
        gpa = await guest.pages.allocate()
        await table.map(USER + number * PAGE, gpa, PAGE, READ_WRITE)
        hosts.append(guest.memory.frames[gpa])
    nested = await guest.nested(table)
    await user.bound.attach(nested.id)
    for number in range(4):
        assert await user.passes(USER + number * PAGE)
    return nested, table, hosts


MALFORMED: dict[str, tuple[int, VtdS1Invalidate]] = {
    "address that is no page": (errno.EINVAL, VtdS1Invalidate(addr=USER + 8, npages=1)),
    "everything from somewhere on": (errno.EINVAL, VtdS1Invalidate(addr=USER)),
    "unknown flag": (errno.EOPNOTSUPP, VtdS1Invalidate(addr=USER, npages=1, flags=2)),
    "reserved field": (errno.EOPNOTSUPP, VtdS1Invalidate(addr=USER, npages=1, reserved=1)),
}


@pytest.mark.parametrize("row", MALFORMED)
def test_scenario_iommufd_nested_invalidate_partial(row: str):
    """Linux selftest iommufd.c, alloc_hwpt_nested (invalidation): two requests of which the second is bad: 1 is
    returned, the first is done, the second has no effect."""

    async def scenario():
        user = await UserSpace.open()
        nested, table, _ = await attached(user)
        number, bad = MALFORMED[row]
        await table.unmap(USER, PAGE)
        with pytest.raises(PartialInvalidation) as refused:
            await nested.invalidate([VtdS1Invalidate(addr=USER, npages=1), bad, VtdS1Invalidate()])
        assert (refused.value.errno, refused.value.done) == (number, 1)
        assert not await user.passes(USER)
        commands = len(user.iommu.log.entries)
        with pytest.raises(PartialInvalidation) as refused:
            await nested.invalidate([bad])
        assert refused.value.done == 0
        assert len(user.iommu.log.entries) == commands

    asyncio.run(scenario())


@pytest.mark.parametrize("how", ["nothing", "one entry", "several entries", "everything"])
def test_scenario_iommufd_nested_invalidate(how: str):
    """Linux selftest iommufd.c, alloc_hwpt_nested (invalidation): an empty array, single, several and all entries: what
    is named is gone from unit and device, and all are counted."""

    async def scenario():
        user = await UserSpace.open()
        nested, table, _ = await attached(user)
        requests = {
            "nothing": [],
            "one entry": [VtdS1Invalidate(addr=USER, npages=1, flags=1)],
            "several entries": [VtdS1Invalidate(addr=USER + number * PAGE, npages=1, flags=1) for number in range(3)],
            "everything": [VtdS1Invalidate()],
        }[how]
        gone = {"nothing": 0, "one entry": 1, "several entries": 3, "everything": 4}[how]
        unlinked = [await table.unmap(USER + number * PAGE, PAGE) for number in range(gone)]
        assert await nested.invalidate(requests) == len(requests)
        assert [await user.passes(USER + number * PAGE) for number in range(4)] == [False] * gone + [True] * (4 - gone)
        assert unlinked[:3] == [[]] * min(gone, 3)

    asyncio.run(scenario())


def test_scenario_iommufd_nested_attach():
    """Linux selftest iommufd.c, alloc_hwpt_nested (attach): attach nested, EBUSY to destroy it; replace by another
    nested one and by the parent; detach and destroy in the order of use."""

    async def scenario():
        user = await UserSpace.open()
        parent, guest = await user.guest()
        (first, one), (second, two) = [await guest.table() for _ in range(2)]
        tables = [await guest.nested(table) for table in (first, second)]
        await user.bound.attach(tables[0].id)
        assert await user.reaches(USER, one)
        await expect_errno(errno.EBUSY, user.context.destroy(tables[0].id))
        await user.bound.replace(tables[1].id)
        assert await user.reaches(USER, two)
        await user.context.destroy(tables[0].id)
        await user.bound.replace(parent.id)
        assert not await user.passes(USER)
        assert await user.reaches(GUEST_BASE, guest.memory.frames[GUEST_BASE])
        await user.bound.detach()
        await user.context.destroy(tables[1].id)
        await user.context.destroy(parent.id)

    asyncio.run(scenario())


def test_historical_parent_unmap_reaches_children():
    """Section 5, row 18, with the interface of today: the host takes a page of a parent with three children on two
    PASIDs and without; none of them reaches it any more, and destroy of a fault queue in use is EBUSY."""

    async def scenario():
        user = await UserSpace.open()
        _, guest = await user.guest()
        tables = [await guest.table() for _ in range(3)]
        for pasid, (table, host) in enumerate(tables):
            await user.bound.attach((await guest.nested(table)).id, pasid)
            assert await user.reaches(USER, host, pasid or None)
        ioas = guest.parent.ioas
        frames = await user.pages(1)
        await ioas.unmap_all()
        assert not any([await user.passes(USER, pasid or None) for pasid in range(3)])
        await ioas.map(frames, GUEST_BASE)
        queue = user.context.add(FaultQueue())
        flags = HwptFlags.FAULT_ID_VALID
        faulting = await allocate_hwpt(user.context, guest.parent.id, flags, 1, GOOD, queue.id)
        await expect_errno(errno.EBUSY, user.context.destroy(queue.id))
        await user.context.destroy(faulting.id)
        await user.context.destroy(queue.id)

    asyncio.run(scenario())
