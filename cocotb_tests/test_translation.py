"""Runs `tb_translation`: random translations on the hardware against the golden model."""

import pytest

from nestwalk.config import preset
from nestwalk_sim.rtl.run import run_tests


@pytest.mark.parametrize(("name", "cold", "warm"), [("DEFAULT", 20_000, 20_000), ("TINY", 4_000, 8_000)])
def test_translations_agree_with_the_model(name: str, cold: int, warm: int, seed: int):
    environment = {"NESTWALK_PRESET": name, "NESTWALK_COLD": str(cold), "NESTWALK_WARM": str(warm)}
    passed = run_tests(preset(name), "cocotb_tests.tb_translation", seed=seed, environment=environment)
    assert [test.rsplit(".", 1)[-1] for test in passed] == ["cold_walks", "warm_traffic"]
