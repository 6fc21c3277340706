"""`nestwalk demo` on the model: what it prints and stores, and how it fails."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from nestwalk_sim.capture import CAPTURES, load_capture
from nestwalk_sim.cli import main
from nestwalk_sim.demo import check
from nestwalk_sim.demo.thin import thin
from nestwalk_sim.host.audit import Auditor
from nestwalk_sim.model import Mode, Permissions
from nestwalk_sim.model_unit import unit


def test_host_demo_passes_and_stores_what_it_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    target = tmp_path / "demo.json"
    assert main(["demo", "--engine", "model", "--requests", "50", "--json", str(target)]) == 0
    shown = capsys.readouterr().out
    stored = json.loads(target.read_text())
    assert shown.splitlines()[-1].startswith("PASS: ")
    assert stored["holds"] is True
    names = {path.name for path in CAPTURES.iterdir() if path.is_dir()}
    assert {capture["capture"] for capture in stored["captures"]} == names
    assert all(capture["agree"] == capture["requests"] > 0 for capture in stored["captures"])
    assert stored["story"]["agree"] == stored["story"]["requests"] > 0
    for words in ("One nested walk", "Recorded faults", "p_iotlb_inv domain", "update PTE"):
        assert words in shown


def test_host_demo_fails_when_the_unit_answers_wrongly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], auditors: list[Auditor]
):
    translate = unit.ModelUnit.translate

    def off_by_a_page(self: unit.ModelUnit, request: check.Request) -> check.Result:
        result = translate(self, request)
        return result._replace(address=result.address ^ 0x1000) if result.granted else result

    monkeypatch.setattr(unit.ModelUnit, "translate", off_by_a_page)
    assert main(["demo", "--engine", "model", "--requests", "5"]) == 1
    auditors.clear()
    assert capsys.readouterr().out.splitlines()[-1].startswith("FAIL: ")


def test_host_demo_fails_when_the_unit_blocks_everything(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], auditors: list[Auditor]
):
    blocked = check.Result(False, 0, 0, Permissions(False, False), 0x59, "SPT.2", True, Mode.NONE, [])
    monkeypatch.setattr(unit.ModelUnit, "translate", lambda self, request: blocked)
    assert main(["demo", "--engine", "model", "--requests", "5"]) == 1
    auditors.clear()
    shown = capsys.readouterr().out
    assert "breaks off: write at 0x7f0012345fe0 blocked, reason 59h" in " ".join(shown.split())
    assert shown.splitlines()[-1].startswith("FAIL: ")


def test_host_demo_of_an_unknown_preset_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    target = tmp_path / "demo.json"
    assert main(["demo", "--preset", "HUGE", "--json", str(target)]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not target.exists()


def test_host_demo_takes_probes_from_every_phase():
    capture = load_capture(CAPTURES / "sl48")
    part = thin(capture, 100)
    assert 50 <= part.requests <= 100 + len(part.phases)
    for phase, whole in zip(part.phases, capture.phases, strict=True):
        assert phase == replace(whole, probes=phase.probes)
        assert phase.probes
