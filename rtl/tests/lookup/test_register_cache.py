"""`RegisterCache`: the contract of `BlockCache`, all entries compared at once."""

import pytest

from nestwalk.config import preset
from nestwalk.lookup.register_cache import RegisterCache
from rtl.tests.lookup.cache_bench import CacheBench, CachePort
from rtl.tests.lookup.rules import EVERYTHING, PageRules

CFG = preset("FORMAL")


def make_bench(entries: int, rng) -> CacheBench:
    rules = PageRules(CFG, 18)
    return CacheBench(CachePort(RegisterCache(rules.format, entries), rules), rules, rng)


@pytest.mark.parametrize("entries", [1, 3, 8])
def test_random_traffic(entries, rng):
    bench = make_bench(entries, rng)

    async def testbench(ctx):
        for _ in range(8):
            await bench.churn(ctx, 20 * entries, fills=0.3, removals=0.0)
            await bench.check_everything_is_found(ctx)
            for _ in range(5):
                await bench.check_one_invalidation(ctx)
            await bench.churn(ctx, 200, fills=0.3, removals=0.05)
            await bench.check_everything_is_found(ctx)
            await bench.churn(ctx, 200, fills=0.9, removals=0.5)
            await bench.check_everything_is_found(ctx)

    bench.run(testbench)
    print(f"{bench.now} cycles, {bench.hits} hits, {bench.discarded} fills discarded, {bench.evicted} evicted")
    assert bench.hits > bench.now // 200
    assert bench.discarded
    assert bench.evicted


def test_keeps_as_many_entries_as_it_has(rng):
    entries = 4
    bench = make_bench(entries, rng)
    entry = bench.rules.random_entry(rng) | {"permissions": EVERYTHING, "page": 0}

    async def testbench(ctx):
        for page in range(entries):
            bench.offer_fill(ctx, entry | {"page": page})
            await bench.settle(ctx)
        assert bench.evicted == 0
        for page in range(entries, 3 * entries):
            bench.offer_fill(ctx, entry | {"page": page})
            await bench.settle(ctx)
        await bench.check_everything_is_found(ctx)

    bench.run(testbench)
    assert bench.evicted == 2 * entries
    # The oldest went first.
    assert sorted(tag[2] for tag, fills in bench.history.items() if fills) == list(range(2 * entries, 3 * entries))


def test_rewriting_an_entry_never_shows_half_of_it(rng):
    """The same key in every cycle while its entry is replaced: old, one miss for the cycle of the write, new."""
    bench = make_bench(2, rng)
    entry = bench.rules.random_entry(rng) | {"permissions": EVERYTHING, "pasid_valid": 0}

    async def testbench(ctx):
        for number in range(1, 20):  # the PASID is no tag of an entry of a request without
            bench.offer_fill(ctx, entry | {"pasid": number})
            for _ in range(rng.choice([5, 6, 7])):
                await bench.cycle(ctx, bench.rules.key_for(entry))

    bench.run(testbench)
    assert bench.hits == bench.now - bench.first_written(entry) - 1 - 18 - bench.port.latency
    assert bench.evicted == 0


def test_reset_forgets_everything(rng):
    bench = make_bench(4, rng)

    async def testbench(ctx):
        for moment in range(10):
            await bench.churn(ctx, 60, fills=0.5, removals=0.0)
            await bench.churn(ctx, 1 + moment, fills=0.5, removals=0.2)
            await bench.check_reset(ctx, 4)

    bench.run(testbench)
    assert bench.hits
