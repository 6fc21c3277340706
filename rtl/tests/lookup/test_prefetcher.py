"""`Prefetcher`: asks for the pages ahead of streams, in time, once each, and for nothing else."""

from dataclasses import dataclass, field
from random import Random

from nestwalk.config import preset
from nestwalk.lookup.prefetcher import REGION_BITS, Prefetcher
from rtl.tests.simulation import simulate

CFG = preset("FORMAL").replace(waiting_misses=64, prefetch_streams=8, prefetch_pages=4)
WALK = 100
"""Cycles from a request for a page to its translation."""


@dataclass
class Walker:
    """A requester that goes from page to page, and what is translated for it."""

    tags: dict
    page: int
    known: dict[int, int] = field(default_factory=dict)
    pages = late = 0

    def access(self, rng: Random, now: int) -> tuple[dict, bool]:
        """The next access, and whether it misses."""
        if not rng.randrange(64):
            self.page += 1
            self.pages += 1
            self.late += self.known.get(self.page, now + 1) > now
        return self.tags | {"page": self.page}, self.known.setdefault(self.page, now + WALK) > now


class Bench:
    """Drives a prefetcher; ``asked`` are the pages that it asked for, with their tags."""

    def __init__(self, rng: Random):
        self.dut = Prefetcher(CFG)
        self.rng = rng
        self.now = 0
        self.asked: list[dict] = []

    async def cycle(self, ctx, access: dict | None, missed: bool):
        if access is not None:
            ctx.set(self.dut.access, access)
        ctx.set(self.dut.valid, access is not None)
        ctx.set(self.dut.missed, missed)
        ctx.set(self.dut.o.ready, self.rng.random() < 0.5)
        _clk, _rst, valid, ready, asked = await ctx.tick().sample(
            self.dut.o.valid, self.dut.o.ready, self.dut.o.payload
        )
        self.now += 1
        if valid and ready:
            self.asked.append(
                {name: asked[name] for name in ("source_id", "pasid_valid", "pasid", "privileged", "page")}
            )
            return self.asked[-1]
        return None


def random_walkers(rng: Random, count: int) -> list[Walker]:
    walkers = []
    for number in range(count):
        pasid = rng.choice((None, number, 0xFFFFF - number))
        tags = {"source_id": rng.choice((0x100, 0x101)) + (number << 9), "privileged": rng.getrandbits(1)}
        tags |= {"pasid_valid": pasid is not None, "pasid": pasid or 0}
        walkers.append(Walker(tags, rng.getrandbits(46) & ~0x7FF_FFFF | rng.randrange(1 << 26)))
    return walkers


def test_streams_find_their_pages_translated(rng):
    """Some streams at once, among misses that lead nowhere."""
    bench = Bench(rng)
    walkers = random_walkers(rng, 4)

    async def testbench(ctx):
        ctx.set(bench.dut.spare, 1)
        for cycle in range(12_000):
            walker = rng.choice(walkers)
            if cycle % 40:
                access, missed = walker.access(rng, cycle)
            else:
                access, missed = walker.tags | {"page": rng.getrandbits(46)}, True
            asked = await bench.cycle(ctx, access if rng.random() < 0.95 else None, missed)
            if asked:
                tags = {name: value for name, value in asked.items() if name != "page"}
                owner = next(walker for walker in walkers if walker.tags == tags)
                assert 0 <= asked["page"] - owner.page <= CFG.prefetch_pages
                assert asked["page"] not in owner.known or owner.known[asked["page"]] <= cycle + WALK
                owner.known.setdefault(asked["page"], cycle + WALK)

    simulate(bench.dut, testbench)
    pages, late = sum(walker.pages for walker in walkers), sum(walker.late for walker in walkers)
    print(f"{pages} pages, {late} late, {len(bench.asked)} asked for")
    assert pages > 100
    assert late < pages // 6
    assert len(bench.asked) < pages + len(walkers) * 2 * CFG.prefetch_pages


def test_a_stream_ends_where_no_page_may_follow(rng):
    """At a multiple of 512 GiB nothing is asked for, and without room for prefetches neither."""
    bench = Bench(rng)
    (walker,) = random_walkers(rng, 1)
    end = (walker.page >> REGION_BITS) + 1 << REGION_BITS

    async def testbench(ctx):
        for spare in (0, 1):
            walker.page = end - 12
            walker.known.clear()
            ctx.set(bench.dut.spare, spare)
            bench.asked.clear()
            while walker.page < end - 1:
                await bench.cycle(ctx, *walker.access(rng, bench.now))
            for _ in range(200):
                await bench.cycle(ctx, walker.tags | {"page": walker.page}, False)
            asked = [each["page"] for each in bench.asked]
            assert len(asked) == len(set(asked))
            assert bool(asked) == bool(spare)
            assert not spare or max(asked) == end - 1

    simulate(bench.dut, testbench)
