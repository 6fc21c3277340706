# amaranth: UnusedElaboratable=no
"""The register file as a driver sees it: global commands, queue registers, fault log and events."""

import pytest

from nestwalk.config import PRESETS
from nestwalk.counters.counters import Counters
from nestwalk.counters.events import EVENTS
from nestwalk.formats.fault import FaultReason, FaultRecord
from nestwalk.invalidation.command import Scope
from nestwalk.registers.capability import capability, extended_capability, implementation_capability, version
from nestwalk.registers.file import RegisterFile
from nestwalk.registers.table import FAULT_RECORD_OFFSET, REGISTERS
from rtl.tests.registers.csr import access_read, access_write, read, write
from rtl.tests.simulation import send, simulate

CFG = PRESETS["DEFAULT"]


async def until(ctx, condition):
    """Wait until ``condition`` holds; unlike ``tick().until`` this may be abandoned at the end of a simulation."""
    while not ctx.get(condition):
        await ctx.tick()


class Unit:
    """Plays what surrounds the register file, with random delays, and counts what it was asked."""

    def __init__(self, dut, rng):
        self.dut, self.rng = dut, rng
        self.invalidations = 0
        self.messages = []

    async def _delay(self, ctx):
        for _ in range(self.rng.randrange(12)):
            await ctx.tick()

    async def invalidate(self, ctx):
        while True:
            port = self.dut.invalidations
            await until(ctx, port.valid)
            payload = ctx.get(port.payload)
            await self._delay(ctx)
            assert ctx.get(port.valid), "held until it is done"
            ctx.set(port.ready, 1)
            await ctx.tick()
            ctx.set(port.ready, 0)
            # Requests that were accepted before are in flight for a while.
            ctx.set(self.dut.drained, 0)
            self.invalidations += 1
            assert (payload.context, payload.pasid_cache, payload.iotlb, payload.scope) == (1, 1, 1, Scope.GLOBAL)
            await self._delay(ctx)
            ctx.set(self.dut.drained, 1)
            await ctx.tick()

    async def follow_enable(self, ctx):
        while True:
            enable = ctx.get(self.dut.queue.enable)
            await self._delay(ctx)
            ctx.set(self.dut.queue.enabled, enable)
            await ctx.tick()

    async def memory(self, ctx):
        request, done = self.dut.event_write.request, self.dut.event_write.done
        while True:
            await until(ctx, request.valid)
            payload = ctx.get(request.payload)
            ctx.set(request.ready, 1)
            await ctx.tick()
            ctx.set(request.ready, 0)
            for _ in range(20):
                await ctx.tick()
            self.messages.append((payload.address, payload.data & 0xFFFF_FFFF))
            ctx.set(done.valid, 1)
            await ctx.tick()
            ctx.set(done.valid, 0)

    def run(self, testbench):
        simulate(
            self.dut,
            testbench,
            background=(self.invalidate, self.follow_enable, self.memory),
            limit=200_000,
        )


async def poll(ctx, csr, name: str, field: str, value: int):
    """Read a register until a field has a value."""
    for _ in range(100):
        if (await read(ctx, csr, name))[field] == value:
            return
    raise AssertionError(f"{name}.{field} does not become {value}")


@pytest.mark.parametrize("preset", ["DEFAULT", "TINY"])
def test_capabilities_are_read_only(preset, rng):
    cfg = PRESETS[preset]
    dut = RegisterFile(cfg)
    wanted = {"VER": version(cfg), "CAP": capability(cfg), "ECAP": extended_capability(cfg)}
    wanted["IMPCAP"] = implementation_capability(cfg)
    values = {}

    async def testbench(ctx):
        for name in wanted:
            await access_write(ctx, dut.csr, REGISTERS[name].offset, rng.getrandbits(64), 0xFF)
            values[name] = REGISTERS[name].pack(await read(ctx, dut.csr, name))

    simulate(dut, testbench)
    assert values == wanted


def test_global_commands_in_random_order(rng):
    """Each command shows in GSTS when it has taken effect, and the root pointer is that of the last SRTP."""
    dut = RegisterFile(CFG)
    unit = Unit(dut, rng)
    csr = dut.csr
    counts = {"SRTP": 0, "TE": 0, "QIE": 0}

    async def testbench(ctx):
        level = {"TE": 0, "QIE": 0}
        latched = (0, 0)
        invalidations = 0
        for _ in range(80):
            mode, table = rng.randrange(4), rng.getrandbits(52)
            await write(ctx, csr, "RTADDR", RTA=table, TTM=mode)
            match rng.choice(["SRTP", "TE", "QIE"]):
                case "SRTP":
                    await write(ctx, csr, "GCMD", SRTP=1, **level)
                    latched = (mode, table % (1 << CFG.page_bits))
                    invalidations += 1
                    counts["SRTP"] += 1
                    await poll(ctx, csr, "GSTS", "RTPS", 1)
                case "TE":
                    level["TE"] ^= 1
                    await write(ctx, csr, "GCMD", **level)
                    invalidations += 1
                    await poll(ctx, csr, "GSTS", "TES", level["TE"])
                    assert not level["TE"] or ctx.get(dut.drained)
                    counts["TE"] += 1
                case "QIE":
                    level["QIE"] ^= 1
                    await write(ctx, csr, "GCMD", **level)
                    await poll(ctx, csr, "GSTS", "QIES", level["QIE"])
                    assert ctx.get(dut.queue.enable) == level["QIE"]
                    counts["QIE"] += 1
            status = await read(ctx, csr, "GSTS")
            assert (status["TES"], status["QIES"], status["RTPS"]) == (level["TE"], level["QIE"], counts["SRTP"] > 0)
            pointer = ctx.get(dut.root_pointer)
            assert (pointer.enabled, pointer.mode, pointer.root_table) == (level["TE"], *latched)
            assert ctx.get(dut.queue.mode) == latched[0]
            assert unit.invalidations == invalidations

    unit.run(testbench)
    assert min(counts.values()) > 5


def test_root_pointer_status_falls_with_the_command():
    """RTPS is low from the write of SRTP until all caches have forgotten the old tables."""
    dut = RegisterFile(CFG)
    seen = []

    async def testbench(ctx):
        ctx.set(dut.drained, 1)
        for _ in range(2):
            await write(ctx, dut.csr, "GCMD", SRTP=1)
            for _ in range(3):
                seen.append((await read(ctx, dut.csr, "GSTS"))["RTPS"])
            ctx.set(dut.invalidations.ready, 1)
            await ctx.tick()
            ctx.set(dut.invalidations.ready, 0)
            seen.append((await read(ctx, dut.csr, "GSTS"))["RTPS"])

    simulate(dut, testbench)
    assert seen == [0, 0, 0, 1] * 2


def test_root_pointer_status_falls_behind_an_unfinished_command():
    """A command given too early waits, and does not look finished."""
    dut = RegisterFile(CFG)
    seen = []

    async def command(ctx, **fields):
        await write(ctx, dut.csr, "GCMD", **fields)
        ctx.set(dut.invalidations.ready, 1)
        await ctx.tick().repeat(3)
        ctx.set(dut.invalidations.ready, 0)
        seen.append((await read(ctx, dut.csr, "GSTS"))["RTPS"])

    async def testbench(ctx):
        await command(ctx, SRTP=1)
        await command(ctx, TE=1)  # never drained
        await command(ctx, TE=1, SRTP=1)

    simulate(dut, testbench)
    assert seen == [1, 1, 0]


def test_queue_registers_and_errors(rng):
    dut = RegisterFile(CFG)
    unit = Unit(dut, rng)
    csr = dut.csr

    async def pulse(ctx, signal):
        ctx.set(signal, 1)
        await ctx.tick()
        ctx.set(signal, 0)

    async def testbench(ctx):
        queue = dut.queue
        await write(ctx, csr, "IQT", QT=0x123)
        await write(ctx, csr, "IQA", IQA=0xABCDE, DW=1, QS=5)
        ctx.set(queue.head, 0x7FFE)
        assert (ctx.get(queue.tail), ctx.get(queue.base), ctx.get(queue.size)) == (0x123, 0xABCDE, 5)
        assert ctx.get(queue.wide)
        assert (await read(ctx, csr, "IQH"))["QH"] == 0x7FFE
        await write(ctx, csr, "FEDATA", IMD=0x31)
        await write(ctx, csr, "FEADDR", MA=0xFEE0_0000 >> 2)
        await write(ctx, csr, "FECTL", IM=0)
        await write(ctx, csr, "IEDATA", IMD=0x32)
        await write(ctx, csr, "IEADDR", MA=0xFEE0_1000 >> 2)
        await write(ctx, csr, "IEUADDR", MUA=0x5)
        await write(ctx, csr, "IECTL", IM=0)

        ctx.set(queue.error_code, 4)
        await pulse(ctx, queue.error)
        assert ctx.get(queue.stopped)
        ctx.set(queue.error_code, 0)
        # The status is read only after its message has arrived.
        assert (await read(ctx, csr, "FSTS"))["IQE"] == 1
        assert unit.messages == [(0xFEE0_0000, 0x31)]
        assert ctx.get(dut.irq_fault)
        assert (await read(ctx, csr, "IQERCD"))["IQEI"] == 4
        await write(ctx, csr, "FSTS", IQE=1)
        assert not ctx.get(queue.stopped)
        assert not ctx.get(dut.irq_fault)

        await pulse(ctx, queue.wait_complete)
        assert (await read(ctx, csr, "ICS"))["IWC"] == 1
        assert unit.messages[1:] == [(0x5_FEE0_1000, 0x32)]
        await pulse(ctx, queue.wait_complete)
        assert (await read(ctx, csr, "IECTL"))["IP"] == 0
        assert len(unit.messages) == 2, "no message while IWC is still set"
        await write(ctx, csr, "ICS", IWC=1)
        assert not ctx.get(dut.irq_invalidation)
        await write(ctx, csr, "IECTL", IM=1)
        await pulse(ctx, queue.wait_complete)
        assert (await read(ctx, csr, "IECTL"))["IP"] == 1
        await write(ctx, csr, "IECTL", IM=0)
        await poll(ctx, csr, "IECTL", "IP", 0)
        assert unit.messages[2:] == [(0x5_FEE0_1000, 0x32)]

    unit.run(testbench)
    assert len(unit.messages) == 3


def test_faults_are_drained_the_way_a_driver_does(rng):
    """More faults than records; the records are read, cleared through byte offset 12, and logging goes on after."""
    dut = RegisterFile(CFG)
    unit = Unit(dut, rng)
    csr = dut.csr
    drained = []
    sent = [rng.getrandbits(16) for _ in range(3 * CFG.fault_records)]

    async def drain(ctx):
        status = await read(ctx, csr, "FSTS")
        index = status["FRI"]
        while True:
            offset = FAULT_RECORD_OFFSET + 16 * index
            high = await access_read(ctx, csr, offset + 8)
            record = FaultRecord.from_bits(high << 64 | await access_read(ctx, csr, offset))
            if not record.f:
                break
            drained.append((record.sid, record.fi, record.fr))
            await access_write(ctx, csr, offset + 8, 0x8000_0000 << 32, 0xF0)
            index = (index + 1) % CFG.fault_records
        await write(ctx, csr, "FSTS", PFO=1)
        return status

    async def testbench(ctx):
        await write(ctx, csr, "FEADDR", MA=0xFEE0_0000 >> 2)
        await write(ctx, csr, "FECTL", IM=0)
        # While translation is off each fault goes to record 0.
        await write(ctx, csr, "GCMD", TE=1)
        await poll(ctx, csr, "GSTS", "TES", 1)
        for batch in range(3):
            count = CFG.fault_records + (batch == 1)
            for source_id in sent[batch * CFG.fault_records :][:count]:
                fault = {"source_id": source_id, "page": source_id, "access": 1, "reason": FaultReason.SSS_2}
                await send(ctx, dut.faults, fault)
                if source_id == sent[batch * CFG.fault_records]:
                    await ctx.tick().repeat(3)
                    assert ctx.get(dut.irq_fault)
            status = await drain(ctx)
            assert (status["PPF"], status["PFO"]) == (1, batch == 1)
            assert len(unit.messages) == batch + 1, "one message for each time the status was quiet before"
            status = await read(ctx, csr, "FSTS")
            assert (status["PPF"], status["PFO"]) == (0, 0)
            assert not ctx.get(dut.irq_fault)
        await overflow_alone_keeps_others_quiet(ctx)

    async def overflow_alone_keeps_others_quiet(ctx):
        for _ in range(CFG.fault_records + 1):
            await send(ctx, dut.faults, {"reason": FaultReason.SSS_2})
        for index in range(CFG.fault_records):
            await access_write(ctx, csr, FAULT_RECORD_OFFSET + 16 * index + 8, 0x8000_0000 << 32, 0xF0)
        ctx.set(dut.queue.error, 1)
        await ctx.tick()
        ctx.set(dut.queue.error, 0)
        status = await read(ctx, csr, "FSTS")
        assert (status["PPF"], status["PFO"], status["IQE"]) == (0, 1, 1)
        assert len(unit.messages) == 4, "the message of the storm, and none for the queue"

    unit.run(testbench)
    assert drained == [(source_id, source_id, FaultReason.SSS_2) for source_id in sent]


def test_what_is_shared_out_is_as_software_says(rng):
    dut = RegisterFile(CFG)
    seen = []

    async def testbench(ctx):
        sharing = dut.sharing
        seen.append((ctx.get(sharing.prefetch), ctx.get(sharing.walk_limit), ctx.get(sharing.ways.as_value())))
        for _ in range(10):
            prefetch, limit, ways = rng.randrange(2), rng.randrange(32), [rng.randrange(16) for _ in range(4)]
            await write(ctx, dut.csr, "IMPCTL", PFE=prefetch, WL=limit)
            await write(ctx, dut.csr, "CPW", **{f"W{number}": mask for number, mask in enumerate(ways)})
            assert (ctx.get(sharing.prefetch), ctx.get(sharing.walk_limit)) == (prefetch, limit)
            assert [ctx.get(sharing.ways[number]) for number in range(4)] == ways
            assert (await read(ctx, dut.csr, "CPW"))["W2"] == ways[2]

    simulate(dut, testbench)
    assert seen == [(1, 0, 0)], "after a reset nothing is limited"


def test_event_counters_are_read_in_any_order(rng):
    dut = RegisterFile(CFG)
    counts = [rng.randrange(200) for _ in EVENTS]
    order = rng.sample(range(len(EVENTS)), len(EVENTS))
    found = {}

    async def testbench(ctx):
        for cycle in range(3 * max(counts)):
            due = (cycle % 3 == 0 and cycle // 3 < count for count in counts)
            ctx.set(dut.counted.as_value(), sum(pulse << place for place, pulse in enumerate(due)))
            await ctx.tick()
        await ctx.tick().repeat(Counters.ROUND + 16)
        for index in order:
            found[index] = await access_read(ctx, dut.csr, REGISTERS["EVCNT"].offset + 8 * index)
        assert await access_read(ctx, dut.csr, REGISTERS["EVCNT"].offset + 8 * len(EVENTS)) == 0

    simulate(dut, testbench)
    assert [found[index] for index in range(len(EVENTS))] == counts
