"""Runs proofs on blocks with a mistake, which they must notice.

Mistakes come from two places: those of `formal.faults`, which name what must never go unnoticed, and mutants that Yosys
makes at random places of the block's netlist (a port stuck, inverted, or tied to another).
"""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from nestwalk_sim import tools

from . import faults
from .blocks import BLOCKS
from .faults import Fault, faults_of
from .run import DIRECTORY, JOBS, convert, run_task

__all__ = ["SECONDS", "Mutant", "Tally", "mutate", "run_fault"]

SECONDS = 20
"""How long a mutant is tried. What is neither killed nor proved by then counts as a survivor."""

MODULE = "top.dut"
"""The block in the RTLIL of its specification. Its RAM is a model of the hardware's and not mutated."""


@dataclass(frozen=True)
class Mutant:
    """A mistake and what became of it.

    Attributes
    ----------
    what : str
        The fault's name, or the place and kind of the change.
    killed_by : str or None
        The task that noticed it and the first sentence that it violates.
    verdict : str
        ``killed``; ``proved`` if all tasks still pass, as they must when the mistake changes nothing; else
        ``undecided``.
    """

    what: str
    killed_by: str | None
    verdict: str


@dataclass(frozen=True)
class Tally:
    """The mutants of one block."""

    block: str
    mutants: tuple[Mutant, ...]

    @property
    def total(self) -> int:
        return len(self.mutants)

    @property
    def killed(self) -> int:
        return sum(mutant.verdict == "killed" for mutant in self.mutants)

    @property
    def survivors(self) -> list[Mutant]:
        return [mutant for mutant in self.mutants if mutant.verdict != "killed"]


def mutate(
    block: str, *, count: int, seed: int, progress: Callable[[str, int], None] = lambda _line, _total: None
) -> Tally:
    """Runs the faults of ``block`` and as many random mutants as make ``count`` together.

    Parameters
    ----------
    block : str
        One of `BLOCKS`.
    count, seed : int
        How many mutants, and what chooses them.
    progress : callable
        Called with a line and ``count`` when a mutant is done.
    """
    directory = DIRECTORY / block / "mutants"
    directory.mkdir(parents=True, exist_ok=True)
    mistakes = faults_of(block)
    commands = _choose(block, max(count - len(mistakes), 0), seed, directory)
    total = len(mistakes) + len(commands)

    def done(mutant: Mutant) -> Mutant:
        progress(f"{block}: {mutant.verdict}", total)
        return mutant

    def one(numbered: tuple[int, Fault | str]) -> Mutant:
        number, mistake = numbered
        place = directory / str(number)
        if isinstance(mistake, Fault):
            return done(run_fault(block, mistake, place))
        what = re.sub(r"-src \S*?(\w+/\w+\.py:\d+)\S*", r"\1", mistake.removeprefix("mutate "))
        return done(_run(block, what, place, SECONDS, mutation=mistake))

    with ThreadPoolExecutor(JOBS) as pool:
        return Tally(block, tuple(pool.map(one, enumerate([*mistakes, *commands]))))


def run_fault(block: str, fault: Fault, directory: Path, seconds: int = SECONDS) -> Mutant:
    """Runs the proofs of ``block`` with ``fault``, each for at most ``seconds``; ``directory`` receives their files."""
    return _run(block, fault.name, directory, seconds, fault=fault)


def _run(
    block: str, what: str, directory: Path, seconds: int, *, mutation: str = "", fault: Fault | None = None
) -> Mutant:
    """Runs the tasks until one notices."""
    undecided = False
    for task in _worth_running(block, mutation):
        place = directory / task
        place.mkdir(parents=True, exist_ok=True)
        source = None
        if fault is not None:
            faults.convert(block, task, fault, place / "faulty.il")
            source = (place / "faulty.il").read_text()
        check = run_task(block, task, directory=place, mutation=mutation, source=source, seconds=seconds)
        if check.status == "fail":
            sentence = check.findings[0].sentence if check.findings else "the induction does not close"
            return Mutant(what, f"{task}: {sentence}", "killed")
        undecided |= not check.passed
    return Mutant(what, None, "undecided" if undecided else "proved")


def _worth_running(block: str, mutation: str) -> Iterator[str]:
    """A task without the block, such as one about comparisons only, cannot notice a change of its netlist."""
    for task in BLOCKS[block].tasks:
        if not mutation or MODULE in convert(block, task)[0]:
            yield task


def _choose(block: str, count: int, seed: int, directory: Path) -> list[str]:
    """Yosys commands that make the mutants."""
    if count == 0:
        return []
    (directory / "block.il").write_text(convert(block, "prove")[0])
    script = f"read_rtlil block.il\nmutate -list {count} -seed {seed} -o list.txt {MODULE}\n"
    (directory / "list.ys").write_text(script)
    tools.run([tools.yosys(), "-s", "list.ys"], what=f"mutating {block}", log=directory / "list.log", cwd=directory)
    return (directory / "list.txt").read_text().splitlines()
