"""Runs the bench's self-test on its stand-in, with the narrowest and the widest memory port."""

import ast
from pathlib import Path

import pytest

from nestwalk.config import preset
from nestwalk_sim.rtl.run import run_tests

STAND_IN = "rtl.tests.stand_in:StandIn"


def coroutines_of(module: str) -> set[str]:
    """Names of the coroutines of a testbench that are marked as tests."""
    tree = ast.parse((Path(__file__).parent / f"{module}.py").read_text())
    return {node.name for node in tree.body if isinstance(node, ast.AsyncFunctionDef) and node.decorator_list}


@pytest.mark.parametrize("width", [128, 512])
def test_bench_on_stand_in(width: int, seed: int):
    cfg = preset("DEFAULT").replace(mem_data_width=width)
    passed = run_tests(cfg, "cocotb_tests.tb_bench", unit=STAND_IN, seed=seed)
    assert {name.rsplit(".", 1)[-1] for name in passed} == coroutines_of("tb_bench")
