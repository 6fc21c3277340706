"""Runs `tb_life`: random life through the AXI ports of the unit; ``make soak`` lives longer, with more of everybody."""

import os

from nestwalk.config import preset
from nestwalk_sim.rtl.run import run_tests

SHORT = {"PRESET": "TINY", "OPERATIONS": "600", "GUESTS": "2", "DEVICES": "2", "PROCESSES": "2", "FIRST_PART": "0"}
"""What is lived where the environment does not say otherwise."""


def test_host_random_life_over_the_ports(seed: int):
    """Deliverable 7: 0 wrong bytes, 0 leaks, auditor clean."""
    chosen = {name: os.environ.get(f"NESTWALK_LIFE_{name}", value) for name, value in SHORT.items()}
    environment = {f"NESTWALK_LIFE_{name}": value for name, value in chosen.items()}
    tests = run_tests(
        preset(chosen["PRESET"]), "cocotb_tests.tb_life", unit="nestwalk.unit:Unit", seed=seed, environment=environment
    )
    assert len(tests) == 1, tests
