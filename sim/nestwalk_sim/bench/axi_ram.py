"""The unit on cocotbext-axi's AxiRam, for the benchmark `simulator` to compare with."""

import pickle
import tempfile
from collections.abc import Iterable
from pathlib import Path

from nestwalk.config import IommuConfig
from nestwalk.verilog import Port

from ..errors import UserError
from ..rtl.build import build, verilate
from .platform import Platform, Requests

__all__ = ["AxiRamFailed", "run_on_axi_ram"]

_TESTBENCH = "nestwalk_sim.bench.axi_ram_testbench"
_TOPLEVEL = "axi_ram_bench"


class AxiRamFailed(UserError):
    """The simulation on AxiRam did not end well; the message quotes its log. Exit status 1."""

    exit_status = 1


def run_on_axi_ram(cfg: IommuConfig, platform: Platform, requests: Requests) -> tuple[int, float]:
    """Send requests as fast as the unit takes them.

    Returns
    -------
    tuple of int and float
        Clock cycles and seconds of wall time, from the first request to the last answer.

    Raises
    ------
    AxiRamFailed
        When an answer is wrong or the simulation dies.
    """
    from cocotb_tools.runner import get_runner

    model = _build(cfg)
    with tempfile.TemporaryDirectory(prefix="nestwalk-") as name:
        folder = Path(name)
        (folder / "job").write_bytes(pickle.dumps((cfg, platform.memory.image(), platform.tables.root, requests)))
        log = folder / "log"
        try:
            get_runner("verilator").test(
                test_module=_TESTBENCH,
                hdl_toplevel=_TOPLEVEL,
                hdl_toplevel_lang="verilog",
                build_dir=model,
                test_dir=folder,
                results_xml=str(folder / "results.xml"),
                log_file=log,
                extra_env={"NESTWALK_JOB": str(folder)},
            )
        except (RuntimeError, SystemExit) as failure:
            raise AxiRamFailed(f"the simulation on AxiRam failed: {_error(log)}") from failure
        if not (folder / "result").exists():
            raise AxiRamFailed(f"the simulation on AxiRam failed: {_error(log)}")
        return pickle.loads((folder / "result").read_bytes())


def _build(cfg: IommuConfig) -> Path:
    """The bare unit, Verilated beside the model of the bench."""
    model = build(cfg)
    folder = model.folder / "axi_ram"
    if not (folder / "complete").exists():
        folder.mkdir(exist_ok=True)
        (folder / "wrapper.sv").write_text(_wrapper(model.ports))
        verilate(folder, [model.folder / "unit.v", folder / "wrapper.sv"], _TOPLEVEL, [])
        (folder / "complete").touch()
    return folder


def _wrapper(ports: Iterable[Port]) -> str:
    """A module in which Python reaches the ports and nothing else, which is the fastest that Verilator offers."""
    public = "/*verilator public_flat_rw*/"
    variables = [f"  logic [{port.width - 1}:0] {port.name} {public};" for port in ports]
    return "\n".join([f"module {_TOPLEVEL};", *variables, "  nestwalk unit (.*);", "endmodule", ""])


def _error(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if "rror" in line] if log.exists() else []
    return lines[-1] if lines else "no output"
