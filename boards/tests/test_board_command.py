"""`nestwalk board --ooc` on the whole unit: the smallest preset, one placer seed."""

import json
import re

import pytest

from boards import board
from nestwalk_sim.cli import main

LUTS_OF_THE_25F = 24_288


def test_tiny_is_placed_and_its_figures_are_complete(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["board", "ulx3s_85f", "--ooc", "--preset", "TINY", "--seeds", "1", "--json", "figures.json"]
    assert main(words) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert (figures["board"], figures["preset"], figures["bitstream"]) == ("ulx3s_85f", "TINY", None)
    assert figures["seeds"] == [1]
    assert figures["target_mhz"] == board("ulx3s_85f").target_mhz
    assert 1_000 < figures["lut4"] < LUTS_OF_THE_25F
    assert figures["ff"] > 1_000
    assert figures["bram"] >= 0
    path = figures["critical_path"]
    assert sum(leg["delay_ns"] for leg in path) == pytest.approx(1000 / figures["fmax_mhz"], rel=0.01)
    sources = [leg["source"] for leg in path if leg["source"]]
    assert sources
    assert [source for source in sources if not re.fullmatch(r"\S+\.py:\d+", source)] == []
