"""A PASID's end in the wrong order: freed before unbind, its guest killed (S13, S14)."""

import asyncio
import errno
from itertools import permutations

import pytest

from nestwalk_sim.host.device import Device
from nestwalk_sim.host.errors import IommuError
from nestwalk_sim.host.ioasid import OWNER, IoasidSet, IoasidState
from nestwalk_sim.host.vtd.svm import HOLDER
from sim.tests.host.bringup import GUEST_PASID, HOST_PASID, Platform, fault_of

NOT_PRESENT_PASID = 0x59

EVENTS = ("bind", "dma", "free", "unbind")


@pytest.mark.parametrize("killed", [False, True], ids=["", "then killed"])
@pytest.mark.parametrize("order", list(permutations(EVENTS)), ids="-".join)
def test_host_interleavings_of_bind_dma_free_and_unbind(order: tuple[str, ...], killed: bool):
    """A5 and S13: whatever the order, DMA works exactly while bound and not freed, and the end is the same."""

    async def scenario():
        platform = await Platform.bring_up()
        machine, endpoint = platform.machine, platform.endpoint()
        ids = platform.iommu.ioasids
        machine.host_pasids[GUEST_PASID] = ids.allocate(machine.owner, HOST_PASID)
        bound = freed = False
        for event in order:
            if event == "bind" and freed and GUEST_PASID in machine.host_pasids:
                with pytest.raises(IommuError) as refused:
                    await platform.bind()
                assert refused.value.errno == errno.ENOENT
            elif event == "bind":
                await platform.bind()
                bound, freed = True, False
            elif event == "free":
                await machine.free(GUEST_PASID)
                freed = True
                if bound:
                    pending = ids.allocated[HOST_PASID]
                    assert (pending.state, pending.holders[OWNER]) == (IoasidState.FREE_PENDING, 0)
                    assert pending.holders[HOLDER] == 1
                    assert ids.allocate(IoasidSet("next"), HOST_PASID, HOST_PASID + 1) == HOST_PASID + 1
                assert not bound or not ids.free(machine.owner, HOST_PASID), "idempotent"
            elif event == "unbind":
                was_bound = await machine.unbind(platform.device, GUEST_PASID)
                assert was_bound == bound
                freed = freed or GUEST_PASID not in machine.host_pasids
                bound = False
            else:
                reason = await fault_of(endpoint, HOST_PASID)
                assert (reason is None) == (bound and not freed)
                recorded = await platform.iommu.faults.drain()
                assert len(recorded) == (reason is not None and not bound), "a defunct PASID fills no fault log"
        if killed:
            await machine.kill()
        if not bound or killed:
            assert HOST_PASID not in ids.allocated
            entry = await platform.iommu.state_of(platform.device).table.read(HOST_PASID)
            assert not any(entry.words()[1:])
            assert not entry.fault_processing_disable

    asyncio.run(scenario())


def test_host_guest_death_takes_everything_and_harms_nobody():
    """S14: no unbind comes; entries, PASIDs, domain identifiers and pages go, the other guest stays."""

    async def scenario():
        platform = await Platform.bring_up()
        iommu = platform.iommu
        other = await type(platform.machine).create(iommu, "other", 0x4000_0000, 16)
        process = await other.guest.spawn(GUEST_PASID)
        await process.map(0x12_3456_7000)
        survivor = await other.bind(platform.device, process, minimum=HOST_PASID)
        network = Device(0x0310, "network card")
        await iommu.add_device(network)
        await other.domain.attach(network)
        await other.domain.detach(network)
        pages, identifiers = set(iommu.pages.allocated), set(iommu.domain_ids.used)
        doomed = await type(platform.machine).create(iommu, "doomed", 0x4000_0000, 16)
        victim = await doomed.guest.spawn(GUEST_PASID)
        await victim.map(0x12_3456_7000)
        pasid = await doomed.bind(platform.device, victim, minimum=HOST_PASID)
        await doomed.domain.attach(network)
        endpoint = platform.endpoint()
        assert [await fault_of(endpoint, number) for number in (pasid, survivor)] == [None, None]
        await doomed.free(GUEST_PASID)
        await doomed.kill()
        assert await fault_of(endpoint, pasid) == NOT_PRESENT_PASID
        assert await fault_of(endpoint, survivor) is None
        assert set(iommu.pages.allocated) == pages
        assert (iommu.domain_ids.used, set(iommu.ioasids.allocated)) == (identifiers, {survivor})
        with pytest.raises(IommuError) as refused:
            iommu.ioasids.allocate(doomed.owner)
        assert refused.value.errno == errno.ENOENT

    asyncio.run(scenario())
