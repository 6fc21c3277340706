"""Runs `tb_front`: AXI masters and memories of cocotbext-axi around the whole unit."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from cocotb_tools.runner import get_runner

from cocotb_tests.test_bench import coroutines_of
from nestwalk.config import preset
from nestwalk.verilog import convert
from nestwalk_sim.rtl.build import verilate
from rtl.tests.front.by_user import UnitByUser

BENCH, UNIT = "front_bench", "unit_by_user"


@pytest.mark.parametrize("name", ["TINY"])
def test_axi_ports_of_the_unit(name: str, seed: int, tmp_path: Path):
    text, ports = convert(UnitByUser(preset(name)), name=UNIT)
    # Python reaches the ports and nothing else, which lets Verilator optimize the rest.
    variables = [f"  logic [{port.width - 1}:0] {port.name} /*verilator public_flat_rw*/;" for port in ports]
    bench = "\n".join([f"module {BENCH};", *variables, f"  {UNIT} unit (.*);", "endmodule", ""])
    sources = {tmp_path / "unit.v": text, tmp_path / "bench.sv": bench}
    for path, content in sources.items():
        path.write_text(content)
    verilate(tmp_path, list(sources), BENCH, [])
    get_runner("verilator").test(
        test_module="cocotb_tests.tb_front",
        hdl_toplevel=BENCH,
        hdl_toplevel_lang="verilog",
        build_dir=tmp_path,
        test_dir=tmp_path,
        results_xml=str(tmp_path / "results.xml"),
        log_file=tmp_path / "log",
        extra_env={"NESTWALK_PRESET": name},
        seed=seed,
    )
    cases = list(ElementTree.parse(tmp_path / "results.xml").iter("testcase"))
    unhappy = {"failure", "error", "skipped"}
    passed = {case.get("name") for case in cases if not unhappy & {child.tag for child in case}}
    assert passed == coroutines_of("tb_front")
