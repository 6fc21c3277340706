"""`Fork`: each taker gets each item once, and the source's transfer follows that of the last taker."""

import pytest

from nestwalk.bus.fork import Fork
from rtl.tests.simulation import simulate


@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_output_takes_every_item_once(count, rng):
    dut = Fork(8, count)
    items = [rng.getrandbits(8) for _ in range(200)]
    taken = [[] for _ in range(count)]
    sent = []

    async def testbench(ctx):
        offered = False
        while len(sent) < len(items):
            if not offered and rng.random() < 0.7:
                offered = True
                ctx.set(dut.i.payload, items[len(sent)])
            ctx.set(dut.i.valid, offered)
            for out in dut.o:
                ctx.set(out.ready, rng.random() < 0.4)
            signals = [signal for out in dut.o for signal in (out.valid, out.ready, out.payload)]
            everyone = offered and all(len(so_far) == len(sent) + 1 for so_far in taken)
            _clk, _rst, done, *values = await ctx.tick().sample(dut.i.ready, *signals)
            for index in range(count):
                valid, ready, payload = values[3 * index : 3 * index + 3]
                # An output is offered the item until it takes it.
                assert valid == (offered and len(taken[index]) == len(sent))
                if valid and ready:
                    taken[index].append(payload)
            assert done == everyone, "the source's transfer is one cycle after that of the last taker"
            if everyone:
                sent.append(items[len(sent)])
                offered = False

    simulate(dut, testbench)
    assert all(so_far == items for so_far in taken)
