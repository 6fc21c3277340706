"""Runs `tb_host`: the host stack on the hardware."""

import pytest

from nestwalk.config import PRESETS
from nestwalk_sim.cli import main
from nestwalk_sim.rtl.run import run_tests


def test_host_stack_on_the_hardware(seed: int):
    tests = run_tests(PRESETS["DEFAULT"], "cocotb_tests.tb_host", seed=seed)
    assert len(tests) == 6, tests


def test_host_demo_on_the_hardware(capsys: pytest.CaptureFixture[str]):
    assert main(["demo", "--requests", "100"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("PASS: ")
