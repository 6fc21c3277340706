"""What a guest has of the unit: PASID tables shadowed at invalidation, invalidations passed down, virtual commands
(S15, S18, S19).
"""

import asyncio
import errno
from random import Random

import pytest

from nestwalk_sim.host.device import Device
from nestwalk_sim.host.errors import IommuError
from nestwalk_sim.host.inject import FailPoints
from nestwalk_sim.host.ioasid import IoasidAllocator, IoasidSet
from nestwalk_sim.host.iommufd.viommu import FAULT_EVENTS, Vdevice, Veventq, Viommu
from nestwalk_sim.host.virtual_command import VcmdSource, VirtualCommand
from nestwalk_sim.host.virtual_iommu import VirtualIommu, bind_pasid_table
from nestwalk_sim.host.vtd.descriptors import (
    ContextCacheInvalidate,
    Descriptor,
    IotlbInvalidate,
    PasidCacheInvalidate,
    PasidIotlbInvalidate,
)
from nestwalk_sim.host.vtd.page_tables import PageTable
from nestwalk_sim.host.vtd.tables import ContextEntry, PasidEntry, PasidTable, RootTable, TranslationType, write_entry
from sim.tests.host.bench import PAGE, expect_errno
from sim.tests.host.user_space import USER, UserSpace

VIRTUAL = 0x0100
DOMAIN = 9


class GuestDriver:
    """A guest's own driver: it writes its tables in its memory and tells its unit, which is the VMM's."""

    user: UserSpace
    unit: VirtualIommu
    viommu: Viommu
    table: PasidTable
    first_stages: list[tuple[PageTable, int]]

    @classmethod
    async def boot(cls) -> "GuestDriver":
        driver = cls()
        driver.user = await UserSpace.open()
        parent, guest = await driver.user.guest()
        driver.viommu = Viommu.create(driver.user.context, driver.user.bound.id, parent.id)
        Vdevice.create(driver.viommu, driver.user.bound.id, VIRTUAL)
        driver.unit = VirtualIommu(driver.user.context, driver.viommu, guest.pages)
        driver.first_stages = [await guest.table() for _ in range(2)]
        root = await RootTable.create(guest.pages)
        driver.table = await PasidTable.create(guest.pages, 13)
        entry = ContextEntry(driver.table.directory, driver.table.directory_size, pasid_enable=True)
        await write_entry(guest.memory, await root.context_entry(VIRTUAL), entry.words())
        driver.unit.root = root.address
        await driver.unit.submit([ContextCacheInvalidate()])
        return driver

    def entry(self, which: int, domain_id: int = DOMAIN) -> PasidEntry:
        return PasidEntry(
            translation=TranslationType.FIRST_STAGE,
            domain_id=domain_id,
            first_stage_root=self.first_stages[which][0].root,
        )

    async def set(self, pasid: int, entry: PasidEntry | None, *, tell: bool = True) -> None:
        """Change an entry of the guest's table, and invalidate it."""
        await self.table.clear(pasid)
        if entry is not None:
            await self.table.install(pasid, entry)
        if tell:
            await self.unit.submit([PasidCacheInvalidate(DOMAIN, pasid)])


def test_host_shadow_follows_the_guest():
    """S18: absent to present binds, a change replaces, present to absent unbinds, no change sends nothing; the guest is
    told to invalidate what becomes present."""

    async def scenario():
        driver = await GuestDriver.boot()
        user, (_, (second, host)) = driver.user, driver.first_stages
        assert driver.unit.capability & 1 << 7
        assert not await user.passes(USER, 5)
        await driver.set(5, driver.entry(0))
        assert await user.reaches(USER, driver.first_stages[0][1], 5)
        commands = len(user.iommu.log.entries)
        await driver.unit.submit([PasidCacheInvalidate(), PasidCacheInvalidate(DOMAIN), ContextCacheInvalidate()])
        assert len(user.iommu.log.entries) == commands
        await driver.set(5, driver.entry(1))
        assert await user.reaches(USER, host, 5)
        await second.unmap(USER, PAGE)
        await driver.unit.submit([PasidIotlbInvalidate(DOMAIN, 5, USER, 0, True)])
        assert not await user.passes(USER, 5)
        await driver.set(5, driver.entry(0))
        assert await user.passes(USER, 5)
        await driver.first_stages[0][0].unmap(USER, PAGE)
        await driver.unit.submit([IotlbInvalidate(DOMAIN)])
        assert not await user.passes(USER, 5)
        await driver.set(5, None)
        assert driver.unit.shadows == {}
        assert user.bound.attached == {}

    asyncio.run(scenario())


@pytest.mark.parametrize("honest", [True, False], ids=["", "an invalidation is forgotten"])
def test_host_shadow_equals_the_guest_tables(honest: bool, rng: Random):
    """S18: random edits and granularities; after each completed invalidation the shadow is the guest's table, and DMA
    goes where the guest's tables lead. A guest that forgets to invalidate is noticed."""

    async def scenario() -> bool:
        driver, model = await GuestDriver.boot(), dict[int, int]()
        equal = True
        for step in range(60):
            pasid, which = rng.randrange(1, 5), rng.choice([None, 0, 1])
            granularities: list[Descriptor] = [
                PasidCacheInvalidate(),
                PasidCacheInvalidate(DOMAIN),
                PasidCacheInvalidate(DOMAIN, pasid),
            ]
            await driver.set(pasid, None if which is None else driver.entry(which), tell=False)
            if honest or step != 20:
                await driver.unit.submit([rng.choice(granularities)])
            model.pop(pasid, None)
            if which is not None:
                model[pasid] = which
            shadow = {number: each.entry for (_, number), each in driver.unit.shadows.items()}
            equal = equal and shadow == {number: driver.entry(each) for number, each in model.items()}
            reached = await driver.user.reaches(USER, driver.first_stages[which or 0][1], pasid)
            equal = equal and reached == (which is not None)
        return equal

    outcomes = [asyncio.run(scenario()) for _ in range(1 if honest else 3)]
    assert all(outcomes) == honest


def test_host_shadow_of_what_cannot_be_had():
    """S18: an entry that the host cannot bind blocks, and becomes a fault event of the guest; the guest's call does not
    fail; a replace that fails leaves nothing of either."""

    async def scenario():
        driver = await GuestDriver.boot()
        user = driver.user
        events = user.context.add(Veventq(driver.viommu, FAULT_EVENTS, 8))
        second_stage = PasidEntry(translation=TranslationType.SECOND_STAGE, domain_id=DOMAIN)
        await driver.set(5, second_stage)
        beyond = PasidEntry(translation=TranslationType.FIRST_STAGE, domain_id=DOMAIN, first_stage_root=1 << 50)
        await driver.set(5, beyond)
        assert [event.data for event in events.read()] == [(5, errno.EINVAL)] * 2
        assert not await user.passes(USER, 5)
        await driver.set(5, driver.entry(0))
        user.iommu.fail.fail_nth(1, "queue slot")
        await driver.set(5, driver.entry(1))
        user.iommu.fail.disarm()
        assert [event.data for event in events.read()] == [(5, errno.ETIMEDOUT)]
        assert not await user.passes(USER, 5)
        await driver.set(5, PasidEntry(translation=TranslationType.PASS_THROUGH, domain_id=DOMAIN))
        gpa = await driver.first_stages[0][0].look_up(USER)
        assert gpa is not None
        assert await user.reaches(gpa.output(USER), driver.first_stages[0][1], 5)

    asyncio.run(scenario())


def test_host_guest_owned_pasid_table_is_refused():
    """S19: shared or in use EBUSY, out of reach EFAULT, else EOPNOTSUPP: the unit has no such mode; nothing is sent."""

    async def scenario():
        user = await UserSpace.open()
        parent, guest = await user.guest()
        shared = await user.bind(Device(0x0310, "shared", aux_domains=True))
        commands = len(user.iommu.log.entries)
        await expect_errno(errno.EBUSY, bind_pasid_table(parent, shared, 0))
        await expect_errno(errno.EFAULT, bind_pasid_table(parent, user.bound, 1 << 60))
        await expect_errno(errno.EOPNOTSUPP, bind_pasid_table(parent, user.bound, await guest.pages.allocate()))
        assert len(user.iommu.log.entries) == commands
        await user.bound.attach(parent.id)
        await expect_errno(errno.EBUSY, bind_pasid_table(parent, user.bound, 0))

    asyncio.run(scenario())


def test_host_virtual_command():
    """S15: allocate up to the quota, then ENOSPC; a second free and a foreign one are only noted; one command at a
    time; the numbers are the host's, and a guest that dies leaves none."""
    fail = FailPoints()
    host, guest = IoasidAllocator(fail), IoasidAllocator(fail)
    owner, stranger, processes = IoasidSet("guest", quota=3), IoasidSet("stranger"), IoasidSet("processes")
    foreign = host.allocate(stranger)
    registers = VirtualCommand(host, owner)
    source = VcmdSource(registers)
    guest.register_source(source)
    pasids = [guest.allocate(processes) for _ in range(3)]
    assert owner.pasids == set(pasids)
    with pytest.raises(IommuError) as refused:
        guest.allocate(processes)
    assert refused.value.errno == errno.ENOSPC
    guest.free(processes, pasids[0])
    for number in (foreign, 1 << 19):
        source.free(number)
    assert (registers.logged, foreign in host.allocated) == (2, True)
    registers.held = True
    with pytest.raises(IommuError) as refused:
        guest.allocate(processes)
    assert refused.value.errno == errno.ENODEV
    registers.write_command(1)
    assert (registers.ignored, registers.read_response()) == (1, 1)
    registers.complete()
    assert len(owner.pasids) == 3, "the command was executed after all, though nobody waits for it"
    host.free_set(owner)
    assert set(host.allocated) == {foreign}
    registers.held = False
    registers.write_command(1)
    assert registers.read_response() >> 1 & 3 == 3
    registers.write_command(9)
    assert registers.read_response() >> 1 & 3 == 3
