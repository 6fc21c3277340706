"""Captured platforms: a strict loader for the format that ``sim/captures/README.md`` describes (format 1)."""

import csv
import gzip
import io
import json
import lzma
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from .errors import UserError
from .memory import PAGE_SIZE
from .model import Access, Request, UnitState

__all__ = ["CAPTURES", "Capture", "Phase", "Probe", "find_capture", "load_capture"]

CAPTURES = Path(__file__).resolve().parents[1] / "captures"
"""The captures that come with the sources."""

_FORMAT = 1
_TRANSLATION_TABLE_MODES = {"legacy": 0, "scalable": 1}
_PROBE_COLUMNS = ["source_id", "pasid", "address", "write", "granted", "host_address", "page_size", "fault"]
_INVALIDATION_COLUMNS = ["low64", "high64"]
_DESCRIPTOR_TYPES = range(1, 10)
_RECORD = 8 + PAGE_SIZE


class Probe(NamedTuple):
    """One request and the answer that the captured platform gives.

    ``host_address`` and ``page_size`` (bytes) are None where the request is blocked or the capture does not tell;
    ``fault`` is a reason code, None where it is not compared.
    """

    request: Request
    granted: bool
    host_address: int | None
    page_size: int | None
    fault: int | None


@dataclass(frozen=True)
class Phase:
    """One freeze of the platform.

    Parameters
    ----------
    name : str
        Its name.
    memory : dict of int to bytes, or None
        Page address to content, the whole of memory from this phase on; None: memory stays.
    registers : dict of str to int
        The platform's registers; empty when the phase does not tell.
    invalidations : list of (int, int)
        Low and high 64 bits of the low half of each descriptor, in queue order.
    probes : list of Probe
        The requests in order.
    """

    name: str
    memory: dict[int, bytes] | None
    registers: dict[str, int]
    invalidations: list[tuple[int, int]]
    probes: list[Probe]

    @property
    def granted(self) -> int:
        """How many probes the platform grants."""
        return sum(probe.granted for probe in self.probes)


@dataclass(frozen=True)
class Capture:
    """A captured platform; ``mode`` is ``"legacy"`` or ``"scalable"``, ``folder`` where it was loaded from."""

    name: str
    mode: str
    origin: str
    folder: Path
    phases: list[Phase]

    @property
    def requests(self) -> int:
        """How many probes there are over all phases."""
        return sum(len(phase.probes) for phase in self.phases)

    def memory_of(self, index: int) -> dict[int, bytes]:
        """The memory image in force during phase ``index`` (from 0)."""
        images = [phase.memory for phase in self.phases[: index + 1] if phase.memory is not None]
        return images[-1]

    def root_table_address(self, index: int) -> int:
        """RTADDR in force during phase ``index`` (from 0)."""
        known = [phase.registers["RTADDR"] for phase in self.phases[: index + 1] if "RTADDR" in phase.registers]
        return known[-1]

    def state_of(self, index: int) -> UnitState:
        """The unit's global state during phase ``index`` (from 0), translation enabled."""
        return UnitState.from_register(self.root_table_address(index))


def find_capture(name: str) -> Path:
    """The folder that the user means: a path, or the bare name of a capture that comes with the sources.

    Raises
    ------
    UserError
        When there is no such folder.
    """
    for folder in (Path(name), CAPTURES / name):
        if (folder / "capture.json").is_file():
            return folder
    if Path(name).is_dir():
        raise UserError(f"{name} is no capture: it holds no capture.json")
    known = ", ".join(sorted(entry.parent.name for entry in CAPTURES.glob("*/capture.json")))
    raise UserError(f"there is no capture {name}: give a folder or one of {known}")


def load_capture(folder: Path) -> Capture:
    """Load and check a capture.

    Parameters
    ----------
    folder : Path
        The folder with ``capture.json``.

    Raises
    ------
    UserError
        For everything that is missing, cut short, contradictory or out of range, naming the file and the line.
    """
    path = folder / "capture.json"
    top = _Object(_read_json(path), str(path))
    version = top.integer("format")
    if version != _FORMAT:
        raise UserError(f"{path}: format {version} is not known, only {_FORMAT}")
    mode = top.text("mode")
    if mode not in _TRANSLATION_TABLE_MODES:
        raise UserError(f"{path}: mode is {mode!r}, neither 'scalable' nor 'legacy'")
    name, origin, entries = top.text("name"), top.text("origin"), top.objects("phases")
    phases = [_load_phase(folder, entry, first=index == 0) for index, entry in enumerate(entries)]
    for phase in phases:
        root = phase.registers.get("RTADDR")
        if root is not None and root >> 10 & 3 != _TRANSLATION_TABLE_MODES[mode]:
            raise UserError(f"{path}: phase {phase.name!r} has RTADDR {root:#x}, which is not {mode} mode")
    return Capture(name, mode, origin, folder, phases)


class _Object:
    """A JSON object whose members are fetched with their type checked; ``where`` names it in messages."""

    def __init__(self, members: object, where: str):
        if not isinstance(members, dict):
            raise UserError(f"{where}: expected an object, found {type(members).__name__}")
        self.members = members
        self.where = where

    def _get(self, key: str, kind: type, article: str):
        if key not in self.members:
            raise UserError(f"{self.where}: key {key!r} is missing")
        value = self.members[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise UserError(f"{self.where}: {key!r} must be {article}, not {json.dumps(value)[:40]}")
        return value

    def text(self, key: str) -> str:
        return self._get(key, str, "a text")

    def integer(self, key: str) -> int:
        return self._get(key, int, "a whole number")

    def objects(self, key: str) -> list["_Object"]:
        entries = self._get(key, list, "a list")
        if not entries:
            raise UserError(f"{self.where}: {key!r} is empty")
        return [_Object(entry, f"{self.where}: {key}[{index}]") for index, entry in enumerate(entries)]

    def has(self, key: str) -> bool:
        return key in self.members


def _load_phase(folder: Path, entry: _Object, first: bool) -> Phase:
    name = entry.text("name")
    if first and not entry.has("memory"):
        raise UserError(f"{entry.where}: the first phase needs 'memory'")
    memory = _read_image(_member(folder, entry, "memory")) if entry.has("memory") else None
    registers = _read_registers(entry, first)
    invalidations: list[tuple[int, int]] = []
    if entry.has("invalidations"):
        path = _member(folder, entry, "invalidations")
        invalidations = [_descriptor(row) for row in _read_rows(path, _INVALIDATION_COLUMNS)]
        if entry.has("descriptors"):
            _check_count(entry, "descriptors", len(invalidations), f"{path} has")
    path = _member(folder, entry, "requests")
    probes = [_probe(row) for row in _read_rows(path, _PROBE_COLUMNS)]
    _check_count(entry, "count", len(probes), f"{path} has")
    _check_count(entry, "granted", sum(probe.granted for probe in probes), f"granted in {path}:")
    return Phase(name, memory, registers, invalidations, probes)


def _check_count(entry: _Object, key: str, found: int, what: str) -> None:
    told = entry.integer(key)
    if told != found:
        raise UserError(f"{entry.where}: {key!r} is {told}, but {what} {found}")


def _member(folder: Path, entry: _Object, key: str) -> Path:
    """The file that a phase names; it lies inside the capture's folder."""
    name = entry.text(key)
    path = folder / name
    if not name or not path.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{entry.where}: {key!r} names {name!r}, which lies outside the capture")
    if not path.is_file():
        raise UserError(f"{entry.where}: {key!r} names {name!r}, which does not exist")
    return path


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None


def _read_json(path: Path) -> object:
    try:
        return json.loads(_read_bytes(path).decode("utf-8"))
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: line {error.lineno}: not JSON: {error.msg}") from None


def _read_registers(entry: _Object, first: bool) -> dict[str, int]:
    if not entry.has("registers"):
        if first:
            raise UserError(f"{entry.where}: the first phase needs 'registers'")
        return {}
    members = _Object(entry.members["registers"], f"{entry.where}: registers")
    registers = {name: _number(members.text(name), 16, 64, f"{members.where}: {name}") for name in members.members}
    if "RTADDR" not in registers:
        raise UserError(f"{members.where}: key 'RTADDR' is missing")
    return registers


def _read_image(path: Path) -> dict[int, bytes]:
    """The pages of an xz-compressed memory image."""
    try:
        content = lzma.decompress(_read_bytes(path), format=lzma.FORMAT_XZ)
    except lzma.LZMAError as error:
        raise UserError(f"{path} is not a whole xz file: {error}") from None
    records, rest = divmod(len(content), _RECORD)
    if rest or not records:
        raise UserError(f"{path} holds {len(content)} bytes, which is not a whole number of {_RECORD}-byte pages")
    pages: dict[int, bytes] = {}
    last = -1
    for number in range(records):
        start = number * _RECORD
        address = int.from_bytes(content[start : start + 8], "little")
        if address % PAGE_SIZE:
            raise UserError(f"{path}: page {number} has the address {address:#x}, which is not aligned")
        if address <= last:
            order = "twice" if address == last else "out of order"
            raise UserError(f"{path}: page {number} with the address {address:#x} comes {order}")
        last = address
        pages[address] = content[start + 8 : start + _RECORD]
    return pages


def _descriptor(row: "_Row") -> tuple[int, int]:
    """A descriptor of one of the types of §5.2."""
    low, high = row.number("low64", 16, 64), row.number("high64", 16, 64)
    kind = low & 0xF | (low >> 9 & 0x7) << 4
    if kind not in _DESCRIPTOR_TYPES:
        raise UserError(f"{row.where}: low64 has the descriptor type {kind}, which is none of 1 to 9")
    return low, high


class _Row(NamedTuple):
    """One line of a table; ``where`` names it in messages."""

    where: str
    cells: dict[str, str]

    def number(self, column: str, base: int, bits: int) -> int:
        return _number(self.cells[column], base, bits, f"{self.where}: {column}")

    def optional(self, column: str, base: int, bits: int) -> int | None:
        return self.number(column, base, bits) if self.cells[column] else None

    def flag(self, column: str) -> bool:
        return bool(self.number(column, 2, 1))


def _number(text: str, base: int, bits: int, where: str) -> int:
    kind = {2: "0 or 1", 10: "a decimal number", 16: "a hexadecimal number"}[base]
    try:
        value = int(text, base)
    except ValueError:
        raise UserError(f"{where} is {text!r}, not {kind}") from None
    if not 0 <= value < 1 << bits:
        raise UserError(f"{where} is {text}, which does not fit into {bits} bits")
    return value


def _read_rows(path: Path, columns: list[str]) -> Iterator[_Row]:
    """The lines of a gzip-compressed table with exactly these columns."""
    try:
        text = gzip.decompress(_read_bytes(path)).decode("utf-8")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path} is not a whole gzip file: {error}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} does not hold UTF-8 text") from None
    reader = csv.reader(io.StringIO(text), strict=True)
    try:
        header = next(reader, [])
        if header != columns:
            raise UserError(f"{path}: line 1: the columns are {','.join(header)!r}, not {','.join(columns)!r}")
        for cells in reader:
            where = f"{path}: line {reader.line_num}"
            if len(cells) != len(columns):
                raise UserError(f"{where}: {len(cells)} columns instead of {len(columns)}")
            yield _Row(where, dict(zip(columns, cells, strict=True)))
    except csv.Error as error:
        raise UserError(f"{path}: line {reader.line_num}: {error}") from None


def _probe(row: _Row) -> Probe:
    request = Request(
        source_id=row.number("source_id", 16, 16),
        pasid=row.optional("pasid", 10, 20),
        address=row.number("address", 16, 64),
        access=Access.WRITE if row.flag("write") else Access.READ,
    )
    granted = row.flag("granted")
    host_address, page_size = row.optional("host_address", 16, 64), row.optional("page_size", 16, 64)
    fault = row.optional("fault", 16, 8)
    if granted and host_address is None:
        raise UserError(f"{row.where}: a granted request needs a host_address")
    if granted and fault is not None:
        raise UserError(f"{row.where}: a granted request has no fault")
    return Probe(request, granted, host_address, page_size, fault)
