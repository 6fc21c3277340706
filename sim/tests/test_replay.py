"""Replay: the model agrees with every capture, disagreements are found and told."""

import asyncio
import json

import pytest

from nestwalk_sim.builders import (
    FirstStageTables,
    GuestSpace,
    HostSpace,
    LegacyTables,
    ScalableTables,
    SecondStageTables,
    nested_fields,
    pass_through_fields,
    second_stage_fields,
)
from nestwalk_sim.capture import find_capture, load_capture
from nestwalk_sim.cli import main
from nestwalk_sim.memory import Memory
from nestwalk_sim.model import Access, Request
from nestwalk_sim.replay import Answer, ModelEngine, ReplayReport, replay_capture, replay_on_model
from sim.tests.captures import image_bytes, probe_rows, write_capture, write_json, write_rows


@pytest.mark.parametrize("name", ["fl48", "fl48_pasid", "leg48", "nest48", "sl48"])
def test_the_model_agrees_with_linux(name, tmp_path, capsys):
    path = tmp_path / "out.json"
    assert main(["replay", name, "--engine", "model", "--json", str(path)]) == 0
    told = json.loads(path.read_text())
    assert told["agree"] == told["requests"] == load_capture(find_capture(name)).requests
    assert (told["capture"], told["engine"], told["preset"], told["disagree"]) == (name, "model", "DEFAULT", [])
    assert told["memory_reads"] == sum(phase["memory_reads"] for phase in told["phases"]) > told["requests"]
    assert f"{told['requests']:,} answers agree" in capsys.readouterr().out


def mixed_platform(folder):
    """Pass-through, 3-level and nested 5-level devices, probes of each.

    Page sizes under pass-through are arbitrary: they are not compared.
    """
    memory = Memory()
    space = HostSpace(memory)
    tables = ScalableTables(space)
    second = SecondStageTables(space, 3)
    second.map(0x4000_0000, 0x8000_0000, 1 << 30)
    parent = SecondStageTables(space, 5)
    guest = FirstStageTables(GuestSpace(parent, 52), 5)
    guest.map(0x0012_3456_7890_1000, 0x7000)
    parent.map(0x7000, 0x9000)
    for source_id, fields in (
        (0x08, pass_through_fields()),
        (0x10, second_stage_fields(second)),
        (0x98, nested_fields(guest, parent)),
    ):
        tables.add_device(source_id, PASIDE=1)
        tables.add_pasid(source_id, 0, **fields)
    requests = [
        Request(0x08, None, 0x1234_5678_9ABC, Access.WRITE),
        Request(0x10, None, 0x4123_4567),
        Request(0x10, None, 1 << 39),
        Request(0x98, None, 0x0012_3456_7890_1040, Access.WRITE),
        Request(0x18, None, 0),
    ]
    rows = probe_rows(memory, tables.state, requests)
    return write_capture(folder, memory, tables.state, rows), rows


def test_platforms_of_other_shapes_replay(tmp_path):
    mixed_platform(tmp_path / "mixed")
    report = replay_on_model(load_capture(tmp_path / "mixed"))
    assert (report.requests, report.agree, report.disagree) == (5, 5, [])


def test_answers_that_differ_are_told_and_end_with_status_1(tmp_path, capsys):
    top, rows = mixed_platform(tmp_path / "mixed")
    rows[1] = rows[1].replace("0x81234567", "0x81234568")
    rows[2] = rows[2].replace("0x84", "0x85")
    rows[3] = rows[3].replace("0x1000,", "0x200000,")
    rows[4] = rows[4].replace("0,,,0x41", "1,0x0,0x1000,")
    write_rows(tmp_path / "mixed" / "probes.csv.gz", rows)
    top["phases"][0]["granted"] += 1
    write_json(tmp_path / "mixed", top)
    path = tmp_path / "out.json"
    assert main(["replay", str(tmp_path / "mixed"), "--engine", "model", "--json", str(path)]) == 1
    told = json.loads(path.read_text())
    assert (told["requests"], told["agree"]) == (5, 1)
    assert [entry["sid"] for entry in told["disagree"]] == ["0x10", "0x10", "0x98", "0x18"]
    assert told["disagree"][1] == {
        "phase": "only",
        "sid": "0x10",
        "pasid": None,
        "address": hex(1 << 39),
        "access": "read",
        "expected": {"granted": False, "fault": "0x85"},
        "got": {"granted": False, "fault": "0x84"},
    }
    assert "1 of 5 answers agree" in capsys.readouterr().out


def test_a_fault_that_the_capture_does_not_name_is_not_compared(tmp_path):
    _, rows = mixed_platform(tmp_path / "mixed")
    rows[2] = rows[2].replace("0x84", "")
    write_rows(tmp_path / "mixed" / "probes.csv.gz", rows)
    assert replay_on_model(load_capture(tmp_path / "mixed")).agree == 5


class Recorder(ModelEngine):
    """Writes down what it is told."""

    def __init__(self):
        super().__init__()
        self.calls = []

    async def load_memory(self, image):
        self.calls.append(("load", len(image)))
        await super().load_memory(image)

    async def enable(self, root_table_address):
        self.calls.append(("enable", root_table_address))
        await super().enable(root_table_address)

    async def invalidate(self, descriptors):
        self.calls.append(("invalidate", list(descriptors)))

    async def translate(self, requests):
        self.calls.append(("translate", len(requests)))
        return await super().translate(requests)


def two_phase_capture(folder):
    """Legacy; the second phase replaces memory, the third keeps it."""
    memory = Memory()
    space = HostSpace(memory)
    tables = LegacyTables(space)
    second = SecondStageTables(space, 4)
    second.map(0x5000, 0x8000)
    tables.add_device(0x10, second)
    request = [Request(0x10, None, 0x5010)]
    top = write_capture(folder, memory, tables.state, probe_rows(memory, tables.state, request))
    second.set_fields(second.path(0x5000)[-1], ADDR=0xA000)
    top_after = write_capture(folder / "after", memory, tables.state, probe_rows(memory, tables.state, request))
    for name in ("memory.img.xz", "probes.csv.gz"):
        (folder / "after" / name).rename(folder / f"after-{name}")
    after = top_after["phases"][0] | {
        "name": "after",
        "memory": "after-memory.img.xz",
        "requests": "after-probes.csv.gz",
        "invalidations": "invalidations.csv.gz",
        "descriptors": 2,
    }
    write_rows(folder / "invalidations.csv.gz", ["0x30032,0x5001", "0x12,0x0"], header="low64,high64")
    again = {"name": "again", "requests": "after-probes.csv.gz", "count": 1, "granted": 1}
    top["phases"] += [after, again]
    write_json(folder, top)


def test_phases_run_in_order_on_one_unit(tmp_path):
    two_phase_capture(tmp_path / "two")
    capture = load_capture(tmp_path / "two")
    engine = Recorder()
    progress = []
    report = asyncio.run(replay_capture(capture, engine, lambda *told: progress.append(told)))
    pages = len(capture.memory_of(0))
    assert engine.calls == [
        ("load", pages),
        ("enable", capture.root_table_address(0)),
        ("translate", 1),
        ("load", pages),
        ("invalidate", [(0x30032, 0x5001), (0x12, 0)]),
        ("translate", 1),
        ("translate", 1),
    ]
    assert progress == [("only", 1, 3), ("after", 2, 3), ("again", 3, 3)]
    assert [(phase.name, phase.agree, phase.invalidations) for phase in report.phases] == [
        ("only", 1, 0),
        ("after", 1, 2),
        ("again", 1, 0),
    ]


class Stale(ModelEngine):
    """Keeps its first answer to a request, as a unit that ignores invalidations does."""

    def __init__(self):
        super().__init__()
        self._kept: dict[Request, Answer] = {}

    async def translate(self, requests):
        answers = await super().translate(requests)
        return [self._kept.setdefault(request, answer) for request, answer in zip(requests, answers, strict=True)]


def test_a_unit_that_keeps_stale_entries_is_caught(tmp_path):
    capture = load_capture(find_capture("nest48"))
    report = asyncio.run(replay_capture(capture, Stale()))
    assert [phase.agree == phase.requests for phase in report.phases] == [True, False]
    assert report.agree + len(report.disagree) == report.requests


def test_a_report_survives_json():
    report = replay_on_model(load_capture(find_capture("nest48")))
    assert ReplayReport.from_dict(json.loads(json.dumps(report.as_dict()))) == report


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--preset", "HUGE"], "unknown preset 'HUGE': choose one of DEFAULT, FULL, TINY, FORMAL"),
        (["--waves"], "--waves needs --engine rtl"),
    ],
)
def test_options_that_the_model_does_not_know(words, told, capsys):
    assert main(["replay", "nest48", "--engine", "model", *words]) == 2
    output = capsys.readouterr()
    assert (output.out, output.err.count("\n")) == ("", 1)
    assert told in output.err


def test_image_bytes_are_what_the_loader_reads(tmp_path):
    mixed_platform(tmp_path / "mixed")
    image = load_capture(tmp_path / "mixed").memory_of(0)
    assert len(image_bytes(image)) == 4104 * len(image)
