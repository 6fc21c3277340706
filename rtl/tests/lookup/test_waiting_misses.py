"""`WaitingMisses`: order, and that each leaves when what it waits for has happened, neither before nor never."""

from collections import Counter

from nestwalk.config import preset
from nestwalk.lookup.waiting_misses import WaitingMisses
from rtl.tests.simulation import simulate

CFG = preset("FORMAL").replace(tag_width=16, walk_slots=4, waiting_misses=64)


class Walks:
    """Slots whose walks end with something to cache, most of them; the cache takes its time."""

    def __init__(self, rng):
        self.rng = rng
        self.active = [False] * CFG.walk_slots
        self.turns = [0] * CFG.walk_slots
        self.numbers = [0] * CFG.walk_slots
        self.queue: list[int] = []
        self.count = 0

    def step(self) -> dict:
        """The status of this cycle; slots change for the next."""
        rng, fills, filled = self.rng, len(self.queue), bool(self.queue) and self.rng.random() < 0.2
        if filled:
            self.queue.pop(0)
        for slot in range(CFG.walk_slots):
            if self.active[slot] and rng.random() < 0.03:
                self.active[slot] = False
                if len(self.queue) < 16 and rng.random() < 0.8:
                    self.queue.append(self.numbers[slot])
            elif not self.active[slot] and rng.random() < 0.2:
                self.count += 1
                self.active[slot], self.numbers[slot] = True, self.count
                self.turns[slot] ^= 1
        return {"fills": fills, "filled": filled}

    def has_ended(self, number: int) -> bool:
        return not any(active and number == own for active, own in zip(self.active, self.numbers, strict=True))


def bits(values) -> int:
    return sum(bool(value) << place for place, value in enumerate(values))


def test_random_waiting(rng):
    dut = WaitingMisses(CFG)
    walks, waiting, seen = Walks(rng), [], Counter()

    async def testbench(ctx):
        number = age = 0
        parked, held = None, False
        for cycle in range(12_000):
            busy = (0.02, 0.4)[cycle // 1000 % 2]
            ctx.set(dut.active, bits(walks.active))
            ctx.set(dut.turns, bits(walks.turns))
            running = [slot for slot in range(CFG.walk_slots) if walks.active[slot]]
            room = len(waiting) < CFG.waiting_misses - 2
            spilled = room and rng.random() < busy
            if spilled:
                number += 1
                ctx.set(dut.spilled.payload, {"request": {"tag": number}})
            if parked is None and room and running and rng.random() < busy:
                parked = rng.choice(running)
                turn, walk = walks.turns[parked], walks.numbers[parked]
                ctx.set(dut.parked.payload, {"merged": 1, "slot": parked, "turn": turn})
            ctx.set(dut.spilled.valid, spilled)
            ctx.set(dut.parked.valid, parked is not None)
            ctx.set(dut.o.ready, rng.random() < (0.9, 0.1)[cycle // 2000 % 2])
            ctx.set(dut.status, walks.step())
            _clk, _rst, valid, ready, left, level, taken = await ctx.tick().sample(
                dut.o.valid, dut.o.ready, dut.o.payload, dut.level, dut.parked.ready
            )
            assert level == len(waiting)
            assert valid or not held
            held = valid and not ready
            seen["much"] += level > 40
            if valid and ready:
                tag, awaited = waiting.pop(0)
                assert (left.request.tag, left.merged) == (tag, awaited is not None)
                if awaited:
                    assert walks.has_ended(awaited)
                    assert awaited not in walks.queue
                seen["merged" if awaited else "spilled"] += 1
            if valid or not waiting:
                age = 0
            else:
                # A walk takes 33 cycles on average, an entry 5, and one may have to wait for two walks.
                age += 1
                assert age < 1500
                assert waiting[0][1] is not None or age < 10
            if spilled:
                waiting.append((number, None))
            if parked is not None and taken:
                assert not spilled
                waiting.append((0, walk))
                parked = None

    simulate(dut, testbench)
    assert min(seen[what] for what in ("much", "merged", "spilled")) > 100
