"""Event messages: each row of §1.8.2, and random sequences of conditions, masks and clears."""

import pytest

from nestwalk.bus.memory import MemoryIds
from nestwalk.config import PRESETS
from nestwalk.events.interrupt import EventMessages
from rtl.tests.simulation import simulate

CFG = PRESETS["DEFAULT"]
FAULT, INVALIDATION = 0, 1


class Memory:
    """Takes messages, slowly; ``messages`` are those acknowledged as (id, address, size, data)."""

    def __init__(self, dut, delay: int = 5):
        self.dut, self.delay, self.messages = dut, delay, []

    async def take(self, ctx):
        request = self.dut.write.request
        while True:
            while not ctx.get(request.valid):
                await ctx.tick()
            payload = ctx.get(request.payload)
            ctx.set(request.ready, 1)
            await ctx.tick()
            ctx.set(request.ready, 0)
            for _ in range(self.delay):
                await ctx.tick()
            ctx.set(self.dut.write.done.valid, 1)
            await ctx.tick()
            ctx.set(self.dut.write.done.valid, 0)
            self.messages.append((payload.id, payload.address, payload.size, payload.data))


def drive(ctx, event, *, condition: int, status: int | None = None, mask: int = 0):
    ctx.set(event.condition, condition)
    ctx.set(event.status, condition if status is None else status)
    ctx.set(event.mask, mask)


async def rest(ctx, cycles: int = 20):
    for _ in range(cycles):
        await ctx.tick()


def run(scenario) -> list:
    """Run a scenario with two kinds of event; returns the messages."""
    dut = EventMessages(CFG, 2)
    memory = Memory(dut)

    async def testbench(ctx):
        for number, event in enumerate(dut.events):
            ctx.set(event.address, 0x1_FEE0_1000 + 0x1000 * number + 4 * number)
            ctx.set(event.data, 0x4020 + number)
        await rest(ctx, 3)
        await scenario(ctx, dut.events, dut)
        await rest(ctx)

    simulate(dut, testbench, background=(memory.take,))
    return memory.messages


def message(number: int) -> tuple:
    return (
        MemoryIds(CFG).event,
        0x1_FEE0_1000 + 0x1000 * number + 4 * number,
        2,
        (0x4020 + number) * (1 | 1 << 32),
    )


def test_unmasked_condition_sends_one_message_and_keeps_the_wire_high():
    async def scenario(ctx, events, dut):
        drive(ctx, events[FAULT], condition=1)
        assert ctx.get(events[FAULT].irq)
        assert ctx.get(dut.busy), "register reads must wait from the first cycle on"
        await rest(ctx)
        assert not ctx.get(dut.busy)
        assert not ctx.get(events[FAULT].pending)
        assert ctx.get(events[FAULT].irq)

    assert run(scenario) == [message(FAULT)]


def test_no_new_message_while_a_status_is_set():
    async def scenario(ctx, events, dut):
        drive(ctx, events[FAULT], condition=0, status=1)  # an overflow alone
        await rest(ctx)
        drive(ctx, events[FAULT], condition=1)
        await rest(ctx)
        assert not ctx.get(events[FAULT].pending)

    assert run(scenario) == []


def test_masked_condition_is_held_and_sent_on_unmasking():
    async def scenario(ctx, events, dut):
        drive(ctx, events[INVALIDATION], condition=1, mask=1)
        assert not ctx.get(dut.busy), "a masked event does not hold up register reads"
        await rest(ctx)
        assert ctx.get(events[INVALIDATION].pending)
        assert not ctx.get(events[INVALIDATION].irq)
        drive(ctx, events[INVALIDATION], condition=1)
        await rest(ctx)
        assert not ctx.get(events[INVALIDATION].pending)

    assert run(scenario) == [message(INVALIDATION)]


def test_clearing_all_status_takes_the_pending_interrupt_back():
    async def scenario(ctx, events, dut):
        drive(ctx, events[FAULT], condition=1, mask=1)
        await rest(ctx)
        drive(ctx, events[FAULT], condition=0, status=1, mask=1)
        await rest(ctx)
        assert ctx.get(events[FAULT].pending), "one status field is still set"
        drive(ctx, events[FAULT], condition=0, mask=1)
        await rest(ctx, 2)
        assert not ctx.get(events[FAULT].pending)
        drive(ctx, events[FAULT], condition=0)

    assert run(scenario) == []


def test_two_kinds_at_once_and_again_after_clearing():
    async def scenario(ctx, events, dut):
        for _ in range(2):
            for event in events:
                drive(ctx, event, condition=1)
            await rest(ctx, 40)
            for event in events:
                drive(ctx, event, condition=0)
            await rest(ctx, 2)

    assert run(scenario) == 2 * [message(FAULT), message(INVALIDATION)]


@pytest.mark.parametrize("delay", [0, 7])
def test_random_conditions_masks_and_clears(delay, rng):
    """One message for each condition that rises from quiet and is not taken back; none while masked."""
    dut = EventMessages(CFG, 2)
    memory = Memory(dut, delay)
    expected = []

    async def testbench(ctx):
        event = dut.events[FAULT]
        await rest(ctx, 2)
        for _ in range(200):
            mask = rng.randrange(2)
            drive(ctx, event, condition=1, mask=mask)
            await rest(ctx, 14)
            if mask and rng.randrange(2):
                assert ctx.get(event.pending)
                drive(ctx, event, condition=1)
                await rest(ctx, 14)
                mask = 0
            expected.append(not mask)
            assert len(memory.messages) == sum(expected)
            drive(ctx, event, condition=0, mask=rng.randrange(2))
            await rest(ctx, rng.randrange(1, 4))

    simulate(dut, testbench, background=(memory.take,))
    assert 20 < sum(expected) < 200
