"""`MissMerger`: who walks, who waits for which walk, and how it shows that this walk has ended."""

from collections import Counter
from dataclasses import dataclass

import pytest

from nestwalk.config import preset
from nestwalk.lookup.merging import MissMerger
from rtl.tests.simulation import simulate

CFG = preset("FORMAL").replace(tag_width=16, walk_slots=4, waiting_misses=64)
PREFETCHING = CFG.replace(prefetch_streams=2)
LIMITED = PREFETCHING.replace(walk_slot_limit=True)


@dataclass
class Walk:
    """A walk in a slot; ``starts`` counts those that the slot has seen, up to this one."""

    miss: dict
    starts: int
    ended: bool = False


@pytest.mark.parametrize(
    ("cfg", "limit"),
    [(CFG, 0), (PREFETCHING, 0), (LIMITED, 0), (LIMITED, 2)],
    ids=["plain", "prefetching", "no-limit", "limited"],
)
def test_random_misses(cfg, limit, rng):
    dut = MissMerger(cfg)
    slots: list[Walk | None] = [None] * cfg.walk_slots
    starts = [0] * cfg.walk_slots
    waiting: list[tuple[int, int, Walk]] = []
    seen: Counter[str] = Counter()

    def random_miss() -> dict:
        prefetch = bool(cfg.prefetch_streams) and rng.random() < 0.3
        miss = {"signature": rng.choice((1, 2, 3, 0x801, 0x7FF)), "mergeable": not prefetch and rng.random() < 0.9}
        return miss | ({"prefetch": prefetch} if cfg.prefetch_streams else {}) | {"device": rng.choice((1, 2, 3))}

    def check_walk(miss: dict):
        """A walk may begin beside those in ``slots``."""
        others = [walk.miss for walk in slots if walk]
        equal = [other for other in others if other["signature"] == miss["signature"]]
        own = [other for other in others if other["device"] == miss["device"]]
        assert not (equal and (miss["mergeable"] or miss.get("prefetch")))
        assert not (miss.get("prefetch") and len(others) == cfg.walk_slots - 1)
        assert len(own) < (limit or cfg.walk_slots)
        seen["walked beside an equal one" if equal else "walked"] += 1

    def check_wait(miss: dict, walk: Walk | None):
        """A miss may wait for ``walk``, None if that has ended since."""
        assert not miss.get("prefetch")
        seen["parked" if walk else "parked late"] += 1
        if walk:
            by_limit = limit and walk.miss["device"] == miss["device"]
            assert by_limit or (miss["mergeable"] and walk.miss["signature"] == miss["signature"])

    async def testbench(ctx):
        number, miss, prefetches = 0, None, 0
        if cfg.walk_slot_limit:
            ctx.set(dut.limit, limit)
        for cycle in range(5000):
            busy = rng.random() < (0.95, 0.3)[cycle // 500 % 2]
            if miss is None and rng.random() < 0.8:
                number += 1
                miss = random_miss()
                fields = {name: value for name, value in miss.items() if name != "device"}
                fields |= {"request": {"tag": number, "source_id": miss["device"]}}
                ctx.set(dut.miss.payload.lookup, fields)
            ctx.set(dut.miss.valid, miss is not None)
            free = [slot for slot, walk in enumerate(slots) if walk is None]
            ending = rng.choice([slot for slot, walk in enumerate(slots) if walk] or [None])
            ending = ending if rng.random() < 0.1 else None
            chosen = rng.choice(free) if free else 0
            ctx.set(dut.status, {"slot": chosen, "freed": ending is not None, "freed_slot": ending or 0})
            ctx.set(dut.walk.ready, bool(free) and not busy)
            ctx.set(dut.parked.ready, rng.random() < 0.7)
            pulses = (dut.dropped, dut.ended) if cfg.prefetch_streams else ()
            moves = (port.valid & port.ready for port in (dut.walk, dut.parked, dut.miss))
            _clk, _rst, active, turns, parked, walked, starting, parking, taken, *told = await ctx.tick().sample(
                dut.active, dut.turns, dut.parked.payload, dut.walk.payload.lookup.request.tag, *moves, *pulses
            )
            for slot, turn, walk in waiting:
                assert (not active >> slot & 1 or turns >> slot & 1 != turn) == walk.ended
            dropped, prefetch_ended = told or (0, 0)
            assert taken == starting + parking + dropped
            if starting:
                assert miss
                assert walked == number
                check_walk(miss)
                starts[chosen] += 1
                slots[chosen] = Walk(miss, starts[chosen])
            if parking:
                assert miss
                assert (parked.merged, parked.request.tag) == (1, number)
                walk = slots[parked.slot]
                check_wait(miss, walk)
                if walk:
                    waiting.append((parked.slot, parked.turn, walk))
            if dropped:
                assert miss
                assert miss["prefetch"]
                seen["dropped"] += 1
            if taken:
                miss = None
            if ending is not None:
                walk, slots[ending] = slots[ending], None
                assert walk
                walk.ended = True
            assert prefetch_ended == (ending is not None and bool(walk.miss.get("prefetch")))
            prefetches += prefetch_ended
            # A slot's bit says whose turn it is until the second walk after.
            waiting[:] = [wait for wait in waiting if starts[wait[0]] < wait[2].starts + 2 and rng.random() < 0.99]
        seen["prefetched"] = prefetches

    simulate(dut, testbench)
    kinds = {"walked", "walked beside an equal one", "parked", "parked late"}
    kinds |= {"dropped", "prefetched"} if cfg.prefetch_streams else set()
    assert min(seen[kind] for kind in kinds) > 10
