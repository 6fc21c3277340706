"""Runs a part of the proofs, and shows that their runner tells a violated claim from one that holds."""

import json
from pathlib import Path
from random import Random

import pytest
from amaranth.hdl import Module, Signal

from formal import run
from formal.blocks import BLOCKS, Block
from formal.faults import FAULTS, faults_of
from formal.lib import free, implies, past
from formal.mutants import run_fault
from formal.run import Check, run_task
from formal.spec import Mode, Spec, Task
from nestwalk_sim.cli import main

QUICK = (
    "iotlb_4k",
    "iotlb_1g",
    "context_cache",
    "entry_update",
    "fault_log",
    "queue_4",
    "round_robin",
    "merge",
    "fork",
)
"""The blocks whose proofs are part of every test run; `nestwalk formal` runs all."""

PATIENCE = 600
"""Seconds that a fault's proof may take on a busy machine."""

RTL = Path(__file__).parent.parent / "rtl"


def check_passed(check: Check):
    assert check.status == "pass", (check.findings, check.log)
    assert check.covers_reached == check.covers_total
    if check.mode == "cover":
        assert check.covers_total > 0
    else:
        assert check.assertions > 0


@pytest.mark.parametrize(("block", "task"), [(block, task) for block in QUICK for task in BLOCKS[block].tasks])
def test_block_keeps_its_promises(block: str, task: str, tmp_path: Path):
    check_passed(run_task(block, task, directory=tmp_path))


@pytest.mark.parametrize("block", BLOCKS)
def test_every_specification_is_complete(block: str):
    """Promises in English, a reason for each depth, and covers that show that the promises are not vacuous."""
    tasks = BLOCKS[block].tasks
    assert len(BLOCKS[block].promises.split()) > 20
    assert all(len(task.reason.split()) >= 4 for task in tasks.values())
    assert {Mode.PROVE, Mode.COVER} <= {task.mode for task in tasks.values()}
    for name in tasks:
        specification = BLOCKS[block].specification(name)
        specification.convert()
        assert all(sentence.endswith(".") for sentence in specification.sentences.values())


def test_every_fault_changes_its_module():
    for fault in FAULTS:
        source = (RTL / f"{fault.module.replace('.', '/')}.py").read_text()
        assert fault.change(source) != source
        assert set(fault.blocks) <= set(BLOCKS)


def test_a_tag_bit_that_is_not_compared_is_noticed(rng: Random, tmp_path: Path):
    fault = rng.choice([fault for fault in faults_of("iotlb_4k") if "bit of" in fault.name])
    mutant = run_fault("iotlb_4k", fault, tmp_path, PATIENCE)
    assert mutant.verdict == "killed", mutant
    assert mutant.killed_by == "tags: An entry answers the keys of its tags and no others."


@pytest.mark.parametrize(
    ("block", "name"),
    [
        ("iotlb_4k", "a fill that waits when an invalidation comes is kept"),
        ("iotlb_4k", "an invalidation begins while a fill is on its way"),
        ("iotlb_4k", "an invalidation never clears the first way"),
    ],
)
def test_a_fault_of_the_cache_is_noticed(block: str, name: str, tmp_path: Path):
    [fault] = [fault for fault in faults_of(block) if fault.name == name]
    assert run_fault(block, fault, tmp_path, PATIENCE).verdict == "killed"


class CounterSpec(Spec):
    """A counter of three bits that stops at 5, with claims and covers of every kind."""

    TASKS = {
        "prove": Task(Mode.PROVE, 3, "a counter is its own invariant"),
        "false": Task(Mode.BMC, 9, "the claim is violated after 5 cycles"),
        "cover": Task(Mode.COVER, 9, "one cover is reached after 5 cycles"),
    }

    def specify(self, m: Module):
        counter = Signal(3)
        goes = Signal()
        free(m, goes)
        with m.If(goes & (counter != 5)):
            m.d.sync += counter.eq(counter + 1)
        self.claim(m, "The counter stops at 5.", counter <= 5)
        self.claim(m, "The counter never goes back.", implies(past(m, counter) == 3, counter >= 3))
        self.claim(m, "Three bits hold at most 7.", counter <= 7)
        self.claim(m, "The counter never reaches 5.", counter != 5, task="false")
        self.cover(m, "The counter reaches 5.", counter == 5)
        self.cover(m, "The counter reaches 6.", counter == 6)


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(BLOCKS, "counter", Block(CounterSpec))
    return "counter"


def test_claims_that_are_true_by_their_form_do_not_count(counter: str, tmp_path: Path):
    check = run_task(counter, "prove", directory=tmp_path)
    assert (check.status, check.assertions, check.covers_total, check.findings) == ("pass", 2, 0, [])


def test_a_violated_claim_comes_with_its_sentence_and_trace(counter: str, tmp_path: Path):
    check = run_task(counter, "false", directory=tmp_path)
    assert (check.status, check.assertions) == ("fail", 1)
    [finding] = check.findings
    assert finding.sentence == "The counter never reaches 5."
    assert finding.trace is not None
    assert "$enddefinitions" in finding.trace.read_text()


def test_a_cover_that_is_not_reached_fails(counter: str, tmp_path: Path):
    check = run_task(counter, "cover", directory=tmp_path)
    assert (check.status, check.covers_reached, check.covers_total) == ("fail", 1, 2)
    assert [finding.sentence for finding in check.findings] == ["not reached: The counter reaches 6."]


def test_command_writes_what_tools_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(run, "DIRECTORY", tmp_path / "work")
    file = tmp_path / "formal.json"
    assert main(["formal", "queue_2", "--json", str(file)]) == 0
    prove, cover = json.loads(file.read_text())["checks"]
    numbers = ("block", "task", "mode", "status", "covers_reached", "covers_total", "mutants_killed", "mutants_total")
    assert [prove[key] for key in numbers] == ["queue_2", "prove", "prove", "pass", 0, 0, None, None]
    assert [cover[key] for key in numbers] == ["queue_2", "cover", "cover", "pass", 4, 4, None, None]
    assert prove["assertions"] > 0 == cover["assertions"]
    assert prove["depth"] > 0 < prove["seconds"]


def test_command_fails_when_a_proof_does(
    counter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(run, "DIRECTORY", tmp_path / "work")
    assert main(["formal", counter]) == 1
    assert "The counter never reaches 5." in capsys.readouterr().err


def test_command_knows_its_blocks(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "formal.json"
    assert main(["formal", "toaster", "--json", str(file)]) == 2
    assert capsys.readouterr().err.startswith("nestwalk: no specification for toaster: choose from iotlb_4k")
    assert not file.exists()
