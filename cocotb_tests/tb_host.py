"""The host stack drives the unit by registers, tables in memory and the invalidation queue alone."""

import errno
import os
import random
from typing import cast

import cocotb
import pytest

from nestwalk.config import PRESETS
from nestwalk_sim.demo.engines import story_in_simulation
from nestwalk_sim.demo.stage import Machine
from nestwalk_sim.host.device import Device
from nestwalk_sim.host.endpoint import Endpoint
from nestwalk_sim.host.errors import IommuError
from nestwalk_sim.host.page_requester import PageRequester
from nestwalk_sim.host.vtd import descriptors
from nestwalk_sim.host.vtd.qi import InvalidationQueue
from nestwalk_sim.host.vtd.unit import Iommu
from nestwalk_sim.rtl.transport import BenchTransport
from nestwalk_sim.rtl.unit import Bench
from sim.tests.host.bringup import MEMORY
from sim.tests.host.random_life import Population, live

CONFIG = PRESETS[os.environ.get("NESTWALK_PRESET", "DEFAULT")]
STEPS = 600


async def reset(dut) -> Bench:
    bench = Bench(dut)
    await bench.reset()
    return bench


@cocotb.test()
async def story_of_two_guests(dut):
    report = await story_in_simulation(await reset(dut), CONFIG)
    assert [verdict.statement for verdict in report.verdicts if not verdict.holds] == []
    assert [transaction.problem for transaction in report.transactions if transaction.problem] == []
    assert report.holds
    assert {record.reason for record in report.faults} == {0x51, 0x59, 0x71, 0x79, 0x85}


@cocotb.test()
@cocotb.parametrize(forgotten=[descriptors.PasidIotlbInvalidate, descriptors.IotlbInvalidate])
async def story_fails_without_an_invalidation(dut, forgotten):
    """The unit does cache, and the story sees a driver that forgets to flush."""
    write_slot = InvalidationQueue._write_slot

    async def forgetful(queue: InvalidationQueue, slot: int, descriptor: descriptors.Descriptor) -> None:
        await write_slot(queue, slot, descriptors.Wait() if isinstance(descriptor, forgotten) else descriptor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InvalidationQueue, "_write_slot", forgetful)
        report = await story_in_simulation(await reset(dut), CONFIG)
    assert report.agree < len(report.transactions)
    assert not report.holds


@cocotb.test()
async def queue_recovers_from_a_refused_descriptor(dut):
    """R13, with the queue wrapping several times."""
    transport = BenchTransport(await reset(dut), MEMORY)
    iommu = await Iommu.create(transport, 0, MEMORY)
    await iommu.enable()
    trace = iommu.log.trace("test", "R13")
    good = [descriptors.PasidCacheInvalidate(2, 3), descriptors.PasidIotlbInvalidate(2, 3, 0x5000)]
    bad = descriptors.PasidIotlbInvalidate(0, 1 << 21)  # spills into reserved bits
    for place in range(3 * iommu.queue.slots // 8):
        await iommu.queue.submit_sync([*good, descriptors.Wait(fence=True)], trace)
        batch = [*good]
        batch.insert(place % 3, bad)
        with pytest.raises(IommuError) as refused:
            await iommu.queue.submit_sync(batch, trace)
        assert refused.value.errno == errno.EINVAL
        assert "reserved field" in str(refused.value)
    assert not (await iommu.regs.read("FSTS"))["IQE"]


@cocotb.test()
async def random_life(dut):
    population = Population(asking=True, ats=True)
    transport = cast(Machine, BenchTransport(await reset(dut), population.memory))
    rng = random.Random(f"{os.environ['NESTWALK_SEED']} random_life")

    def dma(device: Device, iommu: Iommu) -> Endpoint:
        requester = PageRequester(device, transport, iommu.page_requests.service)
        return Endpoint(device, transport, iommu.pages.memory, requester=requester)

    counts = await live(transport, rng, STEPS, population, dma)
    assert min(counts["granted"], counts["blocked"], counts["bound"], counts["faulted in"]) > 3, counts
