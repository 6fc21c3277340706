"""`MissMerger`: who walks, who waits for which walk, and how it shows that this walk has ended."""

from collections import Counter
from dataclasses import dataclass

from nestwalk.config import preset
from nestwalk.lookup.merging import MissMerger
from rtl.tests.simulation import simulate

CFG = preset("FORMAL").replace(tag_width=16, walk_slots=4, waiting_misses=64)


@dataclass
class Walk:
    """A walk in a slot; ``starts`` counts those that the slot has seen, up to this one."""

    signature: int
    starts: int
    ended: bool = False


def test_random_misses(rng):
    dut = MissMerger(CFG)
    slots: list[Walk | None] = [None] * CFG.walk_slots
    starts = [0] * CFG.walk_slots
    waiting: list[tuple[int, int, Walk]] = []
    seen: Counter[str] = Counter()

    async def testbench(ctx):
        number, miss = 0, None
        for cycle in range(6000):
            busy = rng.random() < (0.95, 0.3)[cycle // 500 % 2]
            if miss is None and rng.random() < 0.8:
                number += 1
                miss = {"signature": rng.choice((1, 2, 3, 0x801, 0x7FF)), "mergeable": rng.random() < 0.9}
                ctx.set(dut.miss.payload.lookup, miss | {"request": {"tag": number}, "root_pointer": {"mode": 1}})
            ctx.set(dut.miss.valid, miss is not None)
            free = [slot for slot, walk in enumerate(slots) if walk is None]
            ending = rng.choice([slot for slot, walk in enumerate(slots) if walk] or [None])
            ending = ending if rng.random() < 0.1 else None
            chosen = rng.choice(free) if free else 0
            ctx.set(dut.status, {"slot": chosen, "freed": ending is not None, "freed_slot": ending or 0})
            ctx.set(dut.walk.ready, bool(free) and not busy)
            ctx.set(dut.parked.ready, rng.random() < 0.7)
            streams = (dut.walk, dut.parked, dut.miss)
            _clk, _rst, active, turns, parked, walked, *shaken = await ctx.tick().sample(
                dut.active,
                dut.turns,
                dut.parked.payload,
                dut.walk.payload.lookup.request.tag,
                *(port.valid & port.ready for port in streams),
            )
            for slot, turn, walk in waiting:
                assert (not active >> slot & 1 or turns >> slot & 1 != turn) == walk.ended
            # A slot's bit says whose turn it is until the second walk after.
            waiting[:] = [wait for wait in waiting if starts[wait[0]] < wait[2].starts + 2 and rng.random() < 0.99]
            assert shaken[2] == shaken[0] + shaken[1]
            equal = [walk for walk in slots if walk and miss and walk.signature == miss["signature"]]
            if shaken[0]:
                assert miss
                assert walked == number
                assert not (equal and miss["mergeable"])
                seen["walked alone" if not equal else "walked beside an equal one"] += 1
                starts[chosen] += 1
                slots[chosen] = Walk(miss["signature"], starts[chosen])
                waiting[:] = [wait for wait in waiting if starts[wait[0]] < wait[2].starts + 2]
            if shaken[1]:
                assert miss
                assert (miss["mergeable"], parked.merged) == (True, 1)
                assert (parked.request.tag, parked.root_pointer.mode) == (number, 1)
                walk = slots[parked.slot]
                seen["parked" if walk else "parked late"] += 1
                if walk:
                    assert walk.signature == miss["signature"]
                    waiting.append((parked.slot, parked.turn, walk))
            if shaken[2]:
                miss = None
            if ending is not None:
                walk, slots[ending] = slots[ending], None
                assert walk
                walk.ended = True

    simulate(dut, testbench)
    assert min(seen[what] for what in ("walked alone", "walked beside an equal one", "parked", "parked late")) > 10
