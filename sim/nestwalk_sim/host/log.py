"""The ordered log of everything that is sent to the unit, for people and for order checks."""

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["CommandLog", "LogEntry", "Trace"]


@dataclass(frozen=True)
class LogEntry:
    """One command.

    Parameters
    ----------
    time : int
        When, in the transport's unit of time.
    caller : str
        The call of the host stack that it belongs to, such as ``bind_gpasid``.
    recipe : str
        The recipe followed, such as ``R3``.
    step : int
        Position within that call, from 1.
    text : str
        What was done: a register written, an entry changed, a descriptor queued.
    """

    time: int
    caller: str
    recipe: str
    step: int
    text: str

    def __str__(self) -> str:
        return f"{self.time:>8} {self.caller:<16} {self.recipe:>3}.{self.step:<2} {self.text}"


class CommandLog:
    """All commands in the order in which they were sent.

    Parameters
    ----------
    now : callable
        The transport's clock.
    """

    def __init__(self, now: Callable[[], int]):
        self.entries: list[LogEntry] = []
        self._now = now

    def trace(self, caller: str, recipe: str) -> "Trace":
        """Begin the log of one call that follows ``recipe``."""
        return Trace(self, caller, recipe)

    def append(self, caller: str, recipe: str, step: int, text: str) -> None:
        self.entries.append(LogEntry(self._now(), caller, recipe, step, text))


class Trace:
    """One call's way into the log; it is handed down to everything that the call does."""

    def __init__(self, log: CommandLog, caller: str, recipe: str):
        self.log = log
        self.caller = caller
        self.recipe = recipe
        self._steps = 0

    def step(self, text: str) -> None:
        """Log the next step."""
        self._steps += 1
        self.log.append(self.caller, self.recipe, self._steps, text)

    def follow(self, recipe: str) -> "Trace":
        """The same caller, following another recipe."""
        return Trace(self.log, self.caller, recipe)
