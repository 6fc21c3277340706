"""`Counters` against numbers in Python, read while they count."""

import pytest
from amaranth.hdl import ResetInserter, Signal

from nestwalk.counters.counters import COUNTER_BITS, MONITORS, Counters
from nestwalk.counters.events import EVENTS
from rtl.tests.simulation import simulate

CYCLES = 2000


def test_random_events(rng):
    """No event is lost, whatever is read meanwhile; what is read lacks a turn's events at most. A reset forgets all."""
    dut, reset = Counters(), Signal()
    counted = [[0] for _ in EVENTS]
    reads = []
    eager = 1.0

    async def cycle(ctx):
        pulses = 0
        for number, history in enumerate(counted):
            happens = rng.random() < eager
            history.append(history[-1] + happens)
            pulses |= happens << number
        ctx.set(dut.events.as_value(), pulses)
        await ctx.tick()

    async def read(ctx, index: int) -> int:
        ctx.set(dut.index, index)
        ctx.set(dut.read, 1)
        await cycle(ctx)
        ctx.set(dut.read, 0)
        waited = 0
        while ctx.get(dut.busy):
            waited += 1
            await cycle(ctx)
        assert 0 < waited <= 6
        return ctx.get(dut.value)

    async def testbench(ctx):
        nonlocal eager
        for _ in range(2):
            for step in range(CYCLES):
                if step % 300 == 0:
                    eager = rng.choice([1.0, 0.5, 0.1])
                if step > 2 * Counters.ROUND and step % 8 == 0:
                    index = rng.randrange(len(EVENTS))
                    value = await read(ctx, index)
                    history = counted[index]
                    assert history[-Counters.ROUND - 16] <= value <= history[-1], EVENTS[index].name
                    reads.append(value)
                await cycle(ctx)
            eager = 0.0
            for _ in range(Counters.ROUND + 16):
                await cycle(ctx)
            assert [await read(ctx, index) for index in range(len(EVENTS))] == [history[-1] for history in counted]
            ctx.set(reset, 1)
            await ctx.tick()
            ctx.set(reset, 0)
            for history in counted:
                history[:] = [0]

    simulate(ResetInserter(reset)(dut), testbench, limit=10 * CYCLES)
    assert len(set(reads)) > 100


@pytest.mark.parametrize("bits", [COUNTER_BITS, 9])
def test_monitors(bits: int, rng):
    """Up to two events a cycle, none lost; each pass through 0 is told once, and what is read lacks a turn's events."""
    dut = Counters(bits)
    totals, history, overflows = [0] * MONITORS, [[] for _ in range(MONITORS)], [0] * MONITORS
    greed = [2] * MONITORS

    async def cycle(ctx):
        for monitor in range(MONITORS):
            number = rng.randrange(greed[monitor] + 1) if rng.random() < 0.5 else greed[monitor]
            ctx.set(dut.increments[monitor], number)
            totals[monitor] += number
            history[monitor].append(totals[monitor])
            overflows[monitor] += ctx.get(dut.overflows[monitor])
        await ctx.tick()

    async def read(ctx, monitor: int) -> int:
        ctx.set(dut.index, len(EVENTS) + monitor)
        ctx.set(dut.read, 1)
        await cycle(ctx)
        ctx.set(dut.read, 0)
        while ctx.get(dut.busy):
            await cycle(ctx)
        return ctx.get(dut.value)

    async def testbench(ctx):
        for step in range(CYCLES):
            if step % 300 == 0:
                greed[:] = [rng.randrange(3) for _ in range(MONITORS)]
                greed[step // 300 % MONITORS] = 2
            if step > 2 * Counters.ROUND and step % 8 == 0:
                monitor = rng.randrange(MONITORS)
                value = await read(ctx, monitor)
                passed = (history[monitor][-1] - value) % (1 << bits)
                assert passed <= history[monitor][-1] - history[monitor][-Counters.ROUND - 16]
            await cycle(ctx)
        greed[:] = [0] * MONITORS
        turns = 0
        while turns < 3:
            turns += ctx.get(dut.turned)
            await cycle(ctx)
        assert [await read(ctx, monitor) for monitor in range(MONITORS)] == [total % (1 << bits) for total in totals]
        assert overflows == [total >> bits for total in totals]

    simulate(dut, testbench, limit=10 * CYCLES)
    assert min(totals) > CYCLES // 2
    assert bits == COUNTER_BITS or min(overflows) > 1
