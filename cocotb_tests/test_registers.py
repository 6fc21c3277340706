"""Runs `tb_registers`: random accesses to all registers, compared with the register model."""

import json

import pytest

from nestwalk.config import preset
from nestwalk_sim.rtl.run import run_tests


@pytest.mark.parametrize(
    ("name", "changes", "actions"),
    [("DEFAULT", {}, 6000), ("TINY", {"version_major": 5, "virtual_command_pasids": 128}, 4000)],
    ids=["DEFAULT", "TINY"],
)
def test_registers_are_the_model_s(name: str, changes: dict, actions: int, seed: int):
    environment = {
        "NESTWALK_PRESET": name,
        "NESTWALK_CHANGES": json.dumps(changes),
        "NESTWALK_ACTIONS": str(actions),
    }
    passed = run_tests(preset(name).replace(**changes), "cocotb_tests.tb_registers", seed=seed, environment=environment)
    tests = ["random_accesses"] + ["performance_counters"] * preset(name).performance_monitoring
    assert [test.rsplit(".", 1)[-1] for test in passed] == tests
