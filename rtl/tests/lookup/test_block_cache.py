"""`BlockCache` in shapes with and without probing, with any traffic around each look-up."""

from itertools import product

import pytest
from amaranth.hdl import Value

from nestwalk.config import CacheShape, preset
from nestwalk.invalidation.command import Scope
from nestwalk.lookup.block_cache import BlockCache
from nestwalk.lookup.register_cache import RegisterCache
from rtl.tests.lookup.cache_bench import CacheBench, CachePort
from rtl.tests.lookup.rules import EVERYTHING, SOURCE_IDS, PageRules
from rtl.tests.simulation import send, simulate

CFG = preset("FORMAL")


def make_bench(shape: CacheShape, shift: int, rng) -> CacheBench:
    rules = PageRules(CFG, shift)
    return CacheBench(CachePort(BlockCache(rules.format, shape), rules), rules, rng)


@pytest.mark.parametrize(
    ("sets", "ways", "shift"),
    [(128, 2, 0), (64, 1, 9), (8, 2, 0), (2, 4, 9)],
    ids=["probing", "probing-2m", "crowded", "tiny"],
)
def test_random_traffic(sets, ways, shift, rng):
    bench = make_bench(CacheShape(sets=sets, ways=ways), shift, rng)

    async def testbench(ctx):
        for _ in range(2):
            await bench.churn(ctx, 6 * sets + 300, fills=0.3, removals=0.0)
            await bench.check_everything_is_found(ctx)
            for _ in range(15):
                await bench.check_one_invalidation(ctx)
            await bench.churn(ctx, 500, fills=0.5, removals=0.02)
            await bench.check_everything_is_found(ctx)
            await bench.churn(ctx, 300, fills=0.9, removals=0.5)
            await bench.check_everything_is_found(ctx)

    bench.run(testbench)
    print(f"{bench.now} cycles, {bench.hits} hits, {bench.discarded} fills discarded, {bench.evicted} evicted")
    assert bench.hits > bench.now // 50
    assert bench.discarded
    assert bench.evicted


@pytest.mark.parametrize("shift", [0, 9])
def test_probes_all_pages_under_an_address_mask(shift, rng):
    """Neighbours of one address space, with and without PASID; a mask of few pages is probed, of many scanned."""
    bench = make_bench(CacheShape(sets=128, ways=2), shift, rng)
    rules = bench.rules
    spans: dict[int, int] = {}

    async def testbench(ctx):
        for log2 in (0, 1, 2, 3, 1):
            like = rules.random_entry(rng) | {"permissions": EVERYTHING, "first_stage": 1}
            for page, source_id in product(range(8), SOURCE_IDS[:3]):  # too many for the first way alone
                tags = {"page": like["page"] & ~7 | page, "pasid_valid": page >> 1 & 1, "source_id": source_id}
                bench.offer_fill(ctx, like | tags)
                await bench.settle(ctx)
            aimed = {"iotlb": 1, "scope": Scope.PAGE_IN_PASID, "address_mask": log2 and shift + log2, "page": 0}
            bench.offer_invalidation(ctx, rules.aim(aimed, like))
            offered = bench.now
            await bench.settle(ctx)
            spans[log2] = bench.removed - offered
            await bench.check_everything_is_found(ctx)

    bench.run(testbench)
    assert bench.lost < 10
    assert spans[0] < spans[1] < 100 < spans[3]  # cycles


def test_rewriting_an_entry_never_shows_half_of_it(rng):
    """The same key in every cycle while its entry is replaced: old, one miss for the cycle of the write, new."""
    bench = make_bench(CacheShape(sets=4, ways=2), 0, rng)
    entry = bench.rules.random_entry(rng) | {"permissions": EVERYTHING}
    key = bench.rules.key_for(entry)

    async def testbench(ctx):
        for number in range(1, 20):
            bench.offer_fill(ctx, entry | {"host_page": number})
            for _ in range(rng.choice([12, 13, 14])):
                await bench.cycle(ctx, key)

    bench.run(testbench)
    # The first fill waits for the flush; each of the others costs one look-up.
    assert bench.hits == bench.now - bench.first_written(entry) - 1 - 18 - bench.port.latency
    assert bench.evicted == 0


def test_reset_forgets_everything(rng):
    rows = 8
    bench = make_bench(CacheShape(sets=rows, ways=2), 0, rng)

    async def testbench(ctx):
        for moment in range(12):
            await bench.churn(ctx, 100, fills=0.5, removals=0.0)
            await bench.churn(ctx, 1 + moment, fills=0.5, removals=0.2)
            await bench.check_reset(ctx, rows)
            before = bench.hits
            await bench.churn(ctx, 60, fills=0.5, removals=0.01)
            await bench.check_everything_is_found(ctx)
            assert bench.hits > before

    bench.run(testbench)
    assert bench.forgotten > 0


def test_a_fill_that_waits_when_an_invalidation_comes_never_survives_it(rng):
    """Offered one cycle after the invalidation it is discarded; offered before, it is written and then cleared."""
    bench = make_bench(CacheShape(sets=8, ways=2), 0, rng)

    async def testbench(ctx):
        await bench.churn(ctx, 20, fills=0.5, removals=0.0)
        for distance in (-1, 0, 1, 2, 3, 4, 5, -1):
            await bench.settle(ctx)
            entry = bench.rules.random_entry(rng) | {"permissions": EVERYTHING}
            discarded = bench.discarded
            if distance >= 0:
                bench.offer_fill(ctx, entry)
            for _ in range(distance):
                await bench.cycle(ctx)
            bench.offer_invalidation(ctx, {"iotlb": 1, "scope": Scope.GLOBAL})
            if distance < 0:
                await bench.cycle(ctx)
                bench.offer_fill(ctx, entry)
            await bench.settle(ctx)
            for _ in range(bench.port.latency + 1):
                await bench.cycle(ctx, bench.rules.key_for(entry))
            assert bench.discarded - discarded == (distance < 0)

    bench.run(testbench)
    assert bench.discarded >= 2


async def find(ctx, dut, key: dict) -> int | None:
    """The way, or for a cache in registers the entry, that answers ``key``."""
    ctx.set(dut.key, key)
    await ctx.tick().repeat(dut.LATENCY)
    if isinstance(dut, RegisterCache):
        tags = [Value.cast(entry[name]) for entry in dut._entries for name in ("valid", "page")]
        found = [ctx.get(tag) for tag in tags]
        held = [page == key["page"] for valid, page in zip(found[::2], found[1::2], strict=True) if valid]
        assert sum(held) == ctx.get(dut.way_hit)
        return held.index(True) if any(held) else None
    ways = ctx.get(dut.way_hit)
    assert ways & (ways - 1) == 0
    return ways.bit_length() - 1 if ways else None


def allowed_ways(masks: list[int], domain_id: int, ways: int) -> set[int]:
    """The ways that a domain's entries may take."""
    mask = masks[domain_id % len(masks)] or 0b1111
    return {way for way in range(ways) for bit in range(4) if mask >> bit & 1 and bit * ways // 4 == way}


@pytest.mark.parametrize("ways", [1, 2, 4, "registers"])
def test_a_fill_replaces_only_what_its_domain_may(ways, rng):
    """After each fill everything is where it was, but for what the fill replaced in a way that its domain may use."""
    cache_format = PageRules(CFG, 0).format
    if ways == "registers":
        ways, sets = 4, 1
        dut = RegisterCache(cache_format, 4, partitioned=True)
    else:
        sets = 4
        dut = BlockCache(cache_format, CacheShape(sets=sets, ways=ways), partitioned=True)
    places: dict[int, int] = {}
    used: set[tuple[int, int]] = set()
    kept = lost = 0

    def key(page: int) -> dict:
        return {"source_id": 7, "page": page, "privileged": 1}

    async def testbench(ctx):
        nonlocal kept, lost
        await ctx.tick().repeat(sets + 4)
        masks = [0, 0, 0, 0]
        for step in range(300):
            if step % 50 == 0:
                masks = [rng.randrange(16) for _ in masks] if step % 100 else [rng.choice([3, 12]) for _ in masks]
                ctx.set(Value.cast(dut.partitions), sum(mask << 4 * number for number, mask in enumerate(masks)))
                await ctx.tick().repeat(2)
            page, domain_id = rng.randrange(64 * sets), rng.randrange(16)
            tags = {"source_id": 7, "page": page, "domain_id": domain_id, "permissions": EVERYTHING}
            await send(ctx, dut.fill, tags | {"host_page": page})
            await ctx.tick().repeat(2)
            way = await find(ctx, dut, key(page))
            assert way is not None
            allowed = allowed_ways(masks, domain_id, ways)
            assert way in allowed or way == places.get(page)
            before = dict(places)
            for other, place in before.items():
                now = await find(ctx, dut, key(other)) if other != page else way
                if now is None:
                    assert place == way
                    assert page not in before, "what replaces its own key evicts nothing"
                    lost += 1
                    del places[other]
                else:
                    assert now == place
                    kept += 1
            assert len(before) - len(places) <= 1
            places[page] = way
            used.add((way, domain_id % 4))

    simulate(dut, testbench, limit=500_000)
    assert lost > 30
    assert kept > 300
    assert len(used) == 4 * ways
