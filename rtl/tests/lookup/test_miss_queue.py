"""`MissQueue`: order, level, and configuration that is disowned wherever it waits."""

from nestwalk.config import preset
from nestwalk.lookup.miss_queue import MissQueue
from rtl.tests.simulation import simulate

CFG = preset("FORMAL").replace(tag_width=16)
DEPTH = 4


def test_random_traffic(rng):
    dut = MissQueue(CFG, DEPTH)
    expected: list[dict] = []
    seen = {"forgotten": 0, "kept": 0, "full": 0, "passed": 0}

    async def testbench(ctx):
        number = 0
        for cycle in range(3000):
            forget = rng.random() < 0.05
            put = len(expected) < DEPTH and rng.random() < (0.3, 0.7)[cycle // 100 % 2]
            ready = rng.random() < 0.5
            number += put
            fields = {"number": number, "context_hit": rng.getrandbits(1), "space_hit": rng.getrandbits(1)}
            ctx.set(dut.i.valid, put)
            ctx.set(dut.i.payload.request.tag, number)
            ctx.set(dut.i.payload.space.pasid, number)
            ctx.set(dut.i.payload.context.rid_pasid, number)
            ctx.set(dut.i.payload.context_hit, fields["context_hit"])
            ctx.set(dut.i.payload.space_hit, fields["space_hit"])
            ctx.set(dut.forget, forget)
            ctx.set(dut.o.ready, ready)
            _clk, _rst, valid, miss, level = await ctx.tick().sample(dut.o.valid, dut.o.payload, dut.level)
            assert level == len(expected)
            assert valid == bool(expected)
            seen["full"] += level == DEPTH
            if valid:
                found = {name: getattr(miss, name) for name in ("context_hit", "space_hit")}
                assert {"number": miss.request.tag} | found == expected[0]
                assert miss.space.pasid == miss.context.rid_pasid == miss.request.tag
                seen["passed"] += ready
                if ready:
                    expected.pop(0)
            if put:
                expected.append(fields)
            if forget:
                for waiting in expected:
                    seen["forgotten"] += waiting["context_hit"] | waiting["space_hit"]
                    waiting["context_hit"] = waiting["space_hit"] = 0
            seen["kept"] += any(waiting["space_hit"] for waiting in expected)

    simulate(dut, testbench)
    assert all(seen.values()), seen
