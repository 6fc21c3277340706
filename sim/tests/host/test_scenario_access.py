"""Scenarios of Linux's iommufd.c, fixture iommufd_ioas: software that uses an address space like a device.

Each docstring names the case whose outcome is asserted.
"""

import asyncio
import errno

import pytest

from nestwalk_sim.host.errors import IommuError
from nestwalk_sim.host.iommufd.access import Access
from sim.tests.host.bench import IOVA, PAGE, expect_errno
from sim.tests.host.user_space import UserSpace


def test_scenario_iommufd_access_pin():
    """Linux selftest iommufd.c, iommufd_ioas.access_pin, access_pin_unmap, access_domain_destory: pinned pages are
    those that are mapped, a double pin counts, unmap tells the holder first and is EBUSY while it holds on."""

    async def scenario():
        user = await UserSpace.open()
        frames, told = await user.pages(3), list[tuple[int, int]]()
        access = user.context.add(Access(user.ioas, lambda iova, size: told.append((iova, size))))
        await user.ioas.map(frames, IOVA)
        assert access.pin(IOVA + PAGE, 2 * PAGE) == frames[1:]
        access.pin(IOVA + PAGE, 2 * PAGE)
        await user.bound.attach(user.ioas.id)
        await user.bound.detach()
        access.unpin(IOVA + PAGE, 2 * PAGE)
        await expect_errno(errno.EBUSY, user.ioas.unmap(IOVA, 3 * PAGE))
        access.unpin(IOVA + PAGE, 2 * PAGE)
        assert await user.ioas.unmap(IOVA, 3 * PAGE) == 3 * PAGE
        assert told == [(IOVA, 3 * PAGE)] * 2
        with pytest.raises(IommuError) as refused:
            access.pin(IOVA, PAGE)
        assert refused.value.errno == errno.ENOENT
        await expect_errno(errno.EBUSY, user.context.destroy(user.ioas.id))
        await user.context.destroy(access.id)

    asyncio.run(scenario())


@pytest.mark.parametrize("offset", [0, 1, PAGE - 3])
def test_scenario_iommufd_access_rw(offset: int):
    """Linux selftest iommufd.c, iommufd_ioas.access_rw and access_rw_unaligned: software and the device see the same
    bytes at the same address, across pages; outside is ENOENT."""

    async def scenario():
        user = await UserSpace.open()
        access = user.context.add(Access(user.ioas))
        await user.ioas.map(await user.pages(2), IOVA)
        await user.bound.attach(user.ioas.id)
        await access.write(IOVA + offset, b"by software")
        assert await user.endpoint.read(IOVA + offset, 11) == b"by software"
        await user.endpoint.write(IOVA + offset, b"by a device")
        assert await access.read(IOVA + offset, 11) == b"by a device"
        await expect_errno(errno.ENOENT, access.read(IOVA + 2 * PAGE - offset % 2, 4))

    asyncio.run(scenario())
