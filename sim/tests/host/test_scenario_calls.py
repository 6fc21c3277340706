"""Scenarios of Linux's iommufd.c that look at the calls themselves: numbers, structures and their growth, options.

Each docstring names the case whose outcome is asserted.
"""

import asyncio
import errno
from typing import Self

import pytest

from nestwalk_sim.host.errors import IommuError
from nestwalk_sim.host.iommufd.ioctl import HUGE_PAGES, LIMIT_MODE, Ioctl
from nestwalk_sim.host.iommufd.uapi import COMMANDS, HWPT_VTD_S1, VTD_S1_INVALIDATE
from sim.tests.host.bench import IOVA, PAGE, expect_errno
from sim.tests.host.user_space import USER, UserSpace

DESTROY, IOAS_ALLOC, IOAS_MAP, IOAS_UNMAP, OPTION, HWPT_ALLOC, HWPT_INVALIDATE = (
    0x80, 0x81, 0x85, 0x86, 0x87, 0x89, 0x8D,
)  # fmt: skip
IOAS_COPY, FAULT_QUEUE_ALLOC, VIOMMU_ALLOC, VDEVICE_ALLOC, VEVENTQ_ALLOC = 0x83, 0x8E, 0x90, 0x91, 0x93
FIXED = 0b111


class Caller(UserSpace):
    """A user that speaks to its iommufd by calls."""

    ioctl: Ioctl

    @classmethod
    async def start(cls) -> Self:
        caller = await cls.open()
        caller.ioctl = Ioctl(caller.context)
        return caller

    async def call(self, number: int, **values: int) -> dict[str, int]:
        """A call with these fields; its fields afterwards."""
        argument = bytearray(COMMANDS[number].pack(**values))
        await self.ioctl.call(number, argument)
        return COMMANDS[number].unpack(bytes(argument))


def test_scenario_iommufd_cmd_fail_calls():
    """Linux selftest iommufd.c, iommufd.cmd_fail and cmd_ex_fail: destroy of id 0 ENOENT, no argument EFAULT, a number
    that is no call ENOTTY, an argument shorter than it says EFAULT."""

    async def scenario():
        caller = await Caller.start()
        await expect_errno(errno.ENOENT, caller.call(DESTROY, id=0))
        await expect_errno(errno.EFAULT, caller.ioctl.call(DESTROY, None))
        for number in (0, 0x7F, 0xFF):
            await expect_errno(errno.ENOTTY, caller.ioctl.call(number, bytearray(64)))
        await expect_errno(errno.EFAULT, caller.ioctl.call(DESTROY, bytearray(COMMANDS[DESTROY].pack(size=4096))))

    asyncio.run(scenario())


@pytest.mark.parametrize("number", COMMANDS, ids=lambda number: COMMANDS[number].name)
def test_scenario_iommufd_cmd_length(number: int):
    """Linux selftest iommufd.c, iommufd.cmd_length: for each call, less than the first version EINVAL, more than is
    known E2BIG unless it is zero; nothing of that reaches the unit."""

    async def scenario():
        caller, structure = await Caller.start(), COMMANDS[number]
        commands = len(caller.iommu.log.entries)
        short = bytearray(structure.pack(size=structure.minimum - 1))
        await expect_errno(errno.EINVAL, caller.ioctl.call(number, short))
        longer = bytearray(structure.pack(size=structure.size + 8) + bytes(7) + b"\1")
        await expect_errno(errno.E2BIG, caller.ioctl.call(number, longer))
        longer[-1], met = 0, 0
        try:
            await caller.ioctl.call(number, longer)
        except IommuError as error:
            met = error.errno
        assert met != errno.E2BIG
        assert len(caller.iommu.log.entries) == commands

    asyncio.run(scenario())


def test_scenario_iommufd_global_options():
    """Linux selftest iommufd.c, iommufd.global_options and iommufd_ioas.ioas_option_huge_pages: set and get; a value of
    2 EINVAL; huge pages of object 0 ENOENT; an unknown option EOPNOTSUPP."""

    async def scenario():
        caller = await Caller.start()
        ioas = (await caller.call(IOAS_ALLOC))["out_ioas_id"]
        for option, owner, default in ((LIMIT_MODE, 0, 0), (HUGE_PAGES, ioas, 1)):
            what = {"option_id": option, "object_id": owner}
            assert (await caller.call(OPTION, op=1, **what))["val64"] == default
            await caller.call(OPTION, op=0, val64=1 - default, **what)
            assert (await caller.call(OPTION, op=1, **what))["val64"] == 1 - default
            await expect_errno(errno.EINVAL, caller.call(OPTION, op=0, val64=2, **what))
            await expect_errno(errno.EOPNOTSUPP, caller.call(OPTION, op=2, **what))
        await expect_errno(errno.ENOENT, caller.call(OPTION, op=1, option_id=HUGE_PAGES))
        await expect_errno(errno.EOPNOTSUPP, caller.call(OPTION, op=1, option_id=7))

    asyncio.run(scenario())


def test_scenario_iommufd_map_and_unmap_calls():
    """Linux selftest iommufd.c, iommufd_ioas.area through the calls: an address that the call chooses comes back, sizes
    come back from unmap, everything at once too; flags that nobody knows EOPNOTSUPP, no whole pages EINVAL."""

    async def scenario():
        caller = await Caller.start()
        ioas = (await caller.call(IOAS_ALLOC))["out_ioas_id"]
        page = await caller.iommu.pages.allocate()
        frames = {"user_va": page, "length": PAGE, "ioas_id": ioas}
        await caller.bound.attach(ioas)
        assert (await caller.call(IOAS_MAP, flags=FIXED, iova=IOVA, **frames))["iova"] == IOVA
        assert await caller.reaches(IOVA, page)
        chosen = (await caller.call(IOAS_MAP, flags=0b110, **frames))["iova"]
        assert await caller.reaches(chosen, page)
        copied = await caller.call(
            IOAS_COPY, flags=FIXED, dst_ioas_id=ioas, src_ioas_id=ioas, length=PAGE, src_iova=IOVA, dst_iova=2 * IOVA
        )
        assert await caller.reaches(copied["dst_iova"], page)
        await expect_errno(errno.EOPNOTSUPP, caller.call(IOAS_MAP, flags=8, **frames))
        await expect_errno(errno.EINVAL, caller.call(IOAS_MAP, flags=FIXED, iova=IOVA, **frames | {"length": 100}))
        await expect_errno(errno.EOVERFLOW, caller.call(IOAS_MAP, flags=FIXED, **frames | {"length": 1 << 63}))
        assert (await caller.call(IOAS_UNMAP, ioas_id=ioas, iova=IOVA, length=PAGE))["length"] == PAGE
        assert (await caller.call(IOAS_UNMAP, ioas_id=ioas, length=(1 << 64) - 1))["length"] == 2 * PAGE
        assert not await caller.passes(chosen)

    asyncio.run(scenario())


def test_scenario_iommufd_nested_invalidate_calls():
    """Linux selftest iommufd.c, alloc_hwpt_nested (invalidation) through the calls: on a parent EINVAL and count 0;
    empty array fine; bad type, entry size, entry length 0, missing array, bad id EINVAL; of two the second bad: count
    1."""

    async def scenario():
        caller = await Caller.start()
        parent, guest = await caller.guest()
        table, _ = await guest.table()
        data, memory = await caller.iommu.pages.allocate(), caller.iommu.memory
        await memory.write(data, HWPT_VTD_S1.pack(pgtbl_addr=table.root, addr_width=48))
        wanted = {"pt_id": parent.id, "data_type": 1, "data_uptr": data, "data_len": HWPT_VTD_S1.size}
        await expect_errno(errno.EINVAL, caller.call(HWPT_ALLOC, **wanted | {"data_len": 8}))
        await expect_errno(errno.EFAULT, caller.call(HWPT_ALLOC, **wanted | {"data_uptr": 0}))
        await expect_errno(errno.EOPNOTSUPP, caller.call(HWPT_ALLOC, **wanted | {"flags": 1 << 7}))
        nested = (await caller.call(HWPT_ALLOC, **wanted))["out_hwpt_id"]
        await caller.bound.attach(nested)
        assert await caller.passes(USER)
        good, bad = VTD_S1_INVALIDATE.pack(addr=USER, npages=1), VTD_S1_INVALIDATE.pack(addr=USER, npages=1, flags=8)
        await memory.write(data, good + bad)
        request = {"hwpt_id": nested, "data_uptr": data, "entry_len": VTD_S1_INVALIDATE.size, "entry_num": 2}
        assert (await caller.call(HWPT_INVALIDATE, **request | {"entry_num": 0}))["entry_num"] == 0
        for wrong in (
            {"hwpt_id": parent.id}, {"hwpt_id": caller.bound.id}, {"data_type": 9}, {"entry_len": 8}, {"entry_len": 0},
            {"data_uptr": 0},
        ):  # fmt: skip
            argument = bytearray(COMMANDS[HWPT_INVALIDATE].pack(**request | wrong))
            await expect_errno(errno.EINVAL, caller.ioctl.call(HWPT_INVALIDATE, argument))
            assert COMMANDS[HWPT_INVALIDATE].unpack(bytes(argument))["entry_num"] == 0
        await table.unmap(USER, PAGE)
        argument = bytearray(COMMANDS[HWPT_INVALIDATE].pack(**request))
        await expect_errno(errno.EOPNOTSUPP, caller.ioctl.call(HWPT_INVALIDATE, argument))
        assert COMMANDS[HWPT_INVALIDATE].unpack(bytes(argument))["entry_num"] == 1
        assert not await caller.passes(USER)

    asyncio.run(scenario())


def test_scenario_viommu_calls():
    """Linux selftest iommufd.c, iommufd_viommu through the calls: virtual unit, device, events and fault queue get
    numbers, which go in the order of use."""

    async def scenario():
        caller = await Caller.start()
        parent, _ = await caller.guest()
        device = {"dev_id": caller.bound.id}
        viommu = (await caller.call(VIOMMU_ALLOC, type=1, hwpt_id=parent.id, **device))["out_viommu_id"]
        vdevice = (await caller.call(VDEVICE_ALLOC, viommu_id=viommu, virt_id=0x99, **device))["out_vdevice_id"]
        events = await caller.call(VEVENTQ_ALLOC, viommu_id=viommu, type=1, veventq_depth=2)
        fault = (await caller.call(FAULT_QUEUE_ALLOC))["out_fault_id"]
        await expect_errno(errno.EBUSY, caller.call(DESTROY, id=viommu))
        await expect_errno(errno.EEXIST, caller.call(VDEVICE_ALLOC, viommu_id=viommu, virt_id=0x99, **device))
        await expect_errno(errno.EOPNOTSUPP, caller.call(VIOMMU_ALLOC, type=9, hwpt_id=parent.id, **device))
        for number in (vdevice, events["out_veventq_id"], viommu, fault):
            await caller.call(DESTROY, id=number)
            await expect_errno(errno.ENOENT, caller.call(DESTROY, id=number))

    asyncio.run(scenario())
