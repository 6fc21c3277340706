"""Scenarios of QEMU's qtests and of Linux's iommufd.c: capabilities, a device that tells how its DMA ended, options.

Each docstring names the suite and the case whose outcome is asserted.
"""

import asyncio
import errno
from enum import Enum

import pytest

from nestwalk.registers.table import REGISTERS
from nestwalk_sim.host.endpoint import DmaFault, Endpoint
from nestwalk_sim.host.errors import IommuError
from nestwalk_sim.host.guest import READ_ONLY, READ_WRITE
from nestwalk_sim.host.iommu_domain import IdentityDomain
from nestwalk_sim.host.mm import Mm
from nestwalk_sim.host.vtd.page_tables import Permission
from nestwalk_sim.host.vtd.sva import SvaProcesses, sva_bind_device, sva_unbind_device
from nestwalk_sim.host.vtd.unit import Iommu
from nestwalk_sim.model_unit import ModelTransport
from sim.tests.host.bench import IOVA, PAGE, Bench, expect_errno

PASID = 50


class Outcome(Enum):
    """What QEMU's test device reports."""

    DONE = 0
    NOT_ARMED = 1
    BAD_LENGTH = 2
    WRITE_FAILED = 3
    READ_FAILED = 4
    MISMATCH = 5


class Doorbell:
    """QEMU's iommu-testdev: armed with an address and a length, it writes a pattern, reads it back and compares."""

    PATTERN = b"\x78\x56\x34\x12"

    def __init__(self, endpoint: Endpoint, pasid: int | None = None):
        self._endpoint = endpoint
        self._pasid = pasid
        self._job: tuple[int, int, int] | None = None

    def arm(self, address: int, length: int, read_from: int | None = None) -> None:
        self._job = address, length, address if read_from is None else read_from

    async def ring(self) -> Outcome:
        if self._job is None:
            return Outcome.NOT_ARMED
        (address, length, source), self._job = self._job, None
        if length != len(self.PATTERN):
            return Outcome.BAD_LENGTH
        try:
            await self._endpoint.write(address, self.PATTERN, self._pasid)
        except DmaFault:
            return Outcome.WRITE_FAILED
        try:
            found = await self._endpoint.read(source, length, self._pasid)
        except DmaFault:
            return Outcome.READ_FAILED
        return Outcome.DONE if found == self.PATTERN else Outcome.MISMATCH


def test_scenario_qemu_testdev_error_codes():
    """QEMU qtest iommu-intel-test, the test device's result codes: not armed, bad length, write failed, read failed,
    mismatch and success can be told apart."""

    async def scenario():
        bench = await Bench.bring_up()
        pages = await bench.pages(3)
        permissions = (READ_WRITE, Permission.WRITE, READ_ONLY)
        for number, (page, permission) in enumerate(zip(pages, permissions, strict=True)):
            await bench.domain.map(IOVA + number * PAGE, page, PAGE, permission)
        await bench.domain.attach(bench.device)
        device = Doorbell(bench.endpoint)
        assert await device.ring() is Outcome.NOT_ARMED
        for address, length, source, outcome in (
            (IOVA, 8, None, Outcome.BAD_LENGTH),
            (IOVA, 4, None, Outcome.DONE),
            (IOVA + 2 * PAGE, 4, None, Outcome.WRITE_FAILED),
            (IOVA + PAGE, 4, None, Outcome.READ_FAILED),
            (IOVA, 4, IOVA + 2 * PAGE, Outcome.MISMATCH),
            (IOVA + 9 * PAGE, 4, None, Outcome.WRITE_FAILED),
        ):
            device.arm(address, length, source)
            assert await device.ring() is outcome
        assert await device.ring() is Outcome.NOT_ARMED

    asyncio.run(scenario())


def test_scenario_qemu_legacy_pass_through():
    """QEMU qtest iommu-intel-test, pass-through: the 4 bytes land at the identity address, without PASID and under
    one.
    """

    async def scenario():
        bench = await Bench.bring_up()
        identity, (page,) = IdentityDomain(bench.iommu), await bench.pages(1)
        for pasid in (0, PASID):
            await identity.attach(bench.device, pasid)
            device = Doorbell(bench.endpoint, pasid or None)
            device.arm(page, 4)
            assert await device.ring() is Outcome.DONE
            assert bench.transport.memory.read(page, 4) == Doorbell.PATTERN
            await identity.detach(bench.device, pasid)
            device.arm(page, 4)
            assert await device.ring() is Outcome.WRITE_FAILED

    asyncio.run(scenario())


def test_scenario_qemu_intel_iommu_stage_1_capabilities():
    """QEMU qtest intel-iommu-test, stage-1: what CAP and ECAP announce for the first stage, widths of 39, 48 and 57
    bits, and the same after the unit was off and on again."""

    async def scenario():
        bench = await Bench.bring_up()
        regs, seen = bench.iommu.regs, list[tuple[int, int]]()
        for _ in range(2):
            capability, extended = await regs.read("CAP"), await regs.read("ECAP")
            assert [extended[name] for name in ("FSTS", "SMTS", "PASID", "PSS", "QI")] == [1, 1, 1, 19, 1]
            assert (capability["MGAW"], capability["SAGAW"] & 0b1110, capability["FS5LP"]) == (56, 0b1110, 1)
            seen.append((capability.raw, extended.raw))
            await bench.iommu.disable()
            await bench.iommu.enable()
        assert seen[0] == seen[1]

    asyncio.run(scenario())


def test_scenario_qemu_reset_values():
    """QEMU qtest intel-iommu-test, reset: the registers of a fresh unit are those of another, status clean."""

    async def scenario():
        units = [await Iommu.create(ModelTransport(1 << 20), 0, 1 << 20) for _ in range(2)]
        for name, register in REGISTERS.items():
            if not register.array and register.width <= 64 and name not in ("IQA", "IQT"):
                values = [(await unit.regs.read(name)).raw for unit in units]
                assert values[0] == values[1], name
        status = await units[0].regs.read("FSTS")
        assert (status["PPF"], status["PFO"], status["IQE"]) == (0, 0, 0)

    asyncio.run(scenario())


def test_scenario_iommufd_ioas_alignment():
    """Linux selftest iommufd.c, iommufd_ioas.ioas_iova_alloc and ioas_align_change: what is no whole page is EINVAL, in
    the address and in the memory behind it; nothing is mapped."""

    async def scenario():
        bench = await Bench.bring_up()
        (page,) = await bench.pages(1)
        for iova, host, size in ((IOVA + 8, page, PAGE), (IOVA, page + 8, PAGE), (IOVA, page, 100), (IOVA, page, 0)):
            await expect_errno(errno.EINVAL, bench.domain.map(iova, host, size, READ_WRITE))
        for size in (PAGE, 1 << 21, 1 << 30):
            await expect_errno(errno.EINVAL, bench.domain.map(IOVA + size // 2, 0, size, READ_WRITE, size))
        assert await bench.domain.table.look_up(IOVA) is None

    asyncio.run(scenario())


def test_host_sva_beside_mappings_made_beforehand():
    """S21: one device has a process under one PASID, mapped pages under another and under none, at equal addresses;
    what is taken from one leaves the others alone."""

    async def scenario():
        bench = await Bench.bring_up(ats=True)
        processes, mm = SvaProcesses(bench.iommu), await Mm.create(bench.iommu.pages)
        own = await mm.map(IOVA)
        mapped, plain = await bench.pages(2)
        other = await bench.new_domain()
        await bench.domain.map(IOVA, mapped, PAGE, READ_WRITE)
        await other.map(IOVA, plain, PAGE, READ_WRITE)
        handle = await sva_bind_device(processes, bench.device, mm)
        await bench.domain.attach(bench.device, PASID)
        await other.attach(bench.device)
        places = {handle.pasid: own, PASID: mapped, None: plain}
        assert all([await bench.reaches(IOVA, host, pasid) for pasid, host in places.items()])
        with pytest.raises(IommuError, match="in use"):
            await bench.domain.attach(bench.device, handle.pasid)
        await mm.unmap(IOVA)
        assert [await bench.reaches(IOVA, host, pasid) for pasid, host in places.items()] == [False, True, True]
        await bench.domain.unmap(IOVA, PAGE)
        assert [await bench.reaches(IOVA, host, pasid) for pasid, host in places.items()] == [False, False, True]
        await sva_unbind_device(processes, handle)

    asyncio.run(scenario())
