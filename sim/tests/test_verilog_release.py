"""`nestwalk verilog`: the release is the same each time and its sidecar tells the truth."""

import hashlib
import json
import re

import pytest

from nestwalk_sim.cli import main


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """Verilog text and sidecar of the TINY release."""
    path = tmp_path_factory.mktemp("release") / "tiny.v"
    assert main(["verilog", "--preset", "TINY", "-o", str(path)]) == 0
    return path.read_text(), json.loads(path.with_name("tiny.v.json").read_text())


def test_two_releases_are_equal(release, tmp_path):
    path = tmp_path / "again.v"
    assert main(["verilog", "--preset", "tiny", "-o", str(path)]) == 0
    assert path.read_text() == release[0]
    assert json.loads(path.with_name("again.v.json").read_text()) == release[1]


def test_the_sidecar_describes_the_text(release):
    text, sidecar = release
    assert sidecar["sha256"] == hashlib.sha256(text.encode()).hexdigest()
    assert sidecar["preset"] == "TINY"
    assert sidecar["parameters"]["walk_slots"] == 2
    _, _, module = text.partition(f"module {sidecar['module']}(")
    module, _, _ = module.partition("endmodule")
    declaration = re.compile(r"^  (input|output) (?:\[(\d+):0\] )?(\S+);", re.MULTILINE)
    declared = {name: (direction, int(high or 0) + 1) for direction, high, name in declaration.findall(module)}
    listed = {port["name"]: (port["direction"], port["width"]) for port in sidecar["ports"]}
    assert listed == declared
    assert {"clk", "rst"} <= listed.keys()


def test_the_release_has_no_machine_or_private_attributes(release):
    assert re.search(r"\(\* *(src|amaranth|generator)", release[0]) is None


def test_a_sidecar_that_cannot_be_written_leaves_no_text(tmp_path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "tiny.v.json").mkdir()
    assert main(["verilog", "--preset", "TINY", "-o", str(tmp_path / "tiny.v")]) == 2
    assert "tiny.v.json: is a directory" in capsys.readouterr().err
    assert not (tmp_path / "tiny.v").exists()
