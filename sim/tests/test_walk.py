"""`nestwalk walk`: every entry in order, decoded, with the verdict."""

import json

import pytest

from nestwalk_sim.capture import find_capture, load_capture
from nestwalk_sim.cli import main

NESTED = ["walk", "nest48", "a0:30", "0x71681d32ac0d"]


def test_a_nested_walk_entry_by_entry(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    path = tmp_path / "walk.json"
    assert main([*NESTED, "--json", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "nest48, boot: SID 0x00a0 PASID 30, read 0x71681d32ac0d"
    assert lines[-1] == "granted: host address 0x1722c9c0d, 4 KiB page, permissions rw (nested)"
    steps = json.loads(path.read_text())["steps"]
    assert len(steps) == len(lines) - 3 == 28
    assert [step["structure"] for step in steps[:9]] == [
        "root entry",
        "context entry",
        "PASID directory entry",
        "PASID table entry",
        "SS-PML4E",
        "SS-PDPE",
        "SS-PDE",
        "SS-PTE",
        "PML4E",
    ]
    entry, top = steps[3]["fields"], steps[8]
    assert (entry["PGTT"], entry["DID"], entry["FSPTPTR"]) == ("3", "11", top["guest_address"][:-3] + "000")
    assert int(top["address"], 16) == int(steps[7]["fields"]["ADDR"], 16) | int(top["guest_address"], 16) & 0xFFF
    assert [step["guest_address"] is not None for step in steps].count(True) == 4


def test_a_write_shows_its_update_and_a_fault_its_condition(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    assert main(["walk", "fl48_pasid", "0xa0:1", "7f64b81a83b2", "--write", "--phase", "new-mappings"]) == 0
    assert "update PTE" in capsys.readouterr().out.splitlines()[-2]
    assert main(["walk", "leg48", "30", "0x1000077ac"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "blocked: fault 06h, LGN.3: no read permission; recorded"


def test_phases_by_number_and_by_name_are_the_same(capsys):
    outputs = []
    for phase in ("2", "after-invalidation"):
        assert main([*NESTED, "--phase", phase]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]
    assert "after-invalidation" in outputs[0]


def test_a_walk_of_each_probe_ends_as_the_capture_says(tmp_path, rng):
    capture = load_capture(find_capture("sl48"))
    path = tmp_path / "walk.json"
    for probe in rng.sample(capture.phases[2].probes, 25):
        request = probe.request
        words = ["walk", "sl48", f"{request.source_id:x}", hex(request.address), "--phase", "3", "--json", str(path)]
        assert main(words + ["--write"] * request.access) == 0
        told = json.loads(path.read_text())
        assert told["granted"] == probe.granted
        assert told["host_address" if probe.granted else "fault"] == hex(probe.host_address or probe.fault or 0)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["walk", "nest48", "xyz", "0"], "SID 'xyz' is not a hexadecimal number"),
        (["walk", "nest48", "10000", "0"], "SID 10000 does not fit into 16 bits"),
        (["walk", "nest48", "a0:0x1e", "0"], "PASID '0x1e' is not a decimal number"),
        (["walk", "nest48", "a0:", "0"], "PASID '' is not a decimal number"),
        (["walk", "nest48", "a0", "1" + "0" * 16], "does not fit into 64 bits"),
        (["walk", "nest48", "a0", "0", "--phase", "3"], "nest48 has no phase 3: give 1 to 2 or one of boot"),
        (["walk", "nest48", "a0", "0", "--phase", "0"], "nest48 has no phase 0"),
        (["walk", "nest48", "a0", "0", "--preset", "NONE"], "unknown preset 'NONE'"),
        (["walk", "nowhere", "a0", "0"], "there is no capture nowhere"),
    ],
)
def test_what_a_walk_cannot_find(words, told, capsys):
    assert main(words) == 2
    output = capsys.readouterr()
    assert (output.out, output.err.count("\n")) == ("", 1)
    assert told in output.err
