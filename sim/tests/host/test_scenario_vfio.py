"""Scenarios of the VFIO selftests (vfio_iommufd_setup_test.c) and of the compatibility interface; ownership (A9).

Each docstring names the suite and the case whose outcome is asserted.
"""

import asyncio
import errno
from collections.abc import Awaitable, Callable
from itertools import permutations

import pytest

from nestwalk_sim.host.device import Device
from nestwalk_sim.host.errors import IommuError
from nestwalk_sim.host.group import IommuGroup
from nestwalk_sim.host.iommu_domain import IdentityDomain
from nestwalk_sim.host.iommufd.context import IommufdContext
from nestwalk_sim.host.iommufd.ioas import Ioas
from nestwalk_sim.host.vfio import UNMAP_ALL_FLAG, VfioContainerShim, VfioDevice, VfioDeviceFd, VfioGroup
from sim.tests.host.bench import IOVA, PAGE, Bench, expect_errno

NAME = "0000:02:01.0"


class Station(Bench):
    """A bench whose device is there to be opened."""

    group: IommuGroup
    vfio: VfioDevice
    legacy: VfioGroup

    @classmethod
    async def open(cls, **options: bool) -> "Station":
        station = await cls.bring_up(**options)
        station.group = IommuGroup(station.iommu, [station.device], IdentityDomain(station.iommu))
        station.vfio = VfioDevice(station.device, station.group)
        station.legacy = VfioGroup(station.group, {NAME: station.vfio})
        return station

    async def mapped(self) -> tuple[IommufdContext, Ioas, int]:
        """An iommufd with an address space that maps one page; and the page."""
        context = IommufdContext(self.iommu)
        ioas = context.add(Ioas(context))
        (page,) = await self.pages(1)
        await ioas.map([page], IOVA)
        return context, ioas, page


async def bound(station: Station) -> tuple[VfioDeviceFd, Ioas, int]:
    context, ioas, page = await station.mapped()
    file = station.vfio.open()
    await file.bind_iommufd(context)
    return file, ioas, page


def test_scenario_vfio_setup_bind():
    """Linux selftest vfio_iommufd_setup_test.c, bind: works; the device is blocked then, and reachable for its user."""

    async def scenario():
        station = await Station.open()
        file, _, page = await bound(station)
        assert file.device_access() is station.device
        assert not await station.reaches(IOVA, page)

    asyncio.run(scenario())


def test_scenario_vfio_setup_get_info_without_bind_fails():
    """Linux selftest vfio_iommufd_setup_test.c, get_info_without_bind_fails (S26): whatever is tried on a parked file
    is EINVAL, and sends nothing."""

    async def scenario():
        station = await Station.open()
        _, ioas, _ = await station.mapped()
        file, commands = station.vfio.open(), len(station.iommu.log.entries)
        with pytest.raises(IommuError) as refused:
            file.device_access()
        assert refused.value.errno == errno.EINVAL
        await expect_errno(errno.EINVAL, file.attach_pt(ioas.id))
        await expect_errno(errno.EINVAL, file.detach_pt())
        assert len(station.iommu.log.entries) == commands

    asyncio.run(scenario())


def test_scenario_vfio_setup_bind_bad_iommufd_fails():
    """Linux selftest vfio_iommufd_setup_test.c, bind_bad_iommufd_fails: EINVAL for no iommufd and for unknown flags;
    the device can still be bound."""

    async def scenario():
        station = await Station.open()
        context, _, _ = await station.mapped()
        file = station.vfio.open()
        await expect_errno(errno.EINVAL, file.bind_iommufd(None))
        await expect_errno(errno.EINVAL, file.bind_iommufd(context, 1))
        assert station.group.owner is None
        await file.bind_iommufd(context)

    asyncio.run(scenario())


def test_scenario_vfio_setup_repeated_bind_fails():
    """Linux selftest vfio_iommufd_setup_test.c, repeated_bind_fails, and S26: EINVAL through the same file and through
    every other; of many that try at once one wins; after its close the next one can."""

    async def scenario():
        station = await Station.open()
        files = [station.vfio.open() for _ in range(5)]
        contexts = [IommufdContext(station.iommu) for _ in files]
        calls = (file.bind_iommufd(context) for file, context in zip(files, contexts, strict=True))
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        winners = [file for file, outcome in zip(files, outcomes, strict=True) if isinstance(outcome, int)]
        losers = [outcome.errno for outcome in outcomes if isinstance(outcome, IommuError)]
        assert (len(winners), losers) == (1, [errno.EINVAL] * 4)
        await expect_errno(errno.EINVAL, winners[0].bind_iommufd(contexts[0]))
        await winners[0].close()
        assert station.group.owner is None
        late = next(file for file in files if file is not winners[0])
        await late.bind_iommufd(contexts[1])

    asyncio.run(scenario())


def test_scenario_vfio_setup_attach_detach_pt():
    """Linux selftest vfio_iommufd_setup_test.c, attach_detatch_pt: attach and detach as often as one likes; DMA passes
    in between only; what the device held of an earlier owner is gone."""

    async def scenario():
        station = await Station.open(ats=True)
        file, ioas, page = await bound(station)
        for _ in range(3):
            await file.attach_pt(ioas.id)
            assert await station.reaches(IOVA, page)
            await file.detach_pt()
            assert not await station.reaches(IOVA, page)
        await file.attach_pt(ioas.id)
        await file.close()
        assert not await station.reaches(IOVA, page)
        again, other, _ = await bound(station)
        assert station.iommu.state_of(station.device).entries == {}
        await again.attach_pt(other.id)

    asyncio.run(scenario())


def test_scenario_vfio_setup_attach_invalid_pt_fails():
    """Linux selftest vfio_iommufd_setup_test.c, attach_invalid_pt_fails: an unknown id is refused and nothing passes;
    unknown flags EINVAL; a PASID that the device does not have EOPNOTSUPP."""

    async def scenario():
        station = await Station.open()
        file, ioas, page = await bound(station)
        await expect_errno(errno.ENOENT, file.attach_pt(1000))
        await expect_errno(errno.EINVAL, file.attach_pt(ioas.id, flags=2))
        assert not await station.reaches(IOVA, page)
        plain = await station.add(Device(0x0310, "plain", pasid_bits=0))
        other = VfioDevice(plain, IommuGroup(station.iommu, [plain])).open()
        await other.bind_iommufd(IommufdContext(station.iommu))
        await expect_errno(errno.EOPNOTSUPP, other.attach_pt(ioas.id, 5))

    asyncio.run(scenario())


def test_scenario_vfio_compat_ioas():
    """Linux selftest iommufd.c, iommufd.simple_ioctls, set_iommu_cmd, vfio_ioas: without an address space ENODEV; an
    unknown one ENOENT; set, get, clear, ENODEV again."""

    async def scenario():
        station = await Station.open()
        context, ioas, _ = await station.mapped()
        container = VfioContainerShim(context)
        assert (container.api_version(), container.check_extension(1), container.check_extension(77)) == (0, 1, 0)
        for call in (container.ioas, container.clear_ioas, lambda: container.set_iommu(1)):
            with pytest.raises(IommuError) as refused:
                call()
            assert refused.value.errno == errno.ENODEV
        with pytest.raises(IommuError) as refused:
            container.set_ioas(1000)
        assert refused.value.errno == errno.ENOENT
        container.set_ioas(ioas.id)
        assert container.ioas() is ioas
        container.set_iommu(1)
        container.clear_ioas()
        with pytest.raises(IommuError) as refused:
            container.ioas()
        assert refused.value.errno == errno.ENODEV

    asyncio.run(scenario())


def test_scenario_vfio_compat_map():
    """Linux selftest iommufd.c, vfio_compat_mock_domain.map, and iommufd.unmap_cmd, map_cmd: ENODEV without an address
    space; unmap of nothing is fine and tells 0; "all" with a range EINVAL; sizes are told."""

    async def scenario():
        station = await Station.open()
        container = VfioContainerShim(IommufdContext(station.iommu))
        frames = await station.pages(3)
        await expect_errno(errno.ENODEV, container.map_dma(frames, IOVA))
        await expect_errno(errno.ENODEV, container.unmap_dma(IOVA, PAGE))
        container.set_ioas(container.context.add(Ioas(container.context)).id)
        await expect_errno(errno.EINVAL, container.map_dma([], IOVA))
        await expect_errno(errno.EINVAL, container.unmap_dma(IOVA, 0))
        await expect_errno(errno.EINVAL, container.unmap_dma(IOVA, PAGE, 1))
        assert await container.unmap_dma(IOVA, PAGE) == 0
        await container.map_dma(frames, IOVA)
        await expect_errno(errno.EINVAL, container.unmap_dma(IOVA, PAGE, UNMAP_ALL_FLAG))
        assert await container.unmap_dma(0, 0, UNMAP_ALL_FLAG) == 3 * PAGE
        await container.map_dma(frames, IOVA)
        assert await container.unmap_dma(IOVA, 3 * PAGE) == 3 * PAGE

    asyncio.run(scenario())


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
