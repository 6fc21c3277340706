"""`Merge`: nothing lost or reordered, an offered item stays, both sources get their turn, no cycle of its own."""

import pytest

from nestwalk.bus.merge import Merge
from rtl.tests.simulation import simulate


@pytest.mark.parametrize("claimed", [False, True])
def test_random_streams(claimed, rng):
    dut = Merge(16, claimed=claimed)
    count = 400
    sent = ([0x1000 + n for n in range(count)], [0x2000 + n for n in range(count)])
    received = []

    async def testbench(ctx):
        left = [list(items) for items in sent]
        offered = [False, False]
        refused, late = None, 0
        while any(left):
            for port in range(2):
                if not offered[port] and left[port] and rng.random() < 0.6:
                    offered[port] = True
                    ctx.set(dut.i[port].payload, left[port][0])
                ctx.set(dut.i[port].valid, offered[port])
            claims = claimed and (offered[0] or rng.random() < 0.7)
            if claimed:
                ctx.set(dut.claims, claims)
            ctx.set(dut.o.ready, rng.random() < 0.5)
            _clk, _rst, valid, ready, payload, *taken = await ctx.tick().sample(
                dut.o.valid, dut.o.ready, dut.o.payload, dut.i[0].ready, dut.i[1].ready
            )
            late = late + 1 if offered[1] and not valid else 0
            assert valid == any(offered) or (claims and late == 1), "passes on in the same cycle"
            assert refused in (None, payload), "an offered item changed"
            refused = payload if valid and not ready else None
            moved = [port for port in range(2) if offered[port] and taken[port]]
            assert len(moved) == (valid and ready)
            for port in moved:
                assert payload == left[port].pop(0)
                received.append(payload)
                offered[port] = False

    simulate(dut, testbench)
    for port, items in enumerate(sent):
        assert [item for item in received if item >> 12 == port + 1] == items


def test_takes_both_in_turn_when_both_wait():
    dut = Merge(4)

    async def testbench(ctx):
        for port in range(2):
            ctx.set(dut.i[port].valid, 1)
            ctx.set(dut.i[port].payload, port)
        ctx.set(dut.o.ready, 1)
        order = [(await ctx.tick().sample(dut.o.payload))[2] for _ in range(20)]
        assert order in ([0, 1] * 10, [1, 0] * 10)

    simulate(dut, testbench)
