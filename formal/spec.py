"""The base of all specifications.

A specification is a component without ports that holds the block under proof, drives its inputs with arbitrary values,
and states assumptions, claims and covers, each of them an English sentence. It never declares a clock domain:
conversion makes ``clk`` and ``rst`` ports, where a declared domain would have a clock that never moves and prove
everything.
"""

import enum
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from amaranth.back import rtlil
from amaranth.hdl import Assert, Assume, Cover, Module, ResetSignal
from amaranth.lib import wiring

from .ram import Platform

__all__ = ["Mode", "Spec", "Task"]

ROOT = Path(__file__).parent.parent


class Mode(enum.Enum):
    """How a task looks at its properties."""

    PROVE = "prove"
    """By k-induction, for traces of any length."""
    BMC = "bmc"
    """For all traces of at most ``depth`` cycles from reset."""
    COVER = "cover"
    """Finds a trace of at most ``depth`` cycles for each cover."""


@dataclass(frozen=True)
class Task:
    """One run of the solver.

    Parameters
    ----------
    mode : Mode
    depth : int
        Cycles; the k of an induction.
    reason : str
        Why this depth is enough.
    """

    mode: Mode
    depth: int
    reason: str


class Spec(wiring.Component):
    """Base of all specifications. The docstring of each says in English what is proved and what is assumed.

    A claim belongs to one task, which asserts it. Later tasks of `TASKS` assume what earlier ones prove by induction.

    Parameters
    ----------
    task : str
        The task of `TASKS` to build the properties for.

    Attributes
    ----------
    TASKS : mapping of str to Task
        The depth table.
    RESETS : bool
        Whether a reset may come at any time, rather than never. Registers start with their initial values in either
        case.
    platform : Platform
        Gives the rows of the block's memories.
    sentences : dict
        Once converted: the sentence of each property by its location in the output of the tools.
    """

    TASKS: ClassVar[Mapping[str, Task]]
    RESETS: ClassVar[bool] = False

    def __init__(self, task: str):
        self.task = task
        self.platform = Platform()
        self.sentences: dict[str, str] = {}
        super().__init__({})

    @abstractmethod
    def specify(self, m: Module) -> None:
        """Adds the block and its properties to ``m``."""

    def elaborate(self, platform):
        m = Module()
        if not self.RESETS or self._mode is Mode.COVER:
            m.d.comb += Assume(~ResetSignal())
        self.specify(m)
        return m

    def convert(self) -> str:
        """The specification with its block as RTLIL, top module ``top``."""
        return rtlil.convert(self, platform=self.platform)

    def expose(self, m: Module, name: str, component: wiring.Component) -> None:
        """Adds ``component`` as a submodule and elaborates it at once, so that ``self._x`` of it can be looked at."""
        elaborated = component.elaborate(self.platform)
        component.elaborate = lambda platform: elaborated
        m.submodules[name] = component

    @property
    def _mode(self) -> Mode:
        return self.TASKS[self.task].mode

    def claim(self, m: Module, sentence: str, condition, *, task: str = "prove") -> None:
        """``condition`` holds in every cycle, which ``task`` shows."""
        if task == self.task:
            m.d.comb += self._located(Assert(condition, sentence, src_loc_at=1), sentence)
        elif self._mode is not Mode.COVER and self.TASKS[task].mode is Mode.PROVE and self._is_earlier(task):
            m.d.comb += Assume(condition)

    def assume(self, m: Module, sentence: str, condition) -> None:
        """``condition`` is what the block's surroundings promise in every cycle."""
        m.d.comb += self._located(Assume(condition, sentence, src_loc_at=1), sentence)

    def cover(self, m: Module, sentence: str, condition) -> None:
        """Some trace has a cycle in which ``condition`` holds."""
        if self._mode is Mode.COVER:
            m.d.comb += self._located(Cover(condition, sentence, src_loc_at=1), sentence)

    def _is_earlier(self, task: str) -> bool:
        order = list(self.TASKS)
        return order.index(task) < order.index(self.task)

    def _located(self, statement, sentence: str):
        """Gives each property a location of its own, even where one line states several: the tools print nothing
        else."""
        file, line = statement.src_loc
        place = f"{Path(file).resolve().relative_to(ROOT)}:{line}"
        number = sum(known.startswith(f"{place}:") for known in self.sentences) + 1
        statement.src_loc = (place, number)
        self.sentences[f"{place}:{number}"] = sentence
        return statement
