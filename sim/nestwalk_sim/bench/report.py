"""What a run of the workloads found, and the run itself."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from .session import Outcome
from .targets import REFERENCES, Reference, verdict_of
from .workloads import QUICK, WORKLOADS

__all__ = ["BenchReport", "Progress", "Row", "run_workloads"]

Progress = Callable[[str, int, int, str], None]
"""Told the workload, how much of it is done, of how much, and what is being done."""


_IN_CASES = ("tenants", "cold_walk", "invalidate_under_load")
"""Workloads of which some cases may be asked for only."""


class Row(NamedTuple):
    """One figure, None when it could not be measured, and what is known about it."""

    figure: str
    value: float | None
    reference: Reference


@dataclass
class BenchReport:
    """The figures of some workloads.

    Attributes
    ----------
    preset : str
    seed : int
    quick : bool
        Whether sizes were reduced, so that the figures must not be quoted.
    workloads : dict
        Figures by workload and name.
    notes : dict
        By workload.
    histograms : dict
        By workload and name: how often each number of cycles occurred.
    details : dict
        By workload and row of a sweep: figures.
    counters : dict
        By workload and event.
    """

    preset: str
    seed: int
    quick: bool = False
    workloads: dict[str, dict[str, float]] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)
    histograms: dict[str, dict[str, dict[int, int]]] = field(default_factory=dict)
    details: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    counters: dict[str, dict[str, int]] = field(default_factory=dict)

    def add(self, workload: str, outcome: Outcome) -> None:
        """Take in what a workload found."""
        self.workloads[workload] = outcome.figures
        if outcome.notes:
            self.notes[workload] = outcome.notes
        if outcome.histograms:
            self.histograms[workload] = outcome.histograms
        if outcome.details:
            self.details[workload] = outcome.details
        if outcome.counters:
            self.counters[workload] = outcome.counters

    def as_dict(self) -> dict[str, object]:
        """In plain JSON types."""
        return {
            "preset": self.preset,
            "seed": self.seed,
            "quick": self.quick,
            "workloads": self.workloads,
            "targets": self.targets,
            "met": self.met,
            "notes": self.notes,
            "histograms": self.histograms,
            "details": self.details,
            "counters": self.counters,
        }

    def rows(self, workload: str) -> list[Row]:
        """The figures of a workload that ran: those of the reference in its order, then the others.

        A figure that the reference names and the unit cannot give yet is among them, without a value; a case that was
        not asked for is not.
        """
        figures, known = self.workloads[workload], REFERENCES.get(workload, {})
        wanted = [name for name in known if name in figures or workload not in _IN_CASES]
        names = [*wanted, *(name for name in figures if name not in known)]
        return [Row(name, figures.get(name), known.get(name, Reference())) for name in names]

    def _verdicts(self) -> list[bool]:
        rows = [row for workload in self.workloads for row in self.rows(workload)]
        return [met for row in rows if (met := verdict_of(row.value, row.reference).met) is not None]

    @property
    def targets(self) -> int:
        """Figures that have a target."""
        return len(self._verdicts())

    @property
    def met(self) -> int:
        """Figures that meet theirs."""
        return sum(self._verdicts())


def run_workloads(
    names: Iterable[str], preset_name: str, seed: int, *, quick: bool = False, told: Progress | None = None
) -> BenchReport:
    """Run workloads one after the other.

    Parameters
    ----------
    names : iterable of str
        Which.
    preset_name : str
    seed : int
        Of pages, PASIDs and orders.
    quick : bool
        Reduce the sizes.
    told : callable, optional
        Told how far it is.

    Raises
    ------
    UserError
        As the workloads do.
    """
    report = BenchReport(preset_name.upper(), seed, quick)
    available = QUICK if quick else WORKLOADS
    for name in names:

        def passed_on(done: int, total: int, what: str, name: str = name) -> None:
            if told is not None:
                told(name, done, total, what)

        passed_on(0, 1, "")
        report.add(name, available[name].measure(preset_name, seed, passed_on))
        passed_on(1, 1, "")
    return report
