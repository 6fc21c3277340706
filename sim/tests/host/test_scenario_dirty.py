"""Scenarios of Linux's iommufd.c, fixture iommufd_dirty_tracking, on a unit that has second-stage dirty bits.

Each docstring names the case whose outcome is asserted.
"""

import asyncio
import errno
from random import Random
from typing import Self

import pytest

from nestwalk.config import IommuConfig
from nestwalk_sim.host.device import Device
from nestwalk_sim.host.group import IommuGroup
from nestwalk_sim.host.iommufd.context import IommufdContext
from nestwalk_sim.host.iommufd.device import IommufdDevice
from nestwalk_sim.host.iommufd.hwpt import HwptFlags, HwptPaging, allocate_hwpt
from nestwalk_sim.host.iommufd.ioas import Ioas
from nestwalk_sim.host.vtd.unit import Iommu
from nestwalk_sim.model_unit import ModelTransport
from sim.tests.host.bench import IOVA, PAGE, Bench, expect_errno
from sim.tests.host.bringup import MEMORY

PASID = 77
TRACKING = HwptFlags.DIRTY_TRACKING | HwptFlags.PASID
UNIT = IommuConfig(second_stage_accessed_dirty=True)


class Tracking(Bench):
    """A bench with a unit that tracks dirty pages, and a HWPT that maps some."""

    bound: IommufdDevice
    hwpt: HwptPaging

    @classmethod
    async def open(cls, pages: int = 2, pasid: int = 0) -> Self:
        bench = cls()
        bench.transport = ModelTransport(MEMORY, UNIT)
        bench.iommu = await Iommu.create(bench.transport, 0, MEMORY)
        await bench.iommu.enable()
        bench.device = await bench.add(Device(0x0208, "device", ats=True))
        bench.endpoint = bench.endpoint_of(bench.device)
        context = IommufdContext(bench.iommu)
        bench.bound = await IommufdDevice.bind(context, bench.device, IommuGroup(bench.iommu, [bench.device]))
        ioas = context.add(Ioas(context))
        hwpt = await allocate_hwpt(context, ioas.id, TRACKING)
        assert isinstance(hwpt, HwptPaging)
        bench.hwpt = hwpt
        await ioas.map(await bench.pages(pages), IOVA)
        await bench.bound.attach(hwpt.id, pasid)
        return bench

    async def bitmap(self, pages: int, page_size: int = PAGE, *, clear: bool = True) -> set[int]:
        """Numbers of the bits that are set."""
        bits = bytearray(-(-pages // 8) + 1)
        await self.hwpt.dirty_bitmap(IOVA, pages * PAGE, bits, page_size, clear=clear)
        return {number for number in range(8 * len(bits)) if bits[number // 8] >> number % 8 & 1}


@pytest.mark.parametrize("pasid", [0, PASID])
def test_scenario_iommufd_set_dirty_tracking(pasid: int):
    """Linux selftest iommufd.c, iommufd_dirty_tracking.set_dirty_tracking and pasid_set_dirty_tracking: on and off as
    often as one likes; SSADE is in the entry of every PASID that uses the page table, and of one attached later."""

    async def scenario():
        bench = await Tracking.open(pasid=pasid)
        state = bench.iommu.state_of(bench.device)
        for on in (True, True, False, False, True):
            await bench.hwpt.set_dirty_tracking(on)
            assert (await state.table.read(pasid)).second_stage_updates is on
        await bench.bound.attach(bench.hwpt.id, PASID + 1)
        assert (await state.table.read(PASID + 1)).second_stage_updates
        await bench.endpoint.write(IOVA, b"under another PASID", PASID + 1)
        assert await bench.bitmap(2) == {0}

    asyncio.run(scenario())


def test_scenario_iommufd_device_dirty_capability():
    """Linux selftest iommufd.c, iommufd_dirty_tracking.device_dirty_capability: the capability bit tells it."""

    async def scenario():
        bench = await Tracking.open()
        assert bench.bound.hw_info().capabilities & 1
        plain = await Bench.bring_up()
        bound = await IommufdDevice.bind(
            IommufdContext(plain.iommu), plain.device, IommuGroup(plain.iommu, [plain.device])
        )
        assert not bound.hw_info().capabilities & 1

    asyncio.run(scenario())


@pytest.mark.parametrize("pages", [2, 8, 33, 64])
@pytest.mark.parametrize("page_size", [PAGE, 2 * PAGE])
def test_scenario_iommufd_get_dirty_bitmap(pages: int, page_size: int, rng: Random):
    """Linux selftest iommufd.c, iommufd_dirty_tracking.get_dirty_bitmap, sizes that are no multiples of a byte
    included: exactly the written pages are set, whatever device and unit have cached; a second look finds none; a page
    that is written again is found again."""

    async def scenario():
        bench = await Tracking.open(pages=2 * pages)
        await bench.hwpt.set_dirty_tracking(True)
        for _ in range(2):
            chosen = {rng.randrange(pages) for _ in range(pages // 2)}
            for number in range(pages):
                await bench.endpoint.read(IOVA + number * PAGE, 8)
            for number in chosen:
                await bench.endpoint.write(IOVA + number * PAGE, b"written")
            await bench.endpoint.write(IOVA + pages * PAGE, b"beyond")
            whole = pages // (page_size // PAGE) * (page_size // PAGE)
            expected = {number * PAGE // page_size for number in chosen if number < whole}
            assert await bench.bitmap(whole, page_size) == expected
            assert await bench.bitmap(whole, page_size) == set()

    asyncio.run(scenario())


def test_scenario_iommufd_get_dirty_bitmap_no_clear():
    """Linux selftest iommufd.c, iommufd_dirty_tracking.get_dirty_bitmap_no_clear: a look without clearing changes
    nothing."""

    async def scenario():
        bench = await Tracking.open(pages=4)
        await bench.hwpt.set_dirty_tracking(True)
        await bench.endpoint.write(IOVA + 2 * PAGE, b"written")
        for clear in (False, False, True):
            assert await bench.bitmap(4, clear=clear) == {2}
        assert await bench.bitmap(4) == set()
        await expect_errno(errno.EINVAL, bench.hwpt.dirty_bitmap(IOVA, 16 * PAGE, bytearray(1), PAGE))
        await expect_errno(errno.EINVAL, bench.hwpt.dirty_bitmap(IOVA + 8, PAGE, bytearray(1), PAGE))

    asyncio.run(scenario())


def test_scenario_iommufd_enforce_dirty():
    """Linux selftest iommufd.c, iommufd_dirty_tracking.enforce_dirty: without the unit's capability the allocation is
    EOPNOTSUPP, and so is tracking on a HWPT that was not made for it."""

    async def scenario():
        bench = await Tracking.open()
        plain = await Bench.bring_up()
        context = IommufdContext(plain.iommu)
        ioas = context.add(Ioas(context))
        await expect_errno(errno.EOPNOTSUPP, allocate_hwpt(context, ioas.id, TRACKING))
        other = await allocate_hwpt(bench.bound.context, bench.hwpt.ioas.id)
        assert isinstance(other, HwptPaging)
        await expect_errno(errno.EOPNOTSUPP, other.set_dirty_tracking(True))

    asyncio.run(scenario())
