"""Runs `tb_registers`: random accesses to all registers, compared with the register model."""

import pytest

from nestwalk.config import preset
from nestwalk_sim.rtl.run import run_tests


@pytest.mark.parametrize(("name", "actions"), [("DEFAULT", 10_000), ("TINY", 5_000)])
def test_registers_are_the_model_s(name: str, actions: int, seed: int):
    environment = {"NESTWALK_PRESET": name, "NESTWALK_ACTIONS": str(actions)}
    passed = run_tests(preset(name), "cocotb_tests.tb_registers", seed=seed, environment=environment)
    assert len(passed) == 1, passed
