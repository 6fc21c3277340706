"""Runs the specifications: RTLIL and an sby file for each task, SymbiYosys on both, and what came of it."""

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from nestwalk_sim import tools

from .blocks import BLOCKS
from .spec import Mode

__all__ = ["DIRECTORY", "Check", "Finding", "convert", "prove", "run_task"]

DIRECTORY = Path("build", "formal")
"""Where a task leaves its files: sources, log and traces."""

JOBS = 2
"""Tasks at a time. An induction and its base case are two processes already."""

SBY = """\
[options]
mode {mode}
depth {depth}
{timeout}
[engines]
smtbmc yices

[script]
read_rtlil spec.il
{mutation}
prep -flatten -top top
# What is true by its form alone is folded to a constant here, and not counted.
design -push-copy
opt -full
write_json folded.json
design -pop

[files]
spec.il
"""

STATUS = {"PASS": "pass", "FAIL": "fail", "UNKNOWN": "fail"}
"""Last word of SymbiYosys -> status of a check; an induction that does not close is a failed one. All others are
errors."""

_conversion = threading.Lock()  # Amaranth numbers its signals with one counter


@dataclass(frozen=True)
class Finding:
    """A violated claim or a cover that was not reached.

    Attributes
    ----------
    sentence : str
        The property in English.
    location : str
        File and line that state it.
    trace : Path or None
        VCD file of the counter-example.
    """

    sentence: str
    location: str
    trace: Path | None


@dataclass
class Check:
    """What came of one task. The first fields are those of the JSON document (design contract §6)."""

    block: str
    task: str
    mode: str
    depth: int
    status: str
    assertions: int
    covers_reached: int
    covers_total: int
    seconds: float
    mutants_killed: int | None = None
    mutants_total: int | None = None
    findings: list[Finding] = field(default_factory=list)
    log: Path | None = None

    @property
    def passed(self) -> bool:
        return self.status == "pass"


def prove(
    blocks: Sequence[str],
    *,
    only: Iterable[str] | None = None,
    progress: Callable[[Check | str], None] = lambda _event: None,
) -> list[Check]:
    """Runs the tasks of ``blocks``, `JOBS` at a time.

    Parameters
    ----------
    blocks : sequence of str
        Names of `BLOCKS`.
    only : iterable of str, optional
        Tasks to run; all by default.
    progress : callable
        Called with a line when a task starts and with its `Check` when it ends, from any thread.
    """
    names = None if only is None else set(only)
    planned = [(block, task) for block in blocks for task in BLOCKS[block].tasks if names is None or task in names]

    def one(pair: tuple[str, str]) -> Check:
        progress(" ".join(pair))
        check = run_task(*pair)
        progress(check)
        return check

    with ThreadPoolExecutor(JOBS) as pool:
        return list(pool.map(one, planned))


def run_task(
    block: str,
    task: str,
    *,
    directory: Path | None = None,
    mutation: str = "",
    source: str | None = None,
    seconds: int | None = None,
) -> Check:
    """Runs one task to its end.

    Parameters
    ----------
    block, task : str
        Which.
    directory : Path, optional
        Its files; below `DIRECTORY` by default.
    mutation : str
        Yosys commands that change the block first.
    source : str, optional
        RTLIL of the specification; made from it by default.
    seconds : int, optional
        After which SymbiYosys gives up; the status is then error.
    """
    directory = directory or DIRECTORY / block / task
    directory.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    text, sentences = convert(block, task)
    plan = BLOCKS[block].tasks[task]
    (directory / "spec.il").write_text(source or text)
    timeout = "" if seconds is None else f"timeout {seconds}"
    (directory / "task.sby").write_text(
        SBY.format(mode=plan.mode.value, depth=plan.depth, timeout=timeout, mutation=mutation)
    )
    _sby(directory)
    run = directory / "run"
    word = _last_word(run)
    status = STATUS.get(word, "error")
    assertions, covers = _count(run / "src" / "folded.json")
    reached, findings = _read_summary(run / word, sentences)
    covering = plan.mode is Mode.COVER
    return Check(
        block=block,
        task=task,
        mode=plan.mode.value,
        depth=plan.depth,
        status=status if not covering or reached == covers else "fail" if status == "pass" else status,
        assertions=0 if covering else assertions,
        covers_reached=reached,
        covers_total=covers if covering else 0,
        seconds=round(time.monotonic() - begin, 1),
        findings=findings,
        log=run / "logfile.txt",
    )


def convert(block: str, task: str) -> tuple[str, dict[str, str]]:
    """RTLIL of a specification, and the sentence of each property by its location. Callable from any thread."""
    with _conversion:
        spec = BLOCKS[block].specification(task)
        return spec.convert(), spec.sentences


def _sby(directory: Path) -> None:
    """Runs SymbiYosys to its end; when this process is interrupted, its solvers end too."""
    command = [*tools.sby(), "-f", "-d", "run", "task.sby"]
    with (directory / "output.txt").open("w") as output:
        process = subprocess.Popen(
            command,
            cwd=directory,
            env=tools.environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            process.wait()
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)
            raise


def _last_word(run: Path) -> str:
    """The status that SymbiYosys ended with; a file of that name has its whole summary."""
    file = run / "status"
    words = file.read_text().split() if file.exists() else []
    return words[0] if words else "ERROR"


def _count(folded: Path) -> tuple[int, int]:
    """Assertions that are not true by their form, and covers."""
    if not folded.exists():
        return 0, 0
    cells = [
        cell
        for module in json.loads(folded.read_text())["modules"].values()
        for cell in module["cells"].values()
        if cell["type"] == "$check"
    ]
    flavor = [(cell["parameters"]["FLAVOR"], cell["connections"]["A"]) for cell in cells]
    return sum(kind == "assert" and tested != ["1"] for kind, tested in flavor), sum(
        kind == "cover" for kind, _ in flavor
    )


def _read_summary(file: Path, sentences: dict[str, str]) -> tuple[int, list[Finding]]:
    """Number of covers reached, and the findings that SymbiYosys lists."""
    if not file.exists():
        return 0, []
    reached, findings, trace = 0, [], None
    for line in file.read_text().splitlines():
        if match := re.search(r"(?:counterexample|cover) trace.*: (\S+\.vcd)$", line):
            trace = file.parent / match[1]
        elif re.search(r" reached cover statement", line):
            reached += 1
        elif match := re.search(r"failed assertion \S+ at (\S+)", line):
            findings.append(Finding(sentences.get(match[1], "?"), match[1], trace))
        elif match := re.match(r"\s*\S+ at (\S+)$", line):
            findings.append(Finding(f"not reached: {sentences.get(match[1], '?')}", match[1], None))
    return reached, findings
