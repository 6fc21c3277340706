"""`MissQueue`: order, level, and configuration that is disowned wherever it waits."""

from nestwalk.config import preset
from nestwalk.lookup.miss_queue import MissQueue
from rtl.tests.simulation import simulate

CFG = preset("FORMAL").replace(tag_width=16)
DEPTH = 4


KNOWN = {"context_hit": "configuration", "space_hit": "configuration", "hint_hit": "structures"}
"""What a miss knows, and the name of what makes it forget that."""


def test_random_traffic(rng):
    dut = MissQueue(CFG, DEPTH)
    waiting: list[dict] = []
    seen = {"forgotten": 0, "kept": 0, "full": 0, "passed": 0, "passed at once": 0}

    async def testbench(ctx):
        number, offered = 0, False
        for cycle in range(3000):
            forgets = [name for name in ("configuration", "structures") if rng.random() < 0.05]
            put = offered and rng.random() < (0.3, 0.7)[cycle // 100 % 2]
            ready = rng.random() < 0.5
            number += put
            arriving = {"number": number} | {name: rng.getrandbits(1) for name in KNOWN}
            # What was offered in the cycle before is the one that missed, the next follows at once.
            offered = len(waiting) + put < DEPTH and rng.random() < 0.9
            ctx.set(dut.missed, put)
            for name in KNOWN:
                ctx.set(getattr(dut.known, name), arriving[name])
            ctx.set(dut.lookup.valid, offered)
            for field in (dut.lookup.payload.request.tag, dut.lookup.payload.configuration.space.pasid):
                ctx.set(field, number + 1)
            ctx.set(dut.forget_configuration, "configuration" in forgets)
            ctx.set(dut.forget_structures, "structures" in forgets)
            ctx.set(dut.o.ready, ready)
            _clk, _rst, valid, miss, level = await ctx.tick().sample(dut.o.valid, dut.o.payload, dut.level)
            assert level == len(waiting)
            seen["full"] += level == DEPTH
            if put:
                waiting.append(arriving)
            assert valid == bool(waiting), "passes in the cycle in which it comes"
            if valid:
                found = {name: getattr(miss.known, name) for name in KNOWN}
                assert {"number": miss.lookup.request.tag} | found == waiting[0]
                assert miss.lookup.configuration.space.pasid == miss.lookup.request.tag
                if ready:
                    seen["passed"] += 1
                    seen["passed at once"] += put and level == 0
                    waiting.pop(0)
            for miss_waiting in waiting:
                for name, forgotten in KNOWN.items():
                    if forgotten in forgets:
                        seen["forgotten"] += miss_waiting[name]
                        miss_waiting[name] = 0
                    seen["kept"] += miss_waiting[name]

    simulate(dut, testbench)
    assert all(seen.values()), seen
