"""`BypassQueue`: items pass at once while nothing waits, in order, and stay once offered."""

import pytest

from nestwalk.bus.bypass_queue import BypassQueue
from rtl.tests.simulation import simulate


@pytest.mark.parametrize("depth", [2, 5])
def test_random_traffic(depth, rng):
    dut = BypassQueue(16, depth)
    waiting: list[int] = []
    passed, at_once = [], 0

    async def testbench(ctx):
        nonlocal at_once
        number, offered = 0, None
        for cycle in range(3000):
            put = rng.random() < (0.3, 0.8)[cycle // 100 % 2]
            take = rng.random() < 0.5
            number += put
            ctx.set(dut.i.valid, put)
            ctx.set(dut.i.payload, number)
            ctx.set(dut.o.ready, take)
            sampled = ctx.tick().sample(dut.i.ready, dut.o.valid, dut.o.payload, dut.level)
            _clk, _rst, ready, valid, payload, level = await sampled
            assert level == len(waiting)
            assert ready == (len(waiting) < depth)
            assert valid == bool(waiting or put)
            if offered is not None:
                assert payload == offered
            if put and ready:
                waiting.append(number)
            elif put:
                number -= 1
            if valid and take:
                assert payload == waiting.pop(0)
                at_once += level == 0
                passed.append(payload)
            offered = payload if valid and not take and (level or ready) else None

    simulate(dut, testbench)
    assert passed == list(range(1, len(passed) + 1))
    assert len(passed) > 1000
    assert at_once > 100
