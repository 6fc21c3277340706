"""What the story leaves behind, in plain data that can travel from a simulator's process."""

from dataclasses import dataclass, field

from ..host.log import LogEntry
from ..host.vtd.faults import FaultRecord
from ..model import Result
from ..walk_table import walk_as_dict
from .check import Transaction

__all__ = ["StoryReport", "Verdict"]


@dataclass(frozen=True)
class Verdict:
    """One thing that the story checked, in one sentence."""

    chapter: str
    statement: str
    holds: bool


@dataclass
class StoryReport:
    """Everything that happened.

    Parameters
    ----------
    verdicts : list of Verdict
        What was checked.
    transactions : list of Transaction
        Every request with the unit's and the model's answer.
    faults : list of FaultRecord
        What the fault recording registers held, in order.
    commands : list of LogEntry
        Everything sent to the unit.
    nested_walk : Result or None
        The first nested translation that was granted, with its accesses to memory.
    time : int
        Duration in the transport's unit of time.
    """

    verdicts: list[Verdict] = field(default_factory=list)
    transactions: list[Transaction] = field(default_factory=list)
    faults: list[FaultRecord] = field(default_factory=list)
    commands: list[LogEntry] = field(default_factory=list)
    nested_walk: Result | None = None
    time: int = 0

    @property
    def agree(self) -> int:
        """Answers that equal the golden model's."""
        return sum(not transaction.problem for transaction in self.transactions)

    @property
    def holds(self) -> bool:
        """Whether everything went as it has to."""
        return self.agree == len(self.transactions) > 0 and all(verdict.holds for verdict in self.verdicts)

    def as_dict(self) -> dict[str, object]:
        """In plain JSON types."""
        return {
            "holds": self.holds,
            "requests": len(self.transactions),
            "agree": self.agree,
            "cycles": self.time,
            "verdicts": [vars(verdict) for verdict in self.verdicts],
            "transactions": [transaction.as_dict() for transaction in self.transactions],
            "faults": [vars(record) for record in self.faults],
            "commands": [vars(entry) for entry in self.commands],
            "nested_walk": walk_as_dict(self.nested_walk) if self.nested_walk is not None else None,
        }
