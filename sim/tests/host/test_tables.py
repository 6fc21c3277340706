"""Page-table editors and the page allocator against plain dictionaries; ranges of invalidations; refused
invalidations.
"""

import asyncio
import errno
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestwalk_sim.host.device import Device
from nestwalk_sim.host.errors import IommuError
from nestwalk_sim.host.transport import HostMemory
from nestwalk_sim.host.vtd.cache_tags import aligned_cover
from nestwalk_sim.host.vtd.invalidate import CacheInvalidateInfo, CacheType, Granularity, sva_invalidate
from nestwalk_sim.host.vtd.page_tables import FIRST_STAGE, SECOND_STAGE, EntryFormat, PageTable, Permission
from nestwalk_sim.host.vtd.pages import PageAllocator, poison
from nestwalk_sim.model_unit import ModelTransport
from sim.tests.host.bringup import ADDRESS, HOST_PASID, MEMORY, Platform

SIZES = {1: 1 << 12, 2: 1 << 21, 3: 1 << 30}


@pytest.mark.parametrize("levels", [3, 4, 5])
@pytest.mark.parametrize("entry_format", [FIRST_STAGE, SECOND_STAGE], ids=lambda entry_format: entry_format.name)
def test_host_page_tables_equal_a_dictionary(entry_format: EntryFormat, levels: int, rng: random.Random):
    """Random maps and unmaps of all page sizes; at the end nothing but the root is left."""

    async def scenario():
        transport = ModelTransport(MEMORY)
        pages = PageAllocator(HostMemory(transport), 0, MEMORY)
        table = await PageTable.create(entry_format, pages, levels)
        mapped: dict[int, tuple[int, int]] = {}
        for _ in range(300):
            size = SIZES[rng.choice([1, 1, 2, 3])]
            address = rng.choice([0, (1 << table.width) - (1 << 31)]) + rng.randrange(1 << 31) // size * size
            output = rng.randrange(1 << 51) // size * size
            overlaps = any(address < at + length and at < address + size for at, (_, length) in mapped.items())
            if address in mapped:
                unlinked = await table.unmap(address, mapped.pop(address)[1])
                for page in unlinked:
                    await pages.free(page)
            elif overlaps:
                with pytest.raises(IommuError):
                    await table.map(address, output, size, Permission.READ, size)
            else:
                await table.map(address, output, size, Permission.READ, size)
                mapped[address] = output, size
            for at, (to, length) in mapped.items():
                inside = rng.randrange(length)
                leaf = await table.look_up(at + inside)
                assert leaf is not None
                assert leaf.output(at + inside) == to + inside
        for at, (_, length) in mapped.items():
            for page in await table.unmap(at, length):
                await pages.free(page)
        assert list(pages.allocated) == [table.root]
        assert not any(transport.memory.read(table.root, 4096))

    asyncio.run(scenario())


def test_host_unmap_is_all_or_nothing():
    async def scenario():
        transport = ModelTransport(MEMORY)
        pages = PageAllocator(HostMemory(transport), 0, MEMORY)
        table = await PageTable.create(SECOND_STAGE, pages, 4)
        await table.map(0, 1 << 30, 1 << 21, Permission.READ, 1 << 21)
        await table.map(1 << 21, 0x5000, 4096, Permission.READ)
        image = transport.memory.image()
        cut, hole, beyond = (0, 4096, errno.EINVAL), (0, 1 << 22, errno.ENOENT), (1 << 48, 4096, errno.EINVAL)
        for address, size, number in (cut, hole, beyond):
            with pytest.raises(IommuError) as refused:
                await table.unmap(address, size)
            assert refused.value.errno == number
        for address, output, size in ((0x800, 0, 4096), (0, 0x10, 4096), (0, 0, 0), (1 << 48, 0, 4096)):
            with pytest.raises(IommuError) as refused:
                await table.map(address, output, size, Permission.READ)
            assert refused.value.errno == errno.EINVAL
        assert transport.memory.image() == image

    asyncio.run(scenario())


def test_host_page_allocator_reuses_late_and_poisons():
    async def scenario():
        transport = ModelTransport(MEMORY)
        pages = PageAllocator(HostMemory(transport), 0x10_0000, 4 * 4096)
        first, second = await pages.allocate(), await pages.allocate()
        await pages.free(first)
        assert transport.memory.read(first, 4096) == poison(1).to_bytes(8, "little") * 512
        assert await pages.allocate(2) not in (first, second), "fresh pages go first"
        again = await pages.allocate()
        assert (again, pages.generation(again)) == (first, 1)
        assert not any(transport.memory.read(again, 4096))
        with pytest.raises(IommuError) as refused:
            await pages.allocate()
        assert refused.value.errno == errno.ENOMEM
        await pages.free(second)
        with pytest.raises(ValueError, match="not an allocated run"):
            await pages.free(second)

    asyncio.run(scenario())


@given(st.integers(0, (1 << 57) - 1), st.integers(1, 1 << 40))
def test_host_aligned_cover_is_the_smallest(address: int, size: int):
    start, mask = aligned_cover(address, size)
    length = 4096 << mask
    assert start % length == 0
    assert start <= address
    assert address + size <= start + length
    if mask:
        half = length // 2
        first, last = address // half, (address + size - 1) // half
        assert first != last, "half of it would have done"


BAD_INVALIDATIONS: dict[str, tuple[dict[str, object], int]] = {
    "short argsz": ({"argsz": 16}, errno.EINVAL),
    "version": ({"version": 3}, errno.EINVAL),
    "no cache": ({"cache": CacheType.NONE}, errno.EINVAL),
    "granularity": ({"granularity": 3}, errno.EINVAL),
    "PASID cache by address": ({"cache": CacheType.PASID}, errno.EINVAL),
    "device TLB by domain": ({"cache": CacheType.DEVICE_IOTLB, "granularity": Granularity.DOMAIN}, errno.EINVAL),
    "IOTLB by domain": ({"granularity": Granularity.DOMAIN}, errno.EOPNOTSUPP),
    "PASID cache": ({"cache": CacheType.PASID, "granularity": Granularity.PASID}, errno.EOPNOTSUPP),
    "device TLB alone": ({"cache": CacheType.DEVICE_IOTLB, "granularity": Granularity.PASID}, errno.EOPNOTSUPP),
    "PASID of nobody": ({"pasid": HOST_PASID + 1}, errno.ENOENT),
}


@pytest.mark.parametrize("row", BAD_INVALIDATIONS)
def test_host_invalidate_refuses(row: str):
    """S10: malformed is EINVAL, legal but not done is EOPNOTSUPP and never a silent success."""
    changes, number = BAD_INVALIDATIONS[row]

    async def scenario():
        platform = await Platform.bring_up()
        await platform.bind()
        good = CacheInvalidateInfo(
            cache=CacheType.IOTLB, granularity=Granularity.ADDRESS, pasid=HOST_PASID, address=ADDRESS
        )
        domain, traffic = platform.machine.domain, platform.traffic()
        with pytest.raises(IommuError) as refused:
            await sva_invalidate(domain, platform.device, replace(good, **changes))
        assert refused.value.errno == number
        assert platform.traffic() == traffic
        await sva_invalidate(domain, platform.device, good)
        assert platform.traffic() != traffic

    asyncio.run(scenario())


def test_host_invalidate_by_pasid_and_of_device_tlbs():
    async def scenario():
        platform = await Platform.bring_up(device=Device(0x0208, "device", ats=True))
        await platform.bind()
        executed = platform.transport.unit.queue.executed
        by_pasid = CacheInvalidateInfo(cache=CacheType.IOTLB, granularity=Granularity.PASID, pasid=HOST_PASID)
        device_only = CacheInvalidateInfo(
            cache=CacheType.DEVICE_IOTLB, granularity=Granularity.ADDRESS, pasid=HOST_PASID, address=ADDRESS
        )
        for info, types in ((by_pasid, [6, 8, 5]), (device_only, [8, 5])):
            del executed[:]
            await sva_invalidate(platform.machine.domain, platform.device, info)
            assert [descriptor & 0xF for descriptor in executed] == types
        domain_id = next(iter(platform.machine.domain.tags)).domain_id
        await platform.machine.unbind(platform.device, 5)
        platform.iommu.ioasids.allocate(platform.machine.owner, HOST_PASID)
        traffic = platform.traffic()
        await sva_invalidate(platform.machine.domain, platform.device, by_pasid)
        assert platform.traffic() == traffic, f"nothing is cached of domain {domain_id} any more"

    asyncio.run(scenario())
