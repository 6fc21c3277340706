"""Runs `tb_queue`: random streams of descriptors against the queue model."""

import pytest

from cocotb_tests.test_invalidation import CROWDED
from nestwalk.config import preset
from nestwalk_sim.rtl.run import run_tests


@pytest.mark.parametrize(
    ("name", "changes", "descriptors"),
    [("DEFAULT", CROWDED, 40_000), ("TINY", {}, 30_000)],
    ids=["crowded", "TINY"],
)
def test_the_queue_is_the_model_s(name: str, changes: dict, descriptors: int, seed: int):
    environment = {"NESTWALK_PRESET": name, "NESTWALK_DESCRIPTORS": str(descriptors)}
    passed = run_tests(preset(name).replace(**changes), "cocotb_tests.tb_queue", seed=seed, environment=environment)
    assert [test.rsplit(".", 1)[-1] for test in passed] == ["random_descriptors"]
