"""The invalidation queue: wrap, both widths, many submitters, errors of a descriptor, silence."""

import asyncio
import errno
import random

import pytest

from nestwalk_sim.host.audit import Auditor
from nestwalk_sim.host.errors import IommuError
from nestwalk_sim.host.vtd.descriptors import (
    ContextCacheInvalidate,
    Descriptor,
    IotlbInvalidate,
    PasidCacheInvalidate,
    PasidIotlbInvalidate,
    Words,
)
from nestwalk_sim.host.vtd.qi import InvalidationQueue
from nestwalk_sim.host.vtd.regs import Registers
from nestwalk_sim.host.vtd.unit import SCALABLE_MODE, Iommu
from nestwalk_sim.model_unit import ModelTransport
from sim.tests.host.bringup import MEMORY

WAIT = 5


class Malformed:
    """A descriptor that a unit has to refuse."""

    def __init__(self, low: int, reason: str):
        self._low = low
        self.reason = reason

    def words(self) -> Words:
        return self._low, 0, 0, 0


BAD_TYPE = Malformed(0xF, "descriptor type")
BAD_GRANULARITY = Malformed(2, "descriptor type")
RESERVED = Malformed(7 | 3 << 4 | 1 << 60, "reserved field")


def packed(descriptor: Descriptor) -> int:
    """A descriptor as one integer."""
    return sum(word << 64 * place for place, word in enumerate(descriptor.words()))


def without_waits(executed: list[int]) -> list[int]:
    return [descriptor for descriptor in executed if descriptor & 0xF != WAIT]


async def enabled(size_code: int = 0) -> tuple[ModelTransport, Iommu, InvalidationQueue]:
    """A unit in scalable mode with a queue of 128 << ``size_code`` descriptors, in place of the driver's own."""
    transport = ModelTransport(MEMORY)
    firmware = Registers(transport)  # the driver under test has no part in the mode
    await firmware.write("RTADDR", TTM=SCALABLE_MODE)
    await firmware.write("GCMD", SRTP=1)
    iommu = await Iommu.create(transport, 0, MEMORY)
    queue = await InvalidationQueue.create(transport, iommu.regs, iommu.pages, size_code)
    await queue.enable(iommu.log.trace("test", "R1"))
    return transport, iommu, queue


def test_host_queue_wraps_with_batches_of_any_size(rng: random.Random):
    async def scenario():
        transport, iommu, queue = await enabled()
        trace = iommu.log.trace("test", "R6")
        sent: list[int] = []
        while len(sent) < 10 * queue.slots:
            size = rng.choice([1, 2, 3, queue.slots - 2])
            batch = [PasidIotlbInvalidate(rng.randrange(1 << 16), len(sent) + place) for place in range(size)]
            await queue.submit_sync(batch, trace)
            sent += [packed(descriptor) for descriptor in batch]
        assert without_waits(transport.unit.queue.executed) == sent

    asyncio.run(scenario())


def test_host_queue_of_128_bit_descriptors():
    async def scenario():
        transport = ModelTransport(MEMORY)
        iommu = await Iommu.create(transport, 0, MEMORY)
        queue = await InvalidationQueue.create(transport, iommu.regs, iommu.pages, wide=False)
        assert queue.slots == 256
        trace = iommu.log.trace("test", "R1")
        await queue.enable(trace)
        flush = [ContextCacheInvalidate(), IotlbInvalidate(3), IotlbInvalidate(4, 0x1234_5000, 0)]
        for _ in range(100):
            await queue.submit_sync(flush, trace)
        assert without_waits(transport.unit.queue.executed) == [packed(descriptor) for descriptor in flush] * 100

    asyncio.run(scenario())


def test_host_queue_refuses_batches_that_cannot_fit():
    async def scenario():
        transport, iommu, queue = await enabled()
        with pytest.raises(IommuError) as refused:
            await queue.submit_sync([IotlbInvalidate()] * (queue.slots - 1), iommu.log.trace("test", "R6"))
        assert refused.value.errno == errno.E2BIG
        assert transport.unit.queue.executed == []

    asyncio.run(scenario())


@pytest.mark.parametrize("bad", [BAD_TYPE, BAD_GRANULARITY, RESERVED], ids=lambda bad: f"{bad.words()[0]:#x}")
@pytest.mark.parametrize("place", [0, 1, 2])
def test_host_queue_error_recovery(bad: Malformed, place: int):
    """R13: the submitter gets EINVAL, its other descriptors are executed, and the queue goes on."""

    async def scenario():
        transport, iommu, queue = await enabled()
        trace = iommu.log.trace("test", "R13")
        good = [PasidCacheInvalidate(2, 3), PasidIotlbInvalidate(2, 3)]
        batch: list[Descriptor] = [*good[:place], bad, *good[place:]]
        with pytest.raises(IommuError) as refused:
            await queue.submit_sync(batch, trace)
        assert refused.value.errno == errno.EINVAL
        assert bad.reason in str(refused.value)
        assert without_waits(transport.unit.queue.executed) == [packed(descriptor) for descriptor in good]
        assert not (await iommu.regs.read("FSTS"))["IQE"]
        await queue.submit_sync(good, trace)
        assert len(without_waits(transport.unit.queue.executed)) == 4

    asyncio.run(scenario())


def test_host_queue_error_hits_its_submitter_only():
    async def scenario():
        transport, iommu, queue = await enabled()
        trace = iommu.log.trace("test", "R13")
        batches: list[list[Descriptor]] = [
            [PasidCacheInvalidate(number)] if number % 5 else [PasidCacheInvalidate(number), BAD_TYPE]
            for number in range(1, 41)
        ]
        outcomes = await asyncio.gather(*(queue.submit_sync(batch, trace) for batch in batches), return_exceptions=True)
        failed = [number for number, outcome in enumerate(outcomes, 1) if isinstance(outcome, IommuError)]
        assert failed == [number for number in range(1, 41) if number % 5 == 0]
        assert sorted(without_waits(transport.unit.queue.executed)) == sorted(packed(batch[0]) for batch in batches)

    asyncio.run(scenario())


def test_host_queue_error_without_a_descriptor_is_fatal(monkeypatch: pytest.MonkeyPatch, auditors: list[Auditor]):
    async def scenario():
        transport, iommu, queue = await enabled()
        trace = iommu.log.trace("test", "R13")
        # An odd tail in 256-bit mode stops the queue for a reason that no descriptor can mend (IQEI 6).
        write = transport.write64
        monkeypatch.setattr(transport, "write64", lambda offset, value: write(offset, value | 1 << 4))
        with pytest.raises(IommuError) as refused:
            await queue.submit_sync([IotlbInvalidate()], trace)
        assert refused.value.errno == errno.EIO
        assert "IQEI 6" in str(refused.value)
        assert {problem[:2] for problem in await auditors.pop().audit()} == {"I6"}

    asyncio.run(scenario())


def test_host_queue_gives_up_on_a_silent_unit(monkeypatch: pytest.MonkeyPatch, auditors: list[Auditor]):
    async def scenario():
        transport, iommu, queue = await enabled()
        monkeypatch.setattr(transport.unit.queue, "run", lambda: None)
        with pytest.raises(IommuError) as refused:
            await queue.submit_sync([IotlbInvalidate()], iommu.log.trace("test", "R6"))
        assert refused.value.errno == errno.ETIMEDOUT
        assert {problem[:2] for problem in await auditors.pop().audit()} == {"I6"}

    asyncio.run(scenario())


def test_host_commands_give_up_on_a_silent_unit(monkeypatch: pytest.MonkeyPatch):
    async def scenario():
        transport = ModelTransport(MEMORY)
        iommu = await Iommu.create(transport, 0, MEMORY)
        monkeypatch.setattr(transport.unit, "_command", lambda written: None)
        with pytest.raises(IommuError) as refused:
            await iommu.enable()
        assert refused.value.errno == errno.ETIMEDOUT
        assert "QIES" in str(refused.value)

    asyncio.run(scenario())
