"""Who owns the DMA of a device: group path, a file of the device, the host (A9, S27)."""

import asyncio
import errno
from collections.abc import Awaitable, Callable
from itertools import permutations

import pytest

from nestwalk_sim.host.device import Device
from nestwalk_sim.host.errors import IommuError
from nestwalk_sim.host.group import IommuGroup
from nestwalk_sim.host.iommu_domain import IdentityDomain
from nestwalk_sim.host.vfio import VfioContainerShim
from sim.tests.host.bench import IOVA, expect_errno
from sim.tests.host.vfio_station import NAME, Station, bound


async def through_group(station: Station) -> int:
    context, ioas, page = await station.mapped()
    container = VfioContainerShim(context)
    container.set_ioas(ioas.id)
    station.legacy.open()
    await station.legacy.set_container(container)
    await station.legacy.get_device_fd(NAME)
    return page


async def through_file(station: Station) -> int:
    file, ioas, page = await bound(station)
    await file.attach_pt(ioas.id)
    return page


async def through_kernel(station: Station) -> int:
    await station.group.probe()
    (page,) = await station.pages(1)
    return page


PATHS: dict[str, Callable[[Station], Awaitable[int]]] = {
    "group": through_group,
    "file": through_file,
    "kernel": through_kernel,
}


@pytest.mark.parametrize(("first", "second"), list(permutations(PATHS, 2)), ids="-".join)
def test_host_ownership_of_two_paths(first: str, second: str):
    """A9, S27: group path, a file of the device, a driver of the host, in every order: the second is refused, and the
    first goes on."""

    async def scenario():
        station = await Station.open()
        page = await PATHS[first](station)
        iova = page if first == "kernel" else IOVA
        assert await station.reaches(iova, page)
        commands = len(station.iommu.log.entries)
        with pytest.raises(IommuError) as refused:
            await PATHS[second](station)
        assert refused.value.errno in (errno.EBUSY, errno.EINVAL)
        assert len(station.iommu.log.entries) == commands, "the unit hears nothing of it"
        assert await station.reaches(iova, page)

    asyncio.run(scenario())


def test_host_ownership_paths_send_the_same():
    """S27: group path and file send the same to the unit."""

    async def trace(path: Callable[[Station], Awaitable[int]]) -> list[str]:
        station = await Station.open()
        await path(station)
        return [entry.text for entry in station.iommu.log.entries]

    assert asyncio.run(trace(through_group)) == asyncio.run(trace(through_file))


def test_host_group_path_refuses():
    """S27: open twice EBUSY, a second container EINVAL, something else EBADFD, no container EINVAL, unknown device
    ENODEV, no address space ENODEV; a file is handed out only when all worked, and a close gives everything back."""

    async def scenario():
        station = await Station.open()
        context, ioas, page = await station.mapped()
        container = VfioContainerShim(context)
        await expect_errno(errno.EINVAL, station.legacy.set_container(container))
        station.legacy.open()
        with pytest.raises(IommuError) as refused:
            station.legacy.open()
        assert refused.value.errno == errno.EBUSY
        await expect_errno(errno.EBADFD, station.legacy.set_container("a file"))
        await expect_errno(errno.EINVAL, station.legacy.get_device_fd(NAME))
        await station.legacy.set_container(container)
        await expect_errno(errno.EINVAL, station.legacy.set_container(container))
        await expect_errno(errno.ENODEV, station.legacy.get_device_fd("another"))
        await expect_errno(errno.ENODEV, station.legacy.get_device_fd(NAME))
        assert station.vfio.holder is None
        container.set_ioas(ioas.id)
        file = await station.legacy.get_device_fd(NAME)
        await expect_errno(errno.EINVAL, file.bind_iommufd(context))
        await expect_errno(errno.EBUSY, station.legacy.get_device_fd(NAME))
        assert await station.reaches(IOVA, page)
        await station.legacy.close()
        assert (station.group.owner, station.group.claims) == (None, 0)
        assert not await station.reaches(IOVA, page)

    asyncio.run(scenario())


@pytest.mark.parametrize("nth", range(3))
def test_host_group_of_three_is_claimed_whole(nth: int):
    """Section 5, row 35: the default domain is attached to all devices of a group or to none, whichever fails; a claim
    without coherency or isolation is refused."""

    async def scenario():
        station = await Station.open()
        others = [await station.add(Device(0x0310 + number, f"other {number}")) for number in range(2)]
        devices = [station.device, *others]
        group = IommuGroup(station.iommu, devices, IdentityDomain(station.iommu), isolated_interrupts=nth != 1)
        station.iommu.fail.fail_nth(nth + 1, "cache tag")
        await expect_errno(errno.ENOMEM, group.probe())
        (page,) = await station.pages(1)
        for device in devices:
            assert station.iommu.state_of(device).entries == {}
        await group.probe()
        assert await station.reaches(page, page)
        await expect_errno(errno.EBUSY, group.claim("user"))
        await group.remove()
        assert not await station.reaches(page, page)
        if nth == 1:
            await expect_errno(errno.EPERM, group.claim("user"))
        else:
            await group.claim("user")
            await expect_errno(errno.EBUSY, group.claim("another"))
            await expect_errno(errno.EBUSY, group.probe())
            await group.release("user")
        assert group.owner is None

    asyncio.run(scenario())
