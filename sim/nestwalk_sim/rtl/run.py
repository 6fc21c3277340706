"""Runs coroutines and cocotb tests inside a simulation, from any Python program.

A coroutine of any importable module takes the `nestwalk_sim.rtl.unit.Bench` and picklable arguments, and returns
something picklable; `run_in_simulation` starts the simulator for it. Job, result and progress go through a temporary
folder."""

import contextlib
import json
import os
import pickle
import re
import select
import shutil
import tempfile
import textwrap
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from nestwalk.config import IommuConfig

from ..errors import UserError
from .build import UNIT, Model, build

__all__ = ["Progress", "SimulationFailed", "run_in_simulation", "run_tests"]

Progress = Callable[[int, int, str], None]
"""Called with how much is done, of how much, and of what."""

_TIME = re.compile(r" *[\d.]+[munpf]?s ")
"""How a message begins in cocotb's log; what follows of it is indented."""

_ENTRY = "nestwalk_sim.rtl.entry"


class SimulationFailed(UserError):
    """A coroutine or test failed in the simulation, or the simulator did; the message says which, and quotes it.

    The command line prints it on one line; the exit status is 1.
    """

    exit_status = 1

    def __str__(self) -> str:
        return self.args[0]


def run_in_simulation(
    cfg: IommuConfig,
    target: str,
    *arguments: Any,
    unit: str = UNIT,
    waves: Path | None = None,
    progress: Progress | None = None,
) -> Any:
    """Run one coroutine in a new simulation, the unit being reset before.

    Parameters
    ----------
    cfg : IommuConfig
        Configuration of the unit; the model is built if it is not there yet.
    target : str
        ``package.module:coroutine``, called with the bench and ``arguments``.
    unit : str
        The component, ``package.module:Class``.
    waves : Path, optional
        VCD file to write.
    progress : callable, optional
        Receives what the coroutine reports by `Bench.report_progress`.

    Returns
    -------
    Any
        What the coroutine returned.

    Raises
    ------
    UserError
        As raised by the coroutine.
    SimulationFailed
        For every other exception of the coroutine, with its traceback, and for a simulator that died.
    """
    model = build(cfg, unit=unit, waves=waves is not None)
    with tempfile.TemporaryDirectory(prefix="nestwalk-") as name:
        folder = Path(name)
        (folder / "job").write_bytes(pickle.dumps((target, arguments)))
        environment = {"NESTWALK_JOB": str(folder)}
        if progress is None:
            _simulate(model, _ENTRY, folder, environment)
        else:
            _simulate_reporting(model, folder, environment, progress)
        _keep_waves(folder, waves)
        result = folder / "result"
        if not result.exists():
            _results(folder)
            raise SimulationFailed(f"the simulation ended without a result: {_tail(folder / 'log')}")
        kind, content = pickle.loads(result.read_bytes())
    if kind == "result":
        return content
    raise content


def run_tests(
    cfg: IommuConfig,
    module: str,
    *,
    unit: str = UNIT,
    seed: int | None = None,
    waves: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> list[str]:
    """Run the cocotb tests of a module.

    Parameters
    ----------
    cfg : IommuConfig
    module : str
        Importable module with ``@cocotb.test()`` functions.
    unit : str
        The component, ``package.module:Class``.
    seed : int, optional
        cocotb's random seed.
    waves : Path, optional
        VCD file to write.
    environment : mapping, optional
        Further environment variables of the simulation.

    Returns
    -------
    list of str
        Names of the tests, all of which passed.

    Raises
    ------
    SimulationFailed
        With the names and messages of the tests that failed, or when there is no test.
    """
    model = build(cfg, unit=unit, waves=waves is not None)
    with tempfile.TemporaryDirectory(prefix="nestwalk-") as name:
        folder = Path(name)
        _simulate(model, module, folder, dict(environment or {}), seed)
        _keep_waves(folder, waves)
        return _results(folder)


def _simulate(model: Model, module: str, folder: Path, environment: dict[str, str], seed: int | None = None) -> None:
    """Run the simulator with a test module in ``folder``; what it prints goes to the file ``log`` there."""
    from cocotb_tools.runner import get_runner

    # Whether tests passed is read from the results; that the simulator died shows in their absence.
    with contextlib.suppress(RuntimeError, SystemExit):
        get_runner("verilator").test(
            test_module=module,
            hdl_toplevel="bench",
            hdl_toplevel_lang="verilog",
            build_dir=model.folder,
            test_dir=folder,
            results_xml=str(folder / "results.xml"),
            log_file=folder / "log",
            extra_env=environment,
            seed=seed,
            waves=model.waves,
        )


def _keep_waves(folder: Path, waves: Path | None) -> None:
    """Move the VCD, whatever the outcome."""
    if waves is not None and (folder / "dump.vcd").exists():
        shutil.move(folder / "dump.vcd", waves)


def _results(folder: Path) -> list[str]:
    """Names of the tests in the results, if all passed."""
    file = folder / "results.xml"
    if not file.exists():
        raise SimulationFailed(f"the simulation ended without results: {_tail(folder / 'log')}")
    cases = list(ElementTree.parse(file).iter("testcase"))
    failed = [case.get("name", "?") for case in cases if {child.tag for child in case} & {"failure", "error"}]
    if failed:
        raise SimulationFailed(f"{', '.join(failed)} failed:\n{_reports_of_failures(folder / 'log')}")
    if not cases:
        raise SimulationFailed(f"no test ran: {_tail(folder / 'log')}")
    return [case.get("name", "?") for case in cases]


def _reports_of_failures(log: Path) -> str:
    """What cocotb logged of each failed test: the line that says so and its traceback."""
    reports, failed = [], False
    for line in log.read_text(errors="replace").splitlines():
        if _TIME.match(line):
            failed = line.endswith(" failed")
            if failed:
                reports.append([])
        elif failed:
            reports[-1].append(line)
    return "\n".join(textwrap.dedent("\n".join(report)) for report in reports)


def _tail(log: Path, lines: int = 20) -> str:
    text = log.read_text(errors="replace") if log.exists() else ""
    return "\n".join(text.splitlines()[-lines:]) or "the simulator printed nothing"


@contextlib.contextmanager
def _named_pipe(path: Path) -> Iterator[int]:
    """A pipe at ``path``, open to be read."""
    os.mkfifo(path)
    pipe = os.open(path, os.O_RDWR)  # both directions: opening waits for nobody, and reading never ends by itself
    try:
        yield pipe
    finally:
        os.close(pipe)


def _simulate_reporting(model: Model, folder: Path, environment: dict[str, str], progress: Progress) -> None:
    """Run a job while what it reports goes to ``progress``, in the caller's thread.

    Should that raise, the pipe is closed, which ends the simulation.
    """
    with ThreadPoolExecutor(1) as pool, _named_pipe(folder / "progress") as pipe:
        simulation = pool.submit(_simulate, model, _ENTRY, folder, environment)
        pending, over = b"", False
        while not over:
            over = simulation.done()  # asked before the last look at the pipe
            while select.select([pipe], [], [], 0 if over else 0.05)[0]:
                *lines, pending = (pending + os.read(pipe, 1 << 16)).split(b"\n")
                for line in lines:
                    progress(*json.loads(line))
        simulation.result()
