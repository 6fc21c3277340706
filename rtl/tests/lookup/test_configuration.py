"""Context and PASID caches: function masks, legacy domains, entries of requests without PASID."""

import pytest

from nestwalk.config import CacheShape, preset
from nestwalk.lookup.block_cache import BlockCache
from rtl.tests.lookup.cache_bench import CacheBench, CachePort
from rtl.tests.lookup.rules import ContextRules, PasidRules

CFG = preset("FORMAL")


@pytest.mark.parametrize("rules", [ContextRules(CFG), PasidRules(CFG)], ids=["context", "pasid"])
def test_random_traffic(rules, rng):
    bench = CacheBench(CachePort(BlockCache(rules.format, CacheShape(sets=16, ways=2)), rules), rules, rng)

    async def testbench(ctx):
        for _ in range(40):
            await bench.churn(ctx, 100, fills=0.5, removals=0.0)
            await bench.check_everything_is_found(ctx)
            await bench.check_one_invalidation(ctx)
        await bench.churn(ctx, 400, fills=0.7, removals=0.1)
        await bench.check_everything_is_found(ctx)

    bench.run(testbench)
    print(f"{bench.now} cycles, {bench.hits} hits, {bench.discarded} fills discarded, {bench.evicted} evicted")
    assert bench.hits > bench.now // 50
