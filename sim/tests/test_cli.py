"""The command line: what a person and a script can rely on, whatever the sub-command."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nestwalk_sim.cli import COMMANDS, OPEN, main

NESTWALK = Path(sys.executable).with_name("nestwalk")


def run(*words: str, **environment: str) -> subprocess.CompletedProcess:
    env = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **environment}
    return subprocess.run([NESTWALK, *words], capture_output=True, text=True, env=env, check=False)


def test_help_lists_every_command_and_imports_none():
    listed = run("--help", PYTHONPROFILEIMPORTTIME="1", COLUMNS="200")
    assert listed.returncode == 0
    assert [name for name in [*COMMANDS, *OPEN] if f" {name} " not in listed.stdout] == []
    assert "amaranth" not in listed.stderr


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (["nix"], 2, "No such command 'nix'"),
        (["verilog"], 2, "'-o'"),
        (["verilog", "-o", "never.v", "--preset", "HUGE"], 2, "unknown preset 'HUGE': choose one of DEFAULT"),
        (["board", "arty", "--ooc"], 2, "unknown board 'arty': choose one of ulx3s_85f"),
        (["board", "ulx3s_85f"], 1, "On an FPGA"),
        (["sweep", "--json", "never.json"], 1, "In its users' hands"),
    ],
)
def test_a_mistake_gets_one_line_and_its_status(words, status, told, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == status
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("nestwalk: ")
    assert told in output.err
    assert output.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
