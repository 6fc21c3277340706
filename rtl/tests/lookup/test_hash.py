"""Row hashes: consecutive pages and all spreads in rows of their own, no key bit ignored, ways that differ."""

from collections import Counter

import pytest
from amaranth.hdl import Cat, Module, Signal
from amaranth.sim import Simulator

from nestwalk.lookup.hash import SPREAD_BITS, digest, fold, row_index

KEY_BITS = 67
"""A 4 KiB page, a PASID and its valid bit."""

WAYS = 4


def rows_of(index_bits: int, keys: list[tuple[int, int]]) -> list[tuple[int, ...]]:
    """The row in each way for each key, given as (hashed, spread)."""
    module = Module()
    hashed, spread = Signal(KEY_BITS), Signal(min(SPREAD_BITS, index_bits))
    mixed = Signal(2 * index_bits)
    rows = [Signal(index_bits) for _ in range(WAYS)]
    module.d.comb += mixed.eq(digest(hashed, index_bits=index_bits))
    for way, row in enumerate(rows):
        index = row_index(mixed, spread, way=way, index_bits=index_bits)
        assert len(index) == index_bits
        module.d.comb += row.eq(index)
    found = []

    async def testbench(ctx):
        for key, spread_value in keys:
            ctx.set(Cat(hashed, spread), key | spread_value << KEY_BITS)
            found.append(tuple(ctx.get(row) for row in rows))

    simulator = Simulator(module)
    simulator.add_testbench(testbench)
    simulator.run()
    return found


@pytest.mark.parametrize("index_bits", [1, 3, 5, 7, 8])
def test_an_aligned_block_of_pages_fills_every_row_of_a_way(index_bits, rng):
    base = rng.getrandbits(KEY_BITS) >> index_bits << index_bits
    spread = rng.getrandbits(min(SPREAD_BITS, index_bits))
    found = rows_of(index_bits, [(base + page, spread) for page in range(1 << index_bits)])
    for way in range(WAYS):
        assert sorted(row[way] for row in found) == list(range(1 << index_bits))


@pytest.mark.parametrize("index_bits", [1, 2, 4, 5, 8])
def test_spreads_lie_in_rows_of_their_own(index_bits, rng):
    key = rng.getrandbits(KEY_BITS)
    count = 1 << min(SPREAD_BITS, index_bits)
    found = rows_of(index_bits, [(key, spread) for spread in range(count)])
    for way in range(WAYS):
        assert len({row[way] for row in found}) == count


@pytest.mark.parametrize("index_bits", [4, 7, 9])
def test_every_key_bit_matters_and_the_rows_add_up(index_bits, rng):
    """The hash is linear, as the probes of an invalidation rely on nothing but equal inputs in equal rows."""
    bits = [(1 << position, 0) for position in range(KEY_BITS)]
    bits += [(0, 1 << position) for position in range(min(SPREAD_BITS, index_bits))]
    by_bit = rows_of(index_bits, bits)
    assert all(sum(row != 0 for row in rows) >= 2 for rows in by_bit)
    keys = [(rng.getrandbits(KEY_BITS), rng.getrandbits(min(SPREAD_BITS, index_bits))) for _ in range(50)]
    for (hashed, spread), rows in zip(keys, rows_of(index_bits, keys), strict=True):
        combined = [0] * WAYS
        for position, contribution in enumerate(by_bit):
            if (hashed | spread << KEY_BITS) >> position & 1:
                combined = [a ^ b for a, b in zip(combined, contribution, strict=True)]
        assert tuple(combined) == rows


def test_keys_that_collide_in_one_way_spread_over_another(rng):
    index_bits = 8
    found = rows_of(index_bits, [(rng.getrandbits(KEY_BITS), rng.getrandbits(4)) for _ in range(4000)])
    crowded, _ = Counter(rows[0] for rows in found).most_common(1)[0]
    for way in range(1, WAYS):
        together = [rows[way] for rows in found if rows[0] == crowded]
        assert len(set(together)) > len(together) / 2


def test_fold_keeps_the_lowest_bits_and_loses_none():
    value = Signal(16)
    module = Module()
    folded = Signal(16)
    module.d.comb += folded.eq(fold(value, SPREAD_BITS))
    results = []

    async def testbench(ctx):
        for number in [*range(1 << SPREAD_BITS), *(1 << position for position in range(16))]:
            ctx.set(value, number)
            results.append(ctx.get(folded))

    simulator = Simulator(module)
    simulator.add_testbench(testbench)
    simulator.run()
    assert results[: 1 << SPREAD_BITS] == list(range(1 << SPREAD_BITS))
    assert results[1 << SPREAD_BITS :] == [1 << position % SPREAD_BITS for position in range(16)]
