"""Runs `tb_adversity`: memory that fails or changes at the worst moment."""

import pytest

from nestwalk.config import preset
from nestwalk_sim.rtl.run import run_tests


@pytest.mark.parametrize("name", ["DEFAULT", "TINY"])
def test_failing_memory(name: str, seed: int):
    passed = run_tests(preset(name), "cocotb_tests.tb_adversity", seed=seed, environment={"NESTWALK_PRESET": name})
    assert len(passed) == 12, passed
