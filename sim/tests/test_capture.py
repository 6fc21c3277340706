"""The capture loader: what Linux made loads whole, whatever is spoiled gets one clear line."""

import gzip
import json
import lzma
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from nestwalk_sim.builders import HostSpace, LegacyTables, SecondStageTables
from nestwalk_sim.capture import CAPTURES, find_capture, load_capture
from nestwalk_sim.cli import main
from nestwalk_sim.errors import UserError
from nestwalk_sim.memory import Memory
from nestwalk_sim.model import Request
from sim.tests.captures import image_bytes, probe_rows, write_capture, write_json, write_rows

NAMES = ("fl48", "fl48_pasid", "leg48", "nest48", "sl48")
COUNTS = {"fl48": 12352, "fl48_pasid": 20327, "leg48": 12672, "nest48": 3520, "sl48": 12470}


@pytest.fixture
def capture(tmp_path):
    """A small legacy platform on disk: the folder and its JSON."""
    memory = Memory()
    space = HostSpace(memory)
    tables = LegacyTables(space)
    second = SecondStageTables(space, 4)
    second.map(0x5000, 0x8000)
    tables.add_device(0x10, second)
    rows = probe_rows(memory, tables.state, [Request(0x10, None, 0x5000), Request(0x10, None, 0x6000)])
    folder = tmp_path / "small"
    return folder, write_capture(folder, memory, tables.state, rows)


@pytest.mark.parametrize("name", NAMES)
def test_the_captures_of_linux_load_whole(name):
    capture = load_capture(find_capture(name))
    assert (capture.name, capture.requests) == (name, COUNTS[name])
    assert len(capture.phases[1].invalidations) > 300
    assert capture.memory_of(len(capture.phases) - 1) is capture.phases[1].memory
    assert {phase.registers.get("RTADDR", capture.root_table_address(0)) for phase in capture.phases} == {
        capture.root_table_address(0)
    }


def test_a_small_capture_loads(capture):
    folder, _ = capture
    loaded = load_capture(folder)
    probes = loaded.phases[0].probes
    assert [(probe.granted, probe.host_address, probe.fault) for probe in probes] == [
        (True, 0x8000, None),
        (False, None, 6),
    ]
    assert loaded.phases[0].granted == 1


@pytest.mark.parametrize(("low", "kind"), [("0x0", 0), ("0xa", 10), ("0xffffffffffffffff", 127)])
def test_descriptors_of_no_type_are_refused(capture, low: str, kind: int):
    folder, _ = capture
    (folder / "invalidations.csv.gz").write_bytes(gzip.compress(f"low64,high64\n{low},0x0\n".encode()))
    top = json.loads((folder / "capture.json").read_text())
    top["phases"][0]["invalidations"] = "invalidations.csv.gz"
    (folder / "capture.json").write_text(json.dumps(top))
    with pytest.raises(UserError, match=f"line 2: low64 has the descriptor type {kind}, which is none of 1 to 9"):
        load_capture(folder)


def without(key: str) -> Callable[[dict], None]:
    def spoil(top: dict) -> None:
        for members in (top, top["phases"][0]):
            members.pop(key, None)

    return spoil


def with_phase(**members: object) -> Callable[[dict], None]:
    return lambda top: top["phases"][0].update(members)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        *(
            (without(key), f"key '{key}' is missing")
            for key in ("format", "name", "mode", "phases", "requests", "count")
        ),
        (without("memory"), "the first phase needs 'memory'"),
        (without("registers"), "the first phase needs 'registers'"),
        (lambda top: top.update(format=2), "format 2 is not known"),
        (lambda top: top.update(mode="nested"), "mode is 'nested'"),
        (lambda top: top.update(mode="scalable"), "which is not scalable mode"),
        (lambda top: top.update(phases=[]), "'phases' is empty"),
        (lambda top: top.update(phases=[7]), "expected an object"),
        (lambda top: top.update(name=7), "'name' must be a text"),
        (with_phase(count="2"), "'count' must be a whole number"),
        (with_phase(count=3), "'count' is 3, but"),
        (with_phase(granted=2), "'granted' is 2, but"),
        (with_phase(memory="gone.xz"), "'gone.xz', which does not exist"),
        (with_phase(memory="../small/memory.img.xz"), None),
        (with_phase(memory="../../etc/passwd"), "lies outside the capture"),
        (with_phase(registers={"GSTS": "0x0"}), "'RTADDR' is missing"),
        (with_phase(registers={"RTADDR": "zero"}), "RTADDR is 'zero', not a hexadecimal number"),
        (with_phase(registers={"RTADDR": "0x1" + "0" * 16}), "does not fit into 64 bits"),
    ],
)
def test_json_that_contradicts_the_format(capture, spoil, told):
    folder, top = capture
    spoil(top)
    write_json(folder, top)
    if told is None:
        assert load_capture(folder).requests == 2
        return
    with pytest.raises(UserError) as error:
        load_capture(folder)
    assert told in str(error.value)
    assert "capture.json" in str(error.value)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("0x10,,0x5000,0,1,0x8000,0x1000", "7 columns instead of 8"),
        ("0x10,,0x5000,2,1,0x8000,0x1000,", "line 2: write is '2', not 0 or 1"),
        ("0x10000,,0x5000,0,1,0x8000,0x1000,", "source_id is 0x10000, which does not fit into 16 bits"),
        ("0x10,1048576,0x5000,0,1,0x8000,0x1000,", "pasid is 1048576, which does not fit into 20 bits"),
        ("0x10,0x1,0x5000,0,1,0x8000,0x1000,", "pasid is '0x1', not a decimal number"),
        ("0x10,,,0,1,0x8000,0x1000,", "address is '', not a hexadecimal number"),
        ("0x10,,-5,0,1,0x8000,0x1000,", "address is -5"),
        ("0x10,,0x5000,0,1,,0x1000,", "needs a host_address"),
        ("0x10,,0x5000,0,1,0x8000,0x1000,0x5", "has no fault"),
        ('0x10,,0x5000,0,1,0x8000,"0x1000', "line"),
    ],
)
def test_rows_that_contradict_the_format(capture, row, told):
    folder, _ = capture
    write_rows(folder / "probes.csv.gz", [row])
    with pytest.raises(UserError) as error:
        load_capture(folder)
    assert told in str(error.value)
    assert "probes.csv.gz" in str(error.value)


def test_columns_have_their_names(capture):
    folder, _ = capture
    write_rows(folder / "probes.csv.gz", [], header="sid,pasid")
    with pytest.raises(UserError, match="the columns are 'sid,pasid'"):
        load_capture(folder)


PAGE = bytes(4096)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "not a whole number of 4104-byte pages"),
        (image_bytes({0: PAGE})[:-1], "holds 4103 bytes"),
        (image_bytes({0x2000: PAGE, 0x1000: PAGE}), "page 1 with the address 0x1000 comes out of order"),
        (2 * image_bytes({0x2000: PAGE}), "page 1 with the address 0x2000 comes twice"),
        (image_bytes({0x1001: PAGE}), "page 0 has the address 0x1001, which is not aligned"),
    ],
)
def test_images_that_are_no_pages_in_order(capture, content, told):
    folder, _ = capture
    (folder / "memory.img.xz").write_bytes(lzma.compress(content))
    with pytest.raises(UserError) as error:
        load_capture(folder)
    assert told in str(error.value)


def spoiled_copies(folder: Path, rng):
    """Each file of a capture cut short, and with one byte changed."""
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        for cut in sorted({0, 1, len(content) - 1, *(rng.randrange(len(content)) for _ in range(10))}):
            yield path, content[:cut], True
        for _ in range(40):
            position = rng.randrange(len(content))
            changed = bytes([content[position] ^ 1 << rng.randrange(8)])
            yield path, content[:position] + changed + content[position + 1 :], False
        path.write_bytes(content)


def test_damaged_files_never_get_further_than_one_line(tmp_path, rng):
    folder = tmp_path / "nest48"
    shutil.copytree(CAPTURES / "nest48", folder)
    folder.chmod(0o755)
    for path in folder.iterdir():
        path.chmod(0o644)
    accepted, unclear = [], []
    for path, content, cut in spoiled_copies(folder, rng):
        path.write_bytes(content)
        try:
            load_capture(folder)
            accepted.append((path.name, cut))
        except UserError as error:
            message = str(error)
            if "\n" in message or not (path.name in message or "phases[" in message):
                unclear.append(message)
    assert unclear == []
    # A changed byte may still be a valid name or origin; what is cut short never passes.
    assert [name for name, cut in accepted if cut] == []
    assert {name for name, _ in accepted} <= {"capture.json", *(p.name for p in folder.glob("*.gz"))}


def test_the_command_tells_bad_captures_in_one_line_and_writes_nothing(capture, tmp_path, capfd):
    folder, top = capture
    (folder / "memory.img.xz").write_bytes(b"nonsense")
    output = tmp_path / "out.json"
    assert main(["replay", str(folder), "--engine", "model", "--json", str(output)]) == 2
    assert main(["replay", str(tmp_path / "none"), "--engine", "model", "--json", str(output)]) == 2
    assert main(["replay", str(tmp_path), "--engine", "model", "--json", str(output)]) == 2
    lines = capfd.readouterr().err.splitlines()
    assert [line.split(" ")[0] for line in lines] == ["nestwalk:"] * 3
    assert "not a whole xz file" in lines[0]
    assert not output.exists()
