"""Paging-structure caches and nested TLB: what each invalidation takes, and what the caches together answer."""

import pytest

from nestwalk.config import CacheShape, preset
from nestwalk.lookup.block_cache import BlockCache
from nestwalk.lookup.guest_caches import GuestCaches
from nestwalk.lookup.structure_caches import StructureCaches, TableLevel
from rtl.tests.lookup.cache_bench import CacheBench, CachePort
from rtl.tests.lookup.rules import GuestRules, StructureRules
from rtl.tests.simulation import send, simulate

CFG = preset("FORMAL")
FLUSH = 20
"""Cycles after which caches of 16 rows are ready."""


@pytest.mark.parametrize(
    "rules",
    [StructureRules(CFG, 1), StructureRules(CFG, 2), GuestRules(CFG, 0), GuestRules(CFG, 9)],
    ids=["tables-1", "tables-2", "nested-tlb", "second-stage-tables"],
)
def test_random_traffic(rules, rng):
    bench = CacheBench(CachePort(BlockCache(rules.format, CacheShape(sets=64, ways=1)), rules), rules, rng)

    async def testbench(ctx):
        await bench.churn(ctx, 400, fills=0.5, removals=0.0)
        await bench.check_everything_is_found(ctx)
        for _ in range(20):
            await bench.check_one_invalidation(ctx)
            await bench.churn(ctx, 20, fills=0.5, removals=0.0)
            await bench.check_everything_is_found(ctx)
        await bench.churn(ctx, 400, fills=0.5, removals=0.05)
        await bench.check_everything_is_found(ctx)

    bench.run(testbench)
    print(f"{bench.now} cycles, {bench.hits} hits, {bench.discarded} fills discarded, {bench.evicted} evicted")
    assert bench.hits > bench.now // 50


def test_the_lowest_table_is_preferred(rng):
    shape = CacheShape(sets=16, ways=1)
    dut = StructureCaches(CFG.replace(structure_cache_1=shape, structure_cache_2=shape))
    page = 0x1234_5678
    tags = {"source_id": 0x100, "pasid_valid": 1, "pasid": 7}

    async def look_up(ctx, at: int):
        ctx.set(dut.key, tags | {"page": at})
        await ctx.tick().repeat(dut.LATENCY - 1)
        hint = ctx.get(dut.hint.level), ctx.get(dut.hint.table)
        ctx.set(dut.space, {"domain_id": 3, "pasid": 8})
        await ctx.tick()
        assert not ctx.get(dut.hit), "a table of another address space"
        ctx.set(dut.space, {"domain_id": 3, "pasid": 7})
        return hint if ctx.get(dut.hit) else None

    async def testbench(ctx):
        await ctx.tick().repeat(FLUSH)
        assert await look_up(ctx, page) is None
        entry = tags | {"page": page, "domain_id": 3}
        await send(ctx, dut.fill, {"level": TableLevel.LEVEL_2, "entry": entry | {"table": 0x22}})
        await ctx.tick()
        assert await look_up(ctx, page) == (TableLevel.LEVEL_2, 0x22)
        await send(ctx, dut.fill, {"level": TableLevel.LEVEL_1, "entry": entry | {"table": 0x11}})
        await ctx.tick()
        assert await look_up(ctx, page ^ 0x1FF) == (TableLevel.LEVEL_1, 0x11)
        assert await look_up(ctx, page ^ 0x200) == (TableLevel.LEVEL_2, 0x22)
        assert await look_up(ctx, page ^ 0x40000) is None

    simulate(dut, testbench)


def test_guest_caches_answer_with_the_entry_that_leads_on(rng):
    shapes = ("nested_tlb", "second_stage_cache_1", "second_stage_cache_2")
    dut = GuestCaches(CFG.replace(**dict.fromkeys(shapes, CacheShape(sets=16, ways=1))))
    page = 0x5_6789

    async def look_up(ctx, at: int):
        ctx.set(dut.key, {"domain_id": 3, "page": at})
        await ctx.tick().repeat(dut.LATENCY)
        names = ("leaf", "level", "target", "read", "write")
        return tuple(ctx.get(getattr(dut, name)) for name in names) if ctx.get(dut.hit) else None

    async def testbench(ctx):
        await ctx.tick().repeat(FLUSH)
        fill = {"domain_id": 3, "page": page}
        # A table of level 2 is what an entry of level 3 leads to, and so on; a leaf is its own entry.
        await send(ctx, dut.fill, fill | {"level": 2, "target": 0x22})
        await ctx.tick()
        assert await look_up(ctx, page) == (0, 3, 0x22, 1, 1)
        await send(ctx, dut.fill, fill | {"level": 1, "target": 0x11})
        await ctx.tick()
        assert await look_up(ctx, page) == (0, 2, 0x11, 1, 1)
        await send(ctx, dut.fill, fill | {"level": 0, "target": 0x400, "read": 1, "write": 0, "size": 1})
        await ctx.tick()
        assert await look_up(ctx, page) == (1, 2, 0x400, 1, 0)
        assert await look_up(ctx, page ^ 1) == (0, 2, 0x11, 1, 1)
        assert await look_up(ctx, page ^ 0x200) == (0, 3, 0x22, 1, 1)
        assert await look_up(ctx, page ^ 0x40000) is None

    simulate(dut, testbench)
