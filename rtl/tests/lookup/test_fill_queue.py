"""`FillQueue`: order, and what waits is dropped but for the entry that is offered."""

from nestwalk.lookup.fill_queue import FillQueue
from rtl.tests.simulation import simulate

DEPTH = 4


def test_random_traffic(rng):
    dut = FillQueue(16, DEPTH)
    seen = {"passed": 0, "dropped": 0, "refused": 0}

    async def testbench(ctx):
        inside: list[int] = []  # accepted and neither passed nor known to be dropped
        number, drops, offered = 0, 0, None
        for _ in range(4000):
            if not drops and rng.random() < 0.02:
                drops = DEPTH + 2
            put, take = not drops and rng.random() < 0.6, rng.random() < 0.3
            number += put
            ctx.set(dut.i.valid, put)
            ctx.set(dut.i.payload, number)
            ctx.set(dut.o.ready, take)
            ctx.set(dut.drop, drops > 0)
            sampled = ctx.tick().sample(dut.i.ready, dut.o.valid, dut.o.payload, dut.waits)
            _clk, _rst, ready, valid, payload, waits = await sampled
            if valid and offered is not None:
                assert payload == offered, "an entry that was offered stays"
            if valid:
                assert payload in inside
                if drops == 0:
                    assert payload == inside[0]
            if put and ready:
                inside.append(number)
            seen["refused"] += put and not ready
            if valid and take:
                seen["passed"] += 1
                inside = inside[inside.index(payload) + 1 :]
            offered = payload if valid and not take else None
            if drops:
                drops -= 1
                if not drops:
                    assert not waits, "as many cycles as entries empty the queue"
                    kept = [offered] if offered is not None else []
                    seen["dropped"] += len(inside) - len(kept)
                    inside = kept

    simulate(dut, testbench)
    assert all(count > 50 for count in seen.values()), seen
