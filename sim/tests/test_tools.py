"""Tools are found without an activated environment, and what is missing is told in one line."""

import subprocess
import sys

import pytest

from nestwalk_sim import tools
from nestwalk_sim.errors import ToolFailed, ToolMissing


def test_verilator_runs_with_the_environment_alone(tmp_path):
    source = tmp_path / "top.v"
    source.write_text("module top(input a, output b); assign b = c; endmodule\n")
    command = ["verilator", "--lint-only", str(source)]
    done = subprocess.run(command, env=tools.environment(), capture_output=True, text=True, check=False)
    assert "Can't find definition of variable: 'c'" in done.stderr


def test_every_tool_is_found_beside_the_interpreter(monkeypatch, tmp_path):
    for name in ("YOSYS", "NEXTPNR_ECP5", "ECPPACK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = [tools.yosys(), tools.nextpnr_ecp5(), tools.ecppack(), *tools.sby()[0::2]]
    assert {str(tools.SCRIPTS)} == {path.rpartition("/")[0] for path in found}


def test_a_machine_without_compiler_make_and_perl_is_told_so_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ToolMissing, match=r"^this machine lacks a C\+\+ compiler \(Debian: g\+\+\), make, perl$"):
        tools.check_compiler()


def test_a_failed_run_quotes_the_cause_and_names_the_log(tmp_path):
    log = tmp_path / "log"
    script = "print('Error: no such cell'); print('leaving'); raise SystemExit(3)"
    with pytest.raises(ToolFailed, match="placement failed with status 3: Error: no such cell .*log"):
        tools.run([sys.executable, "-c", script], what="placement", log=log)
    assert log.read_text() == "Error: no such cell\nleaving\n"
