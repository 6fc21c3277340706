"""Invalidations that meet walks at every moment: nothing stale, nothing mixed, nothing hung, at both ports.

All timings take most of an hour; each run draws some of every row. ``NESTWALK_RACES`` is the share that is drawn.
"""

import os

import pytest

from cocotb_tests.test_invalidation import CROWDED
from nestwalk.config import preset
from nestwalk_sim.bench.races.arena import SHAPES
from nestwalk_sim.bench.races.sweep import Found
from nestwalk_sim.bench.races.workload import Races, sweep
from nestwalk_sim.model import model_preset

SHARE = float(os.environ.get("NESTWALK_RACES", "0.02"))
ROWS = {"core": 594, "axi": 499}
IN_WALK = {"second_page_1", "second_table4_4", "second_table1_1", "first_1", "first_4", "pasid", "directory", "context"}


def check_harmless(found: dict[str, Found]):
    """Every answer was that of the old tables or of the new ones, and of the new ones after the wait."""
    wrong = [problem for row in found.values() for problem in row.problems]
    assert wrong == [], "\n".join(wrong[:5])
    assert all(row.timings for row in found.values())
    assert not any(row.stale or row.mixed or row.hung for row in found.values())


@pytest.mark.parametrize(
    ("name", "changes", "port"), [("DEFAULT", CROWDED, "core"), ("TINY", {}, "core"), ("DEFAULT", {}, "axi")],
    ids=["crowded", "TINY", "axi"],
)  # fmt: skip
def test_invalidations_meet_walks(name: str, changes: dict, port: str, seed: int):
    found = sweep(preset(name).replace(**changes), model_preset(name), port, seed, SHARE)
    check_harmless(found)
    assert len(found) == ROWS[port]
    # Requests in flight met the tables both ways.
    assert min(sum(getattr(row, kind) for row in found.values()) for kind in ("old", "new")) > len(found) // 4


def test_stale_answers_are_found(seed: int):
    """Invalidations of another requester leave the page as it was, and the sweep says so, for every entry of a walk."""
    shapes = tuple(shape for shape in SHAPES if shape.name == "nested_4k")
    cfg = preset("DEFAULT").replace(**CROWDED)
    found = sweep(cfg, model_preset("DEFAULT"), "core", seed, 0.02, shapes=shapes, uncovered=True)
    stale = {name.split(".")[1] for name, row in found.items() if row.stale}
    assert stale > IN_WALK
    assert not any(row.mixed or row.hung for row in found.values())
    assert all(row.problems for row in found.values() if row.stale)


def test_unrelated_invalidations_amid_misses(seed: int):
    """Reads and writes go on under an invalidation every 200 to 1000 cycles."""
    figures = Races(sample=0, shapes=SHAPES[:1], pages=4096).measure("DEFAULT", seed).figures
    for port in ROWS:
        assert figures[f"{port}_stream_invalidations"] > 50
        # One that has to read all rows of a cache holds new walks back for about a thousand cycles, and some may queue.
        assert max(figures[f"{port}_stream_longest_gap_{kind}"] for kind in ("reads", "writes")) < 5000
