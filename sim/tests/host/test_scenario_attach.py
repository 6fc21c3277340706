"""Scenarios of other projects' test suites, re-enacted: attaching, replacing, the first DMA.

Each docstring names the suite and the case whose outcome is asserted.
"""

import asyncio
import errno

import pytest

from nestwalk_sim.host.device import Device
from nestwalk_sim.host.errors import IommuError
from nestwalk_sim.host.guest import READ_WRITE
from nestwalk_sim.host.iommu_domain import BlockedDomain, FirstStageDomain, IdentityDomain
from nestwalk_sim.host.vtd.page_tables import FIRST_STAGE, PageTable
from sim.tests.host.bench import IOVA, PAGE, Bench, expect_errno

PASID = 1000


@pytest.mark.parametrize("kind", ["pass-through", "second-level", "first-level"])
def test_scenario_qemu_scalable_mode(kind: str):
    """QEMU qtest iommu-intel-test, scalable mode pt, slt and flt: a 4-byte DMA lands at the translated address."""

    async def scenario():
        bench = await Bench.bring_up()
        (page,) = await bench.pages(1)
        iova = page if kind == "pass-through" else 0x10_1000
        domain = bench.domain
        if kind == "pass-through":
            domain = IdentityDomain(bench.iommu)
        elif kind == "first-level":
            table = await PageTable.create(FIRST_STAGE, bench.iommu.pages, 4)
            await table.map(iova, page, PAGE, READ_WRITE)
            domain = FirstStageDomain(bench.iommu, table)
        else:
            await bench.domain.map(iova, page, PAGE, READ_WRITE)
        assert not await bench.reaches(iova, page), "nothing passes before it is attached"
        await domain.attach(bench.device)
        await bench.endpoint.write(iova, b"\x78\x56\x34\x12")
        assert bench.transport.memory.read(page, 4) == b"\x78\x56\x34\x12"
        await domain.detach(bench.device)
        assert not await bench.reaches(iova, page)

    asyncio.run(scenario())


def test_scenario_qemu_setup_order():
    """QEMU qtest iommu-intel-test, set-up order: RTADDR, SRTP with RTPS, global invalidations, then TE with TES."""

    async def scenario():
        bench = await Bench.bring_up()
        texts = [entry.text for entry in bench.iommu.log.entries if entry.recipe == "R1"]
        wanted = ["QIE=1", "RTADDR", "SRTP=1", "cc_inv global", "pc_inv global", "iotlb_inv global", "TE=1"]
        places = [next(place for place, text in enumerate(texts) if word in text) for word in wanted]
        assert places == sorted(places)
        status = await bench.iommu.regs.read("GSTS")
        assert (status["QIES"], status["RTPS"], status["TES"]) == (1, 1, 1)

    asyncio.run(scenario())


def test_scenario_kvm_unit_tests_init_and_memcpy():
    """kvm-unit-tests x86/intel-iommu.c, init and "DMAR 4B memcpy test": no fault is recorded at first; the device
    reads 4 bytes at IOVA 0 and writes them at IOVA 4, and both are equal in memory."""

    async def scenario():
        bench = await Bench.bring_up()
        assert await bench.iommu.faults.drain() == []
        assert bench.iommu.capabilities["SSLPS"] & 1
        assert 3 in bench.iommu.capabilities.second_stage_levels
        (page,) = await bench.pages(1)
        await bench.domain.map(0, page, PAGE, READ_WRITE)
        await bench.domain.attach(bench.device)
        bench.transport.memory.write(page, b"\x12\x34\x56\x78")
        await bench.endpoint.write(4, await bench.endpoint.read(0, 4))
        assert bench.transport.memory.read(page, 8) == b"\x12\x34\x56\x78" * 2
        assert await bench.iommu.faults.drain() == []

    asyncio.run(scenario())


def test_scenario_iommufd_ioas_destroy():
    """Linux selftest iommufd.c, iommufd_ioas.ioas_destroy: EBUSY while a domain is attached, which keeps translating;
    without attachment success."""

    async def scenario():
        bench = await Bench.bring_up()
        (page,) = await bench.pages(1)
        await bench.domain.map(IOVA, page, PAGE, READ_WRITE)
        await bench.domain.attach(bench.device)
        await expect_errno(errno.EBUSY, bench.domain.destroy())
        assert await bench.reaches(IOVA, page)
        await bench.domain.detach(bench.device)
        await bench.domain.destroy()
        assert not await bench.reaches(IOVA, page)

    asyncio.run(scenario())


def test_scenario_iommufd_mock_domain_replace():
    """Linux selftest iommufd.c, iommufd_mock_domain.replace: the device sees the new address space, the old one is free
    to go."""

    async def scenario():
        bench = await Bench.bring_up(ats=True)
        second = await bench.new_domain()
        old, new = await bench.pages(2)
        await bench.domain.map(IOVA, old, PAGE, READ_WRITE)
        await second.map(IOVA, new, PAGE, READ_WRITE)
        await expect_errno(errno.EINVAL, second.replace(bench.device, bench.domain))
        await bench.domain.attach(bench.device)
        assert await bench.reaches(IOVA, old)
        await second.replace(bench.device, bench.domain)
        assert await bench.reaches(IOVA, new)
        await bench.domain.destroy()
        assert await bench.reaches(IOVA, new)

    asyncio.run(scenario())


def test_scenario_iommufd_pasid_attach_rules():
    """Linux selftest iommufd.c, iommufd_device_pasid.pasid_attach, phases 1, 4, 6: detach of what is not attached is no
    error; a device without PASIDs EINVAL; an occupied PASID EBUSY, for the same domain too; replace of nothing
    EINVAL."""

    async def scenario():
        bench = await Bench.bring_up()
        plain, second = await bench.add(Device(0x0310, "plain", pasid_bits=0)), await bench.new_domain()
        commands = len(bench.iommu.log.entries)
        await bench.domain.detach(bench.device, PASID)
        await expect_errno(errno.EINVAL, bench.domain.attach(plain, PASID))
        await expect_errno(errno.EINVAL, second.replace(bench.device, bench.domain, PASID))
        assert len(bench.iommu.log.entries) == commands, "nothing was sent"
        await bench.domain.attach(bench.device, PASID)
        commands = len(bench.iommu.log.entries)
        for domain in (bench.domain, second, BlockedDomain(bench.iommu)):
            await expect_errno(errno.EBUSY, domain.attach(bench.device, PASID))
        assert len(bench.iommu.log.entries) == commands

    asyncio.run(scenario())


def test_scenario_iommufd_pasid_attach_failing_replace():
    """Linux selftest iommufd.c, iommufd_device_pasid.pasid_attach, phases 7 and 8: a replace that fails, at whatever
    point, keeps the old domain; one that does not is complete; then detach."""

    async def scenario():
        bench = await Bench.bring_up(ats=True)
        second = await bench.new_domain()
        old, new = await bench.pages(2)
        await bench.domain.map(IOVA, old, PAGE, READ_WRITE)
        await second.map(IOVA, new, PAGE, READ_WRITE)
        await bench.domain.attach(bench.device, PASID)
        nth = 0
        while True:
            nth += 1
            assert await bench.reaches(IOVA, old, PASID)
            bench.iommu.fail.fail_nth(nth)
            try:
                await second.replace(bench.device, bench.domain, PASID)
            except IommuError:
                bench.iommu.fail.disarm()
                continue
            bench.iommu.fail.disarm()
            break
        assert nth > 2
        assert await bench.reaches(IOVA, new, PASID)
        await second.detach(bench.device, PASID)
        assert not await bench.reaches(IOVA, new, PASID)

    asyncio.run(scenario())


def test_host_pasid_cycles_through_all_types():
    """S21: the same PASID and IOVA through every domain type; each translates as its own tables say, with nothing left
    of the one before."""

    async def scenario():
        bench = await Bench.bring_up(ats=True)
        first, second, iova = await bench.pages(3)
        table = await PageTable.create(FIRST_STAGE, bench.iommu.pages, 4)
        await table.map(iova, first, PAGE, READ_WRITE)
        await bench.domain.map(iova, second, PAGE, READ_WRITE)
        blocked, identity = BlockedDomain(bench.iommu), IdentityDomain(bench.iommu)
        processes = FirstStageDomain(bench.iommu, table)
        targets = {blocked: None, identity: iova, processes: first, bench.domain: second}
        await blocked.attach(bench.device, PASID)
        present = blocked
        for before in targets:
            for after in targets:
                for domain in (before, after):
                    if domain is present:
                        continue
                    await domain.replace(bench.device, present, PASID)
                    present = domain
                    target = targets[domain]
                    assert await bench.reaches(iova, target or iova, PASID) == (target is not None)
        await present.detach(bench.device, PASID)
        processes.release()

    asyncio.run(scenario())
