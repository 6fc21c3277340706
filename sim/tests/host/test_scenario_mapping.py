"""Scenarios of other projects' test suites, re-enacted: mapping and unmapping.

Each docstring names the suite and the case whose outcome is asserted.
"""

import asyncio
import errno
from itertools import count
from random import Random

import pytest

from nestwalk_sim.host.device import Device
from nestwalk_sim.host.endpoint import DmaFault
from nestwalk_sim.host.errors import IommuError
from nestwalk_sim.host.guest import READ_WRITE
from sim.tests.host.bench import IOVA, PAGE, Bench, expect_errno


def test_scenario_iommufd_area():
    """Linux selftest iommufd.c, iommufd_ioas.area: unmap of what is not mapped ENOENT, overlapping map EEXIST, and
    neither changes anything."""

    async def scenario():
        bench = await Bench.bring_up()
        await bench.domain.attach(bench.device)
        pages = await bench.pages(4)
        await expect_errno(errno.ENOENT, bench.domain.unmap(IOVA, PAGE))
        for number, page in enumerate(pages):
            await bench.domain.map(IOVA + 2 * number * PAGE, page, PAGE, READ_WRITE)
        for iova, size in ((IOVA, PAGE), (IOVA + PAGE, 2 * PAGE), (IOVA - PAGE, 9 * PAGE)):
            await expect_errno(errno.EEXIST, bench.domain.map(iova, pages[0], size, READ_WRITE))
        await expect_errno(errno.ENOENT, bench.domain.unmap(IOVA, 3 * PAGE))
        for number in range(8):
            assert await bench.reaches(IOVA + number * PAGE, pages[number // 2]) == (number % 2 == 0)
        for number in range(4):
            await bench.domain.unmap(IOVA + 2 * number * PAGE, PAGE)
            assert not await bench.reaches(IOVA + 2 * number * PAGE, pages[number])
            await expect_errno(errno.ENOENT, bench.domain.unmap(IOVA + 2 * number * PAGE, PAGE))

    asyncio.run(scenario())


@pytest.mark.parametrize("ats", [False, True])
def test_scenario_iommufd_unmap_fully_contained_areas(ats: bool):
    """Linux selftest iommufd.c, iommufd_ioas.unmap_fully_contained_areas: one unmap over several maps; nothing stale
    stays in unit or device."""

    async def scenario():
        bench = await Bench.bring_up(ats=ats)
        await bench.domain.attach(bench.device)
        pages = await bench.pages(11)
        for number, page in enumerate(pages):
            await bench.domain.map(IOVA + number * PAGE, page, PAGE, READ_WRITE)
            assert await bench.reaches(IOVA + number * PAGE, page)
        await bench.domain.unmap(IOVA, 11 * PAGE)
        assert not any([await bench.reaches(IOVA + number * PAGE, page) for number, page in enumerate(pages)])

    asyncio.run(scenario())


def test_scenario_iommufd_copy_area():
    """Linux selftest iommufd.c, iommufd_ioas.copy_area: a second address space maps the same pages elsewhere."""

    async def scenario():
        bench = await Bench.bring_up()
        second, other = await bench.new_domain(), await bench.add(Device(0x0310, "other"))
        (page,) = await bench.pages(1)
        await bench.domain.map(IOVA, page, PAGE, READ_WRITE)
        await second.map(2 * IOVA, page, PAGE, READ_WRITE)
        await bench.domain.attach(bench.device)
        await second.attach(other)
        await bench.endpoint.write(IOVA, b"copied")
        assert await bench.endpoint_of(other).read(2 * IOVA, 6) == b"copied"
        await bench.domain.unmap(IOVA, PAGE)
        assert await bench.endpoint_of(other).read(2 * IOVA, 6) == b"copied"

    asyncio.run(scenario())


def test_scenario_iommufd_mock_domain_basic():
    """Linux selftest iommufd.c, iommufd_mock_domain.basic, and iommufd_fail_nth.c, map_domain: a map that fails
    half-way leaves no second-stage entry, at whatever point it fails."""

    async def scenario():
        for nth in count(1):
            bench = await Bench.bring_up()
            await bench.domain.attach(bench.device)
            base = (1 << 30) - 3 * PAGE
            bench.iommu.fail.fail_nth(nth, "page")
            try:
                await bench.domain.map(base, 0x10_0000, 6 * PAGE, READ_WRITE)
            except IommuError:
                bench.iommu.fail.disarm()
                for number in range(6):
                    assert await bench.domain.table.look_up(base + number * PAGE) is None
                await bench.domain.map(base, 0x10_0000, 6 * PAGE, READ_WRITE)
            bench.iommu.fail.disarm()
            for number in range(6):
                assert await bench.reaches(base + number * PAGE, 0x10_0000 + number * PAGE)
            if not bench.iommu.fail.fired:
                assert nth > 3
                return

    asyncio.run(scenario())


@pytest.mark.parametrize("second", [False, True], ids=["one domain", "second domain in between"])
def test_scenario_iommufd_all_aligns(second: bool, rng: Random):
    """Linux selftest iommufd.c, iommufd_mock_domain.all_aligns and all_aligns_copy: every start and length within a
    small window; contents are those of the pages, unmap takes all of it, a second domain comes and goes unharmed."""

    async def scenario():
        bench = await Bench.bring_up(ats=True)
        await bench.domain.attach(bench.device)
        pages = await bench.pages(8)
        other = await bench.new_domain() if second else None
        for start in range(8):
            for length in range(1, 9 - start):
                window = range(start, start + length)
                for number in window:
                    await bench.domain.map(IOVA + number * PAGE, pages[number], PAGE, READ_WRITE)
                if other is not None:
                    await other.replace(bench.device, bench.domain)
                    assert not await bench.reaches(IOVA + start * PAGE, pages[start])
                    await bench.domain.replace(bench.device, other)
                probes = [rng.choice(window), start, start + length - 1]
                assert all([await bench.reaches(IOVA + number * PAGE, pages[number]) for number in probes])
                await bench.domain.unmap(IOVA + start * PAGE, length * PAGE)
                assert not any([await bench.reaches(IOVA + number * PAGE, pages[number]) for number in probes])

    asyncio.run(scenario())


@pytest.mark.parametrize(("page_size", "level"), [(1 << 12, 1), (1 << 21, 2), (1 << 30, 3)])
def test_scenario_vfio_dma_map_unmap(page_size: int, level: int):
    """Linux selftest vfio_dma_mapping_test.c, dma_map_unmap with 4K, 2M and 1G: the mapping has the expected level,
    and is gone after unmap."""

    async def scenario():
        bench = await Bench.bring_up()
        await bench.domain.attach(bench.device)
        iova, host = 5 * (1 << 30), 0
        await bench.domain.map(iova, host, page_size, READ_WRITE, page_size)
        leaf = await bench.domain.table.look_up(iova)
        assert leaf is not None
        assert leaf.level == level
        answer = await bench.endpoint.read(iova, 8)
        assert answer == bench.transport.memory.read(host, 8)
        if page_size > PAGE:
            await expect_errno(errno.EINVAL, bench.domain.unmap(iova, PAGE))
        await bench.domain.unmap(iova, page_size)
        assert await bench.domain.table.look_up(iova) is None
        with pytest.raises(DmaFault):
            await bench.endpoint.read(iova, 8)

    asyncio.run(scenario())


def test_scenario_vfio_map_limit():
    """Linux selftest vfio_dma_mapping_test.c, map_limit unmap_range, unmap_all and overflow: the last page of the
    address space can be mapped; what wraps around is EOVERFLOW."""

    async def scenario():
        bench = await Bench.bring_up()
        await bench.domain.attach(bench.device)
        (page,) = await bench.pages(1)
        last = (1 << bench.domain.table.width) - PAGE
        await bench.domain.map(last, page, PAGE, READ_WRITE)
        assert await bench.reaches(last, page)
        await expect_errno(errno.EINVAL, bench.domain.map(last, page, 2 * PAGE, READ_WRITE))
        await expect_errno(errno.EOVERFLOW, bench.domain.map((1 << 64) - PAGE, page, 2 * PAGE, READ_WRITE))
        await bench.domain.unmap(last, PAGE)
        assert not await bench.reaches(last, page)

    asyncio.run(scenario())
