"""Auxiliary domains and mediated devices: the attach matrix, the stolen PASID, and the leaks that the API rules out."""

import asyncio
import errno
from random import Random
from typing import Any, cast

import pytest

from nestwalk_sim.host.audit import Auditor
from nestwalk_sim.host.aux_domain import AuxDomain, Mdev, attach_mdev, detach_mdev
from nestwalk_sim.host.device import Device
from nestwalk_sim.host.errors import IommuError
from nestwalk_sim.host.guest import READ_WRITE
from nestwalk_sim.host.ioasid import IoasidSet
from sim.tests.host.bench import IOVA, PAGE, Bench, expect_errno
from sim.tests.host.bringup import fault_of


async def bench_with_domains(number: int) -> tuple[Bench, list[Device], list[AuxDomain], list[int]]:
    """Two parents, and domains that map `IOVA` to a page each."""
    bench = await Bench.bring_up()
    parents = [
        await bench.add(Device(rid, f"parent {rid:04x}", ats=True, aux_domains=True)) for rid in (0x0400, 0x0500)
    ]
    domains, pages = [await bench.new_domain() for _ in range(number)], await bench.pages(number)
    for domain, page in zip(domains, pages, strict=True):
        await domain.map(IOVA, page, PAGE, READ_WRITE)
    return bench, parents, [AuxDomain(domain) for domain in domains], pages


def expect_refused(number: int, aux: AuxDomain, mdev: Mdev) -> None:
    with pytest.raises(IommuError) as refused:
        attach_mdev(aux, mdev)
    assert refused.value.errno == number


def test_host_aux_attach_matrix(rng: Random, auditors: list[Auditor]):
    """S16 (and section 5, row 25): three domains on two parents at random; DMA passes exactly where it is attached, and
    a domain has one PASID on all parents."""

    async def scenario():
        bench, parents, domains, pages = await bench_with_domains(3)
        auditors[0].also += [aux.problems for aux in domains]
        counts = {(which, parent): 0 for which in range(3) for parent in parents}
        for _ in range(60):
            which, parent = rng.randrange(3), rng.choice(parents)
            aux = domains[which]
            if rng.random() < 0.5:
                await aux.attach(parent)
                counts[which, parent] += 1
            else:
                assert await aux.detach(parent) == (counts[which, parent] > 0)
                counts[which, parent] = max(0, counts[which, parent] - 1)
            assert await auditors[0].audit() == []
            for (number, device), users in counts.items():
                pasid = domains[number].pasid
                assert (pasid is not None) == any(counts[number, each] for each in parents)
                if pasid is not None:
                    endpoint = bench.endpoint_of(device)
                    assert (await fault_of(endpoint, pasid, IOVA) is None) == (users > 0)
                    if users:
                        await endpoint.write(IOVA, bytes([number] * 8), pasid)
                        assert bench.transport.memory.read(pages[number], 8) == bytes([number] * 8)

    asyncio.run(scenario())


def test_historical_aux_pasid_is_forgotten_with_the_last_parent():
    """Section 5, row 26: somebody steals the freed PASID; the next attach takes another."""

    async def scenario():
        bench, (parent, _), (aux,), (page,) = await bench_with_domains(1)
        await aux.attach(parent)
        first = aux.pasid_on(parent)
        await aux.detach(parent)
        assert bench.iommu.ioasids.allocate(IoasidSet("thief")) == first
        await aux.attach(parent)
        assert aux.pasid_on(parent) != first
        assert await fault_of(bench.endpoint_of(parent), first, IOVA) is not None
        await bench.endpoint_of(parent).write(IOVA, b"mine", aux.pasid)
        assert bench.transport.memory.read(page, 4) == b"mine"

    asyncio.run(scenario())


def test_host_aux_refuses():
    """EPERM without the feature, ENODEV without a PASID; nothing is sent or left."""

    async def scenario():
        bench, (parent, _), (aux,), _ = await bench_with_domains(1)
        commands = len(bench.iommu.log.entries)
        await expect_errno(errno.EPERM, aux.attach(bench.device))
        aux.domain.owner.quota = 0
        await expect_errno(errno.ENODEV, aux.attach(parent))
        assert not await aux.detach(parent)
        assert (len(bench.iommu.log.entries), aux.pasid) == (commands, None)

    asyncio.run(scenario())


def test_host_mdev_leaks_are_impossible_and_noticed(auditors: list[Auditor]):
    """A8, S17: leak A (the group's domain is cleared from outside) and leak B (set without attachment) cannot be
    written; forced past the API, the auditor names both."""

    async def scenario():
        bench, (parent, second), (aux, other), _ = await bench_with_domains(2)
        auditors[0].also += [aux.problems, other.problems]
        stray = Mdev("stray", parent, 1)
        expect_refused(errno.ENODEV, aux, stray)
        await aux.attach(parent)
        await other.attach(parent)
        mdev, wrong = Mdev("mdev", parent, aux.pasid_on(parent)), Mdev("wrong", parent, other.pasid_on(parent))
        elsewhere = Mdev("elsewhere", second, aux.pasid_on(parent))
        auditors[0].also += [mdev.problems, wrong.problems]
        commands = len(bench.iommu.log.entries)
        expect_refused(errno.EINVAL, aux, wrong)
        expect_refused(errno.ENODEV, aux, elsewhere)
        attach_mdev(aux, mdev)
        expect_refused(errno.EBUSY, aux, mdev)
        with pytest.raises(IommuError, match="attached"):
            mdev.destroy()
        assert len(bench.iommu.log.entries) == commands, "only auxiliary attachments reach the unit"
        await expect_errno(errno.EBUSY, aux.detach(parent))
        for value in (None, other):
            with pytest.raises(AttributeError):
                cast(Any, mdev).domain = value
        assert await auditors[0].audit() == []
        mdev._domain = None
        wrong._domain = other
        assert {problem.split(" is ")[0].split(" has ")[0] for problem in await auditors[0].audit()} == {
            "I8: mdev",
            "I8: the group of wrong",
        }
        mdev._domain, wrong._domain = aux, None
        assert detach_mdev(mdev)
        assert not detach_mdev(mdev)
        mdev.destroy()
        assert await aux.detach(parent)

    asyncio.run(scenario())
