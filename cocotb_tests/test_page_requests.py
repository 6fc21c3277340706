"""Runs `tb_page_requests`: page requests at the ``ats`` port."""

from nestwalk.config import preset
from nestwalk_sim.rtl.run import run_tests


def test_page_requests(seed: int):
    environment = {"NESTWALK_PRESET": "DEFAULT", "NESTWALK_REQUESTS": "3000"}
    passed = run_tests(preset("DEFAULT"), "cocotb_tests.tb_page_requests", seed=seed, environment=environment)
    assert len(passed) == 8, passed
