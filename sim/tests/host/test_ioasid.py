"""Host PASIDs: an allocator model with sets, quotas and references; notifiers in order."""

import asyncio
import errno
from random import Random
from typing import Any, cast

import pytest

from nestwalk_sim.host.errors import IommuError
from nestwalk_sim.host.inject import FailPoints
from nestwalk_sim.host.ioasid import Ioasid, IoasidAllocator, IoasidSet
from nestwalk_sim.host.notifiers import Event, Notifier, NotifierChain, Priority
from sim.tests.host.bringup import GUEST_PASID, HOST_PASID, Platform, fault_of

NOT_PRESENT_PASID = 0x59
PASIDS_OFF = 0x45


def expect_errno(number: int, call, *arguments) -> None:
    with pytest.raises(IommuError) as refused:
        call(*arguments)
    assert refused.value.errno == number, refused.value


def test_host_ioasid_allocator_equals_a_model(rng: Random):
    """Random calls of three sets against plain dictionaries: number, errno, quota, references, state."""
    ids = IoasidAllocator(FailPoints())
    sets = [IoasidSet("red", quota=4), IoasidSet("blue", quota=6), IoasidSet("green")]
    owned: dict[int, IoasidSet] = {}
    held: dict[int, int] = {}
    pending: set[int] = set()

    def model_errno(owner: IoasidSet, pasid: int) -> int | None:
        if pasid not in owned or pasid in pending:
            return errno.ENOENT
        return None if owned[pasid] is owner else errno.EACCES

    def back_in_pool(pasid: int) -> None:
        if pasid in pending and not held[pasid]:
            pending.discard(pasid)
            del owned[pasid], held[pasid]

    for _ in range(4000):
        owner, pasid = rng.choice(sets), rng.randrange(1, 16)
        action = rng.choice(["allocate", "get", "put", "free", "free"])
        if action == "allocate":
            full = owner.quota is not None and sum(each is owner for each in owned.values()) >= owner.quota
            free = [number for number in range(pasid, 16) if number not in owned]
            if full or not free:
                expect_errno(errno.ENOSPC, ids.allocate, owner, pasid, 15)
            else:
                assert ids.allocate(owner, pasid, 15) == free[0]
                owned[free[0]], held[free[0]] = owner, 0
        elif action == "get":
            number = model_errno(owner, pasid)
            if number is None:
                assert ids.get(owner, pasid, "kvm").pasid == pasid
                held[pasid] += 1
            else:
                expect_errno(number, ids.get, owner, pasid, "kvm")
        elif action == "put" and held.get(pasid):
            ids.put(ids.allocated[pasid], "kvm")
            held[pasid] -= 1
            back_in_pool(pasid)
        elif action == "free" and pasid in owned and owned[pasid] is owner:
            returned = ids.free(owner, pasid)
            pending.add(pasid)
            back_in_pool(pasid)
            assert returned == (pasid not in owned)
        elif action == "free":
            expect_errno(
                errno.EACCES if pasid in owned and pasid not in pending else errno.ENOENT, ids.free, owner, pasid
            )
        assert set(ids.allocated) == set(owned)
        for each in sets:
            assert each.pasids == {number for number, of in owned.items() if of is each}
        for number, ioasid in ids.allocated.items():
            assert ioasid.references == held[number] + (number not in pending)


def test_host_ioasid_ranges_and_failures_change_nothing():
    fail = FailPoints()
    ids, owner = IoasidAllocator(fail), IoasidSet("owner", quota=2)
    for minimum, maximum in ((0, 5), (7, 6), (1, 1 << 20)):
        expect_errno(errno.EINVAL, ids.allocate, owner, minimum, maximum)
    fail.fail_nth(1)
    expect_errno(errno.ENOMEM, ids.allocate, owner)
    assert (ids.allocated, owner.pasids) == ({}, set())
    assert [ids.allocate(owner, 5), ids.allocate(owner, 5)] == [5, 6]
    expect_errno(errno.ENOSPC, ids.allocate, owner)
    assert ids.free(owner, 5)
    assert ids.allocate(owner) == 1, "the quota is free again"
    with pytest.raises(ValueError, match="kvm holds no reference"):
        ids.put(ids.allocated[6], "kvm")


def test_host_ioasid_guest_names_are_unique_in_a_set():
    """S04: one to one within a set, while two sets may use the same guest PASID."""
    ids, red, blue = IoasidAllocator(FailPoints()), IoasidSet("red"), IoasidSet("blue")
    first, second, foreign = ids.allocate(red), ids.allocate(red), ids.allocate(blue)
    ids.name_for_guest(red, first, 5)
    ids.name_for_guest(blue, foreign, 5)
    expect_errno(errno.EEXIST, ids.name_for_guest, red, second, 5)
    expect_errno(errno.EACCES, ids.name_for_guest, red, foreign, 6)
    assert (ids.find_by_guest(red, 5).pasid, ids.find_by_guest(blue, 5).pasid) == (first, foreign)
    ids.name_for_guest(red, first, None)
    ids.name_for_guest(red, second, 5)
    assert ids.find_by_guest(red, 5).pasid == second
    expect_errno(errno.ENOENT, ids.find_by_guest, red, 6)


class Upstream:
    """Numbers from somewhere else, as a guest has them from its host."""

    def __init__(self, kind: str, numbers: list[int]):
        self.kind = kind
        self.numbers = numbers

    def allocate(self, minimum: int, maximum: int) -> int:
        if not self.numbers:
            raise IommuError(errno.ENOSPC, "the host has none")
        return self.numbers.pop(0)

    def free(self, pasid: int) -> None:
        self.numbers.append(pasid)


def test_host_ioasid_sources_replace_the_pool():
    """S11: a custom allocator comes before the pool; kinds do not mix while numbers are out."""
    ids, owner = IoasidAllocator(FailPoints()), IoasidSet("guest")
    vcmd, other = Upstream("vcmd", [77]), Upstream("other", [])
    own = ids.allocate(owner)
    expect_errno(errno.EAGAIN, ids.register_source, vcmd)
    ids.free(owner, own)
    ids.register_source(vcmd)
    expect_errno(errno.EEXIST, ids.register_source, vcmd)
    assert ids.allocate(owner) == 77
    expect_errno(errno.ENOSPC, ids.allocate, owner)
    expect_errno(errno.EAGAIN, ids.register_source, other)
    second = Upstream("vcmd", [78])
    ids.register_source(second)
    assert ids.allocate(owner) == 78
    ids.unregister_source(vcmd)
    expect_errno(errno.EBUSY, ids.unregister_source, second)
    assert [ids.free(owner, pasid) for pasid in (77, 78)] == [True, True]
    ids.unregister_source(second)
    assert (second.numbers, ids.allocate(owner)) == ([77, 78], 1)


def test_host_notifiers_hear_in_order_of_priority_and_once():
    """S12: processor, device, unit, rest; the first bind and the last unbind alone are events."""

    async def scenario():
        platform = await Platform.bring_up()
        heard: list[tuple[Event, str, bool]] = []

        def listener(name: str):
            def callback(event: Event, ioasid: Ioasid) -> None:
                entry = platform.iommu.state_of(platform.device).entries.get(ioasid.pasid)
                heard.append((event, name, entry is not None))

            return callback

        chain = platform.iommu.ioasids.notifiers
        for name, priority in (("last", Priority.LAST), ("vdcm", Priority.DEVICE), ("kvm", Priority.CPU)):
            chain.register(Notifier(name, priority, listener(name)))
        assert chain.names == ["auditor", "kvm", "vdcm", "iommu", "last"]
        await platform.bind()
        await platform.machine.unbind(platform.device, GUEST_PASID)
        order = [
            (Event.ALLOC, False),
            (Event.BIND, True),
            (Event.UNBIND, True),
            (Event.FREE, False),
        ]
        assert heard == [(event, name, bound) for event, bound in order for name in ("kvm", "vdcm", "last")]

    asyncio.run(scenario())


def test_host_notifier_registration_and_removal_under_way():
    fail = FailPoints()
    chain = NotifierChain(fail)
    heard: list[str] = []
    ioasid = Ioasid(1, IoasidSet("owner"))
    second = Notifier("second", Priority.DEVICE, lambda event, _: heard.append("second"))

    def first(event: Event, _: Ioasid) -> None:
        heard.append("first")
        chain.unregister(second)
        raise IommuError(errno.EIO, "the first subscriber fails")

    chain.register(Notifier("first", Priority.CPU, first))
    chain.register(second)
    expect_errno(errno.EEXIST, chain.register, second)
    third = Notifier("third", Priority.LAST, lambda event, _: heard.append("third"))
    fail.fail_nth(1, "notifier")
    expect_errno(errno.ENOMEM, chain.register, third)
    assert chain.names == ["first", "second"]
    chain.register(third)
    chain.tell(Event.FREE, ioasid)
    assert heard == ["first", "third"], "who fails stops nobody, who left hears nothing"
    assert [(event, notifier.name) for event, notifier, _ in chain.failures] == [(Event.FREE, "first")]

    async def blocking(event: Event, _: Ioasid) -> None:
        heard.append("blocked")

    with pytest.raises(TypeError, match="must not block"):
        chain.register(Notifier("blocking", Priority.LAST, cast(Any, blocking)))


def test_host_notifier_that_refuses_a_bind_unwinds_it():
    """S24: an insert that fails makes the bind fail; those who had agreed hear of its end."""

    async def scenario():
        platform = await Platform.bring_up()
        heard: list[Event] = []

        def refuse(event: Event, _: Ioasid) -> None:
            if event is Event.BIND:
                raise IommuError(errno.ENOMEM, "no room in the translation table")

        refusing = Notifier("vdcm", Priority.DEVICE, refuse)
        chain = platform.iommu.ioasids.notifiers
        chain.register(Notifier("kvm", Priority.CPU, lambda event, _: heard.append(event)))
        chain.register(refusing)
        before = await platform.state()
        with pytest.raises(IommuError, match="no room"):
            await platform.bind()
        assert heard == [Event.ALLOC, Event.BIND, Event.UNBIND, Event.FREE]
        assert await platform.state() == before
        assert await fault_of(platform.endpoint(), HOST_PASID) == NOT_PRESENT_PASID
        chain.unregister(refusing)
        await platform.bind()
        assert await fault_of(platform.endpoint(), HOST_PASID) is None

    asyncio.run(scenario())
