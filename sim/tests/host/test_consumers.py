"""Who hands PASIDs on: KVM's translation for ENQCMD, mediated devices, vDPA, virtual functions (S20, S23 to S25)."""

import asyncio
import errno
from collections.abc import Callable

import pytest

from nestwalk_sim.host.audit import Auditor
from nestwalk_sim.host.device import Device
from nestwalk_sim.host.endpoint import DmaFault, Endpoint
from nestwalk_sim.host.errors import IommuError
from nestwalk_sim.host.guest import READ_WRITE
from nestwalk_sim.host.ioasid import IoasidSet
from nestwalk_sim.host.kvm import GeneralProtection, PasidTranslation
from nestwalk_sim.host.sriov import PhysicalFunction
from nestwalk_sim.host.vdcm import ParentDriver, WorkItem
from nestwalk_sim.host.vdpa import VdpaDevice
from nestwalk_sim.host.vmm import VirtualMachine
from sim.tests.host.bench import IOVA, PAGE, Bench, expect_errno
from sim.tests.host.bringup import ADDRESS, BASE, GUEST_PASID, HOST_PASID, Platform, fault_of

SHARED = Device(0x0208, "shared", ats=True, aux_domains=True)


def refused(call: Callable[[], object]) -> int:
    with pytest.raises(IommuError) as error:
        call()
    return error.value.errno


class Portal:
    """A portal that takes what it gets."""

    def __init__(self):
        self.taken: list[tuple[int, bytes]] = []

    def submit(self, pasid: int, work: bytes) -> None:
        self.taken.append((pasid, work))


def test_host_enqcmd_ends_before_the_translation_does(auditors: list[Auditor]):
    """S24: work is accepted from the bind to the unbind, under the host's PASID; the last of it comes before tear-down
    begins. Two machines with equal guest PASIDs do not meet (A7)."""

    async def scenario():
        platform = await Platform.bring_up()
        iommu, machine, portal = platform.iommu, platform.machine, Portal()
        other = await VirtualMachine.create(iommu, "other", BASE, 8)
        tables = [PasidTranslation(iommu.ioasids, vm.owner) for vm in (machine, other)]
        auditors[0].holders["kvm"] = lambda pasid: sum(table.holds(pasid) for table in tables)
        with pytest.raises(GeneralProtection):
            tables[0].enqcmd(GUEST_PASID, portal, b"early")
        await platform.bind()
        theirs = await other.bind(platform.device, await other.guest.spawn(GUEST_PASID))
        tables[0].enqcmd(GUEST_PASID, portal, b"ours")
        tables[1].enqcmd(GUEST_PASID, portal, b"theirs")
        assert portal.taken == [(HOST_PASID, b"ours"), (theirs, b"theirs")]
        assert await auditors[0].audit() == []
        storm: list[str] = []
        hide = iommu.state_of(platform.device).table.hide

        async def watched(pasid: int, *, disable_faults: bool = False) -> None:
            with pytest.raises(GeneralProtection):
                tables[0].enqcmd(GUEST_PASID, portal, b"late")
            storm.append("torn down")
            await hide(pasid, disable_faults=disable_faults)

        iommu.state_of(platform.device).table.hide = watched
        await machine.unbind(platform.device, GUEST_PASID)
        iommu.state_of(platform.device).table.hide = hide
        assert storm == ["torn down"]
        assert len(portal.taken) == 2
        await other.free(GUEST_PASID)
        with pytest.raises(GeneralProtection):
            tables[1].enqcmd(GUEST_PASID, portal, b"freed")
        for table in tables:
            table.close()

    asyncio.run(scenario())


def test_host_enqcmd_table_that_is_full_refuses_the_bind():
    """S24: a translation that cannot be installed makes the bind fail and unwind (S07)."""

    async def scenario():
        platform = await Platform.bring_up()
        table = PasidTranslation(platform.iommu.ioasids, platform.machine.owner, entries=0)
        before = await platform.state()
        await expect_errno(errno.ENOMEM, platform.bind())
        assert await platform.state() == before
        assert table.epoch == 0
        table.close()

    asyncio.run(scenario())


async def mediated(platform: Platform, auditors: list[Auditor]) -> ParentDriver:
    tlb = platform.transport.device_tlb(SHARED.source_id)
    endpoint = Endpoint(SHARED, platform.transport, platform.iommu.pages.memory, tlb)
    parent = ParentDriver(platform.iommu, SHARED, endpoint, queues=2)
    auditors[0].holders["vdcm"] = parent.holds
    return parent


def test_host_mediated_devices_program_host_pasids(auditors: list[Auditor]):
    """S25, S20: a queue gets the host's number for the guest's PASID; unknown ones are EINVAL, another machine's
    EACCES, a queue in use EBUSY; nothing of that reaches the unit."""

    async def scenario():
        platform = await Platform.bring_up(device=SHARED)
        parent = await mediated(platform, auditors)
        other = await VirtualMachine.create(platform.iommu, "other", BASE, 8)
        await platform.bind()
        mdev, theirs = parent.create(platform.machine.owner), parent.create(other.owner)
        assert refused(lambda: parent.create(other.owner)) == errno.ENOSPC
        commands = len(platform.iommu.log.entries)
        assert refused(lambda: mdev.program_guest(GUEST_PASID + 1)) == errno.EINVAL
        assert refused(lambda: theirs.program_guest(GUEST_PASID)) == errno.EINVAL
        assert refused(lambda: theirs.program(HOST_PASID)) == errno.EACCES
        assert refused(lambda: theirs.program(HOST_PASID + 1)) == errno.ENOENT
        mdev.program_guest(GUEST_PASID)
        assert refused(lambda: mdev.program_guest(GUEST_PASID)) == errno.EBUSY
        assert refused(lambda: parent.destroy(mdev)) == errno.EBUSY
        assert len(platform.iommu.log.entries) == commands
        parent.submit(HOST_PASID, WorkItem(ADDRESS, b"by a queue"))
        assert refused(lambda: parent.submit(HOST_PASID + 1, WorkItem(ADDRESS, b"stray"))) == errno.EINVAL
        assert await parent.run() == 1
        assert await platform.process.read(ADDRESS, 10) == b"by a queue"
        assert await auditors[0].audit() == []
        await mdev.stop()
        parent.destroy(mdev)

    asyncio.run(scenario())


@pytest.mark.parametrize("how", ["unbind", "free", "kill"])
@pytest.mark.parametrize("stuck", [False, True])
def test_host_mediated_device_stops_before_its_pasid_ends(how: str, stuck: bool, auditors: list[Auditor]):
    """S25, S12: at the end of a PASID the queue stops first, however long that takes; what waited in it is dropped; a
    device that does not stop is reset. No fault is recorded."""

    async def scenario():
        platform = await Platform.bring_up(device=SHARED)
        parent, order = await mediated(platform, auditors), list[str]()

        async def stopping() -> None:
            for _ in range(50):
                await platform.transport.pause()
            order.append("stopped")
            if stuck:
                raise IommuError(errno.ETIMEDOUT, "the queue does not stop")

        parent._on_stop = stopping
        await platform.bind()
        mdev = parent.create(platform.machine.owner)
        mdev.program_guest(GUEST_PASID)
        parent.submit(HOST_PASID, WorkItem(ADDRESS, b"too late"))
        table = platform.iommu.state_of(SHARED).table
        hide = table.hide

        async def watched(pasid: int, *, disable_faults: bool = False) -> None:
            order.append("torn down")
            await hide(pasid, disable_faults=disable_faults)

        table.hide = watched
        machine = platform.machine
        ends = {"unbind": lambda: machine.unbind(SHARED, GUEST_PASID), "free": lambda: machine.free(GUEST_PASID)}
        await ends.get(how, machine.kill)()
        table.hide = hide
        assert order == ["stopped", "torn down"]
        assert (await parent.run(), mdev.pasid, parent.resets) == (0, None, int(stuck))
        assert await platform.iommu.faults.drain() == []
        parent.destroy(mdev)

    asyncio.run(scenario())


def test_host_vdpa_instances_do_not_meet(auditors: list[Auditor]):
    """S23, S21: two instances on one parent with rings at equal addresses; PASID changes only while stopped (EBUSY);
    unknown PASID ENOENT, another owner's EACCES; a reset leaves nothing, and a failed attach leaves the queues off."""

    async def scenario():
        bench = await Bench.bring_up(ats=True)
        owners, pages = [IoasidSet(name) for name in ("red", "blue")], await bench.pages(2)
        instances = [VdpaDevice(bench.iommu, bench.device, bench.endpoint, owner) for owner in owners]
        auditors[0].holders["vdpa"] = lambda pasid: sum(each.holds(pasid) for each in instances)
        pasids = [bench.iommu.ioasids.allocate(owner, 40) for owner in owners]
        domains = [await type(bench.domain).create(bench.iommu, owner) for owner in owners]
        for domain, page in zip(domains, pages, strict=True):
            await domain.map(IOVA, page, PAGE, READ_WRITE)
        assert refused(lambda: instances[0].set_pasid(pasids[1])) == errno.EACCES
        assert refused(lambda: instances[0].set_pasid(1000)) == errno.ENOENT
        await expect_errno(errno.EINVAL, instances[0].set_map(domains[0]))
        for number, instance in enumerate(instances):
            instance.set_pasid(pasids[number])
            await expect_errno(errno.EACCES, instance.set_map(domains[1 - number]))
            bench.iommu.fail.fail_nth(1)
            await expect_errno(errno.ENOMEM, instance.set_map(domains[number]))
            assert refused(instance.start) == errno.EINVAL
            await instance.set_map(domains[number])
            instance.start()
            await instance.kick(IOVA, b"red blue"[4 * number :][:4])
            assert refused(lambda each=instance: each.set_pasid(None)) == errno.EBUSY
        assert [bench.transport.memory.read(page, 4) for page in pages] == [b"red ", b"blue"]
        for instance, pasid in zip(instances, pasids, strict=True):
            await instance.reset()
            await expect_errno(errno.EINVAL, instance.kick(IOVA, b"late"))
            instance.set_pasid(None)
            with pytest.raises(DmaFault):
                await bench.endpoint.write(IOVA, b"late", pasid)
        plain = Device(0x0310, "plain", pasid_bits=0)
        assert refused(lambda: VdpaDevice(bench.iommu, plain, bench.endpoint, owners[0])) == errno.EOPNOTSUPP

    asyncio.run(scenario())


def test_host_virtual_functions_are_apart():
    """SR-IOV and S20: each function has a requester id and PASIDs of its own; knowing a number that was given to
    another gives nothing; functions in use cannot go."""

    async def scenario():
        platform = await Platform.bring_up()
        iommu = platform.iommu
        physical = PhysicalFunction(iommu, platform.device, total=4, offset=8, stride=2)
        await expect_errno(errno.EINVAL, physical.enable(5))
        functions = await physical.enable(3)
        assert [function.source_id for function in functions] == [0x0210, 0x0212, 0x0214]
        assert {function.physical for function in functions} == {platform.device.source_id}
        await expect_errno(errno.EBUSY, physical.enable(1))
        await platform.machine.bind(functions[1], platform.process, minimum=HOST_PASID)
        outcomes = [await fault_of(platform.endpoint(function), HOST_PASID) for function in functions]
        assert (outcomes[1], [reason is not None for reason in outcomes]) == (None, [True, False, True])
        await expect_errno(errno.EBUSY, physical.disable())
        await platform.machine.unbind(functions[1], GUEST_PASID)
        await physical.disable()
        assert functions[0].source_id not in iommu.devices
        assert await fault_of(platform.endpoint(functions[1]), HOST_PASID) is not None
        iommu.fail.fail_nth(2, "page")
        await expect_errno(errno.ENOMEM, physical.enable(3))
        assert physical.functions == []

    asyncio.run(scenario())
