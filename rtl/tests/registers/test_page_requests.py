"""The page request queue's registers as a driver sees them, and what the queue may do to them (§1.13, §7.4)."""

import pytest

from nestwalk.config import PRESETS
from nestwalk.registers.file import RegisterFile
from nestwalk.registers.table import REGISTERS
from rtl.tests.registers.csr import access_read, access_write, read, write
from rtl.tests.registers.test_file import Unit, poll
from rtl.tests.simulation import simulate

CFG = PRESETS["DEFAULT"]
ADDRESS = 0x5_FEE0_2000


class Queue:
    """Plays the queue: announces in the first cycle in which it may."""

    def __init__(self, dut):
        self.control = dut.page_requests
        self.held = 0

    async def _pulse(self, ctx, signal):
        while ctx.get(self.control.hold):
            self.held += 1
            await ctx.tick()
        ctx.set(signal, 1)
        await ctx.tick()
        ctx.set(signal, 0)

    async def queue(self, ctx):
        ctx.set(self.control.next_tail, ctx.get(self.control.tail) + 1)
        await self._pulse(ctx, self.control.queued)

    async def overflow(self, ctx):
        await self._pulse(ctx, self.control.overflows)


async def program_event(ctx, csr, *, mask: int):
    await write(ctx, csr, "PEDATA", IMD=0x41)
    await write(ctx, csr, "PEADDR", MA=(ADDRESS & 0xFFFF_FFFF) >> 2)
    await write(ctx, csr, "PEUADDR", MUA=ADDRESS >> 32)
    await write(ctx, csr, "PECTL", IM=mask)


def test_queue_is_programmed_and_its_tail_moves():
    dut = RegisterFile(CFG)
    queue = Queue(dut)
    csr = dut.csr

    async def testbench(ctx):
        control = dut.page_requests
        await write(ctx, csr, "PQA", PQA=0x12_3ABC_DEF0, PQS=3)
        await write(ctx, csr, "PQT", PQT=0x1FE)
        await write(ctx, csr, "PQH", PQH=0x123)
        assert (ctx.get(control.base), ctx.get(control.size)) == (0x12_3ABC_DEF0, 3)
        assert (ctx.get(control.tail), ctx.get(control.head)) == (0x1FE, 0x123)
        await queue.queue(ctx)
        assert await read(ctx, csr, "PQT") == {"PQT": 0x1FF}
        assert await access_read(ctx, csr, REGISTERS["PQT"].offset) == 0x1FF << 5
        await write(ctx, csr, "PQT", PQT=0)
        assert ctx.get(control.tail) == 0
        # Reserved bits, and the other half of a 64-bit register.
        await access_write(ctx, csr, REGISTERS["PQH"].offset, (1 << 64) - 1, 0x0F)
        assert await access_read(ctx, csr, REGISTERS["PQH"].offset) == 0x7_FFE0
        await access_write(ctx, csr, REGISTERS["PQA"].offset, 0, 0x0F)
        assert await read(ctx, csr, "PQA") == {"PQA": 0x12_3AB0_0000, "PQS": 0}

    simulate(dut, testbench)


def test_events_follow_the_status(rng):
    """One message for each status that rises from none, sent before the status can be read; taken back if cleared."""
    dut = RegisterFile(CFG)
    unit = Unit(dut, rng)
    queue = Queue(dut)
    csr = dut.csr
    message = (ADDRESS, 0x41)

    async def testbench(ctx):
        await program_event(ctx, csr, mask=0)
        await queue.queue(ctx)
        assert await read(ctx, csr, "PRS") == {"PPR": 1, "PRO": 0}
        assert unit.messages == [message]
        assert ctx.get(dut.irq_page_request)
        await queue.queue(ctx)
        await queue.overflow(ctx)
        assert await read(ctx, csr, "PRS") == {"PPR": 1, "PRO": 1}
        await write(ctx, csr, "PRS", PPR=1)
        await queue.queue(ctx)
        assert await read(ctx, csr, "PRS") == {"PPR": 1, "PRO": 1}
        assert len(unit.messages) == 1, "PRO was still set"
        await write(ctx, csr, "PRS", PPR=1, PRO=1)
        assert not ctx.get(dut.irq_page_request)
        await write(ctx, csr, "PECTL", IM=1)
        await queue.overflow(ctx)
        assert ctx.get(dut.page_requests.overflow)
        assert await read(ctx, csr, "PECTL") == {"IM": 1, "IP": 1}
        assert not ctx.get(dut.irq_page_request)
        await write(ctx, csr, "PRS", PRO=1)
        assert await read(ctx, csr, "PECTL") == {"IM": 1, "IP": 0}
        await queue.queue(ctx)
        await write(ctx, csr, "PECTL", IM=0)
        await poll(ctx, csr, "PECTL", "IP", 0)
        assert unit.messages == 2 * [message]

    unit.run(testbench)


def test_a_request_that_comes_as_the_status_is_cleared_is_told_again(rng):
    """Whenever PPR is set again, there is another message, however close to the clearing it came."""
    dut = RegisterFile(CFG)
    unit = Unit(dut, rng)
    queue = Queue(dut)
    cleared = []

    async def testbench(ctx):
        await program_event(ctx, dut.csr, mask=0)
        await queue.queue(ctx)
        for delay in range(12):
            await read(ctx, dut.csr, "PRS")  # the message has arrived
            before = len(unit.messages)
            cleared.append(False)
            for _ in range(delay):
                await ctx.tick()
            await queue.queue(ctx)
            while not cleared[-1]:
                await ctx.tick()
            pending = (await read(ctx, dut.csr, "PRS"))["PPR"]
            assert len(unit.messages) == before + pending
            if not pending:
                await queue.queue(ctx)

    async def software(ctx):
        done = 0
        while True:
            while len(cleared) == done:
                await ctx.tick()
            await write(ctx, dut.csr, "PRS", PPR=1)
            cleared[done] = True
            done += 1

    simulate(dut, testbench, background=(unit.memory, software))
    assert queue.held, "a request came in the very cycle of the clearing"


@pytest.mark.parametrize("name", ["PQH", "PQT", "PQA", "PRS", "PECTL", "PEDATA", "PEADDR", "PEUADDR"])
def test_without_page_requests_there_is_nothing(name):
    dut = RegisterFile(PRESETS["TINY"])
    values = []

    async def testbench(ctx):
        place = REGISTERS[name].offset & ~7
        await access_write(ctx, dut.csr, place, (1 << 64) - 1, 0xFF)
        values.append(await access_read(ctx, dut.csr, place))

    simulate(dut, testbench)
    assert values == [0]
