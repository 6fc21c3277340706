"""Runs `tb_invalidation`: tables that change under traffic, and the invalidations that cover the changes."""

import pytest

from nestwalk.config import CacheShape, preset
from nestwalk_sim.rtl.run import run_tests

SMALL, TINY = CacheShape(sets=16, ways=2), CacheShape(sets=16, ways=1)
CROWDED = {
    "iotlb_4k": CacheShape(sets=64, ways=2),
    "iotlb_2m": SMALL,
    "iotlb_1g_entries": 2,
    "context_cache": CacheShape(sets=4, ways=2),
    "pasid_cache": SMALL,
    "structure_cache_1": SMALL,
    "structure_cache_2": TINY,
    "nested_tlb": SMALL,
    "second_stage_cache_1": SMALL,
    "second_stage_cache_2": TINY,
    "line_buffer_lines": 4,
}
"""Caches that are soon full and soon swept: ten thousand interleavings in a minute or two."""

MERGING = {
    "walk_slots": 8,
    "waiting_misses": 64,
    "prefetch_streams": 8,
    "iotlb_4k": SMALL,
    "structure_cache_1": TINY,
    "nested_tlb": TINY,
}
"""Misses that wait for each other, pages that are fetched ahead, and few that stay."""


@pytest.mark.parametrize(
    ("name", "changes", "edits"),
    [("DEFAULT", CROWDED, 10_000), ("DEFAULT", {}, 500), ("TINY", {}, 500), ("TINY", MERGING, 5_000)],
    ids=["crowded", "DEFAULT", "TINY", "merging"],
)
def test_answers_are_sound_while_tables_change(name: str, changes: dict, edits: int, seed: int):
    environment = {"NESTWALK_PRESET": name, "NESTWALK_EDITS": str(edits)}
    cfg = preset(name).replace(**changes)
    passed = run_tests(cfg, "cocotb_tests.tb_invalidation", seed=seed, environment=environment)
    assert [test.rsplit(".", 1)[-1] for test in passed] == ["scalable_tables_change", "legacy_tables_change"]
