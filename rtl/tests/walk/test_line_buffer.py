"""`LineBuffer`: every read gets its own entry, none older than the last flush, and lines spare reads of memory."""

from collections import Counter, defaultdict, deque
from dataclasses import dataclass
from random import Random

import pytest

from nestwalk.bus.axi import AxiResponse
from nestwalk.config import IommuConfig, preset
from nestwalk.walk.line_buffer import LineBuffer
from rtl.tests.simulation import simulate

CFG = preset("TINY").replace(walk_slots=4, line_buffer_lines=4)
PAGES = (0x1234_5000, 0x6543_2000)
OUTDATED = 1 << 31
"""The content that overtaken walks read."""

LINES = [page + 64 * n for page in PAGES for n in range(5)]


@dataclass
class Asked:
    """A read that waits for its answer: the entry, the oldest content that will do, and whether a line may answer."""

    address: int
    oldest: int
    wanted: bool


class Walks:
    """Slots with one read each, over a memory whose content is renewed every now and then.

    An entry's value is its address, and in the upper half how often memory has been renewed. A flush overtakes some of
    the slots that read; they alone see memory as it never is again.
    """

    def __init__(self, cfg: IommuConfig, rng: Random, *, flushes: bool):
        self.cfg, self.rng, self.flushes = cfg, rng, flushes
        self.dut = LineBuffer(cfg)
        self.content = self.flushed = 0
        self.asked: dict[int, Asked] = {}
        self.last: dict[int, int] = {}
        self.planned: tuple[int, int] | None = None
        self.under_way: dict[int, deque[list[tuple[int, bool]]]] = defaultdict(deque)
        self.failing = set(rng.sample(LINES[2:], 2))
        self.distrusted: set[int] = set()
        self.overtaken: set[int] = set()
        self.counts: Counter[str] = Counter()

    def value(self, slot: int, address: int) -> int:
        return (OUTDATED if slot in self.overtaken else self.content) << 32 | address

    async def run(self, ctx):
        dut, rng = self.dut, self.rng
        signals = (dut.read.valid, dut.request.valid, dut.request.ready, dut.request.payload, dut.data.valid)
        signals += (dut.data.payload, dut.shown, dut.hit.valid, dut.hit.ready, dut.hit.payload)
        signals += (dut.flush, dut.looked_up, dut.found, dut.filled, dut.waited)
        while self.counts["answers"] < 1500:
            self.drive_read(ctx)
            self.drive_data(ctx)
            flush = self.flushes and rng.random() < 0.01
            if rng.random() < 0.02:
                self.content += 1
            if flush:
                self.overtaken |= {slot for slot in self.asked if rng.random() < 0.5}
            ctx.set(dut.flush, flush)
            ctx.set(dut.overtaken, sum(1 << slot for slot in self.overtaken))
            ctx.set(dut.request.ready, rng.random() < 0.7)
            ctx.set(dut.hit.ready, rng.random() < 0.5)
            _clk, _rst, *values = await ctx.tick().sample(*signals)
            _, valid, ready, request, arrives, piece, shown, hit, taken, entry, *pulses = values
            if valid and ready:
                self.accept(request)
            if arrives and shown:
                upper = self.asked[piece.id].address >> 3 & 1
                failed = piece.response == AxiResponse.SLVERR
                self.check_answer(piece.id, piece.data >> 64 * upper & (1 << 64) - 1, failed=failed, kind="memory")
            if hit and taken:
                self.check_answer(entry.slot, entry.value, failed=False, kind="line")
            if flush:
                self.flushed = self.content
            for name, pulse in zip(("looked up", "found", "filled", "waited"), pulses[1:], strict=True):
                self.counts[name] += pulse

    def drive_read(self, ctx):
        """The read planned in the cycle before, and a candidate that may be the next one's."""
        dut, rng = self.dut, self.rng
        ctx.set(dut.read.valid, 0)
        ctx.set(dut.wanted, 0)
        ctx.set(dut.again, 0)
        if self.planned:
            slot, address = self.planned
            again, wanted = slot in self.distrusted, rng.random() < 0.9
            self.distrusted.discard(slot)
            asked = Asked(self.last[slot] if again else address, self.content, False)
            if wanted and not again:
                asked = Asked(address, self.flushed, True)
                self.last[slot] = address
            self.asked[slot] = asked
            ctx.set(dut.read.valid, 1)
            ctx.set(dut.wanted, asked.wanted)
            ctx.set(dut.again, again)
            ctx.set(dut.read.payload, {"id": slot, "address": 0 if again else address, "size": 3})
        address = rng.choice(LINES[: rng.choice((1, 1, 2, 10))]) + 8 * rng.randrange(8)
        ctx.set(dut.candidate, address)
        ctx.set(dut.candidate_second, address >> 12 == PAGES[1] >> 12)
        idle = set(range(self.cfg.walk_slots)) - self.asked.keys()
        self.planned = (rng.choice(sorted(idle)), address) if idle and rng.random() < 0.15 else None
        ctx.set(dut.candidate_valid, self.planned is not None or rng.random() < 0.5)

    def accept(self, request):
        """Memory takes a read: of the entry alone, or of its line from the entry on."""
        asked = self.asked[request.id]
        assert request.address == asked.address
        assert request.line == asked.wanted
        assert request.size == (6 if request.line else 3)
        first = asked.address & -16
        pieces = [first & -64 | first + 16 * n & 63 for n in range(4)] if request.line else [first]
        self.under_way[request.id].append([(piece, piece == pieces[-1]) for piece in pieces])
        self.counts["reads"] += 1

    def drive_data(self, ctx):
        """A piece of any read, in order for each slot."""
        dut, rng = self.dut, self.rng
        waiting = [slot for slot, reads in self.under_way.items() if reads]
        ctx.set(dut.data.valid, 0)
        if not waiting or rng.random() < 0.1:
            return
        slot = rng.choice(waiting)
        address, last = self.under_way[slot][0].pop(0)
        if last:
            self.under_way[slot].popleft()
        failed = address & -64 in self.failing and address & 0x20
        data = self.value(slot, address) | self.value(slot, address + 8) << 64
        response = AxiResponse.SLVERR if failed else AxiResponse.OKAY
        ctx.set(dut.data.valid, 1)
        ctx.set(dut.data.payload, {"id": slot, "data": data, "response": response, "last": last})

    def check_answer(self, slot: int, value: int, *, failed: bool, kind: str):
        asked = self.asked.pop(slot)
        assert value & 0xFFFF_FFFF == asked.address, f"{value:#x} for {asked}"
        if kind == "memory" and value >> 32 == OUTDATED:
            self.counts["outdated"] += 1
        else:
            assert asked.oldest <= value >> 32 <= self.content, f"{value:#x} for {asked} from {kind}"
        self.overtaken.discard(slot)
        assert kind == "memory" or asked.wanted
        assert failed == (kind == "memory" and asked.address & -64 in self.failing and bool(asked.address & 0x20))
        assert kind == "memory" or asked.address & -64 not in self.failing, "a line with an error is not kept"
        self.counts["answers"] += 1
        self.counts[kind] += 1
        if kind == "line" and self.rng.random() < 0.3:
            self.distrusted.add(slot)


@pytest.mark.parametrize("flushes", [False, True], ids=["no_flush", "flushes"])
@pytest.mark.parametrize("lines", [2, 4, 16])
def test_entries_come_from_memory_or_from_lines(lines, flushes, rng):
    walks = Walks(CFG.replace(line_buffer_lines=lines), rng, flushes=flushes)
    simulate(walks.dut, walks.run)
    counts = walks.counts
    # The last one may still wait to be taken.
    assert counts["found"] - 1 <= counts["line"] <= counts["found"]
    assert counts["found"] > 50
    assert counts["memory"] <= counts["reads"] <= counts["memory"] + walks.cfg.walk_slots
    assert counts["looked up"] > counts["found"]
    assert counts["waited"] > 20
    assert counts["filled"] > 5
    assert (counts["outdated"] > 0) == flushes
