"""Scenarios of the VFIO selftests (vfio_iommufd_setup_test.c) and of the compatibility interface.

Each docstring names the suite and the case whose outcome is asserted.
"""

import asyncio
import errno

import pytest

from nestwalk_sim.host.device import Device
from nestwalk_sim.host.errors import IommuError
from nestwalk_sim.host.group import IommuGroup
from nestwalk_sim.host.iommufd.context import IommufdContext
from nestwalk_sim.host.iommufd.ioas import Ioas
from nestwalk_sim.host.vfio import UNMAP_ALL_FLAG, VfioContainerShim, VfioDevice
from sim.tests.host.bench import IOVA, PAGE, expect_errno
from sim.tests.host.vfio_station import Station, bound


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
