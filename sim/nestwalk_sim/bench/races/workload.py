"""The sweep as a workload: `races`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from nestwalk.config import IommuConfig, preset

from ...model import ModelConfig, model_preset
from ...rtl.build import UNIT
from ...rtl.run import Progress, run_in_simulation
from ..hardware.axi_port import AXI_PORT
from ..session import Outcome, Session, Workload
from .arena import SHAPES, Shape
from .stream import invalidate_amid_misses
from .sweep import Found, Job, sweep_in_simulation

__all__ = ["PORTS", "Races", "sweep"]

PORTS = {"core": UNIT, "axi": AXI_PORT}
"""Where requests come in, and the component that is simulated for it."""

_TARGET = f"{sweep_in_simulation.__module__}:{sweep_in_simulation.__name__}"


def sweep(
    cfg: IommuConfig,
    model: ModelConfig,
    port: str,
    seed: int,
    sample: float = 1,
    *,
    shapes: tuple[Shape, ...] = SHAPES,
    uncovered: bool = False,
    told: Progress | None = None,
) -> dict[str, Found]:
    """Sweep all rows at a port. A unit that hangs is simulated anew for the rows after that.

    Parameters
    ----------
    cfg, model : IommuConfig, ModelConfig
        The unit, and what it announces.
    port : str
        One of `PORTS`. The AXI port shows no faults, so that no entry is removed there.
    seed : int
        Of addresses, and of what is drawn.
    sample : float
        Share of the timings of each row that is drawn, at least one; 1 for all.
    shapes : tuple of Shape
        Of the address spaces.
    uncovered : bool
        Let each invalidation miss what has changed, to see that this is found.
    told : callable, optional
        Told how far it is.
    """
    found: dict[str, Found] = {}
    hung: str | None = ""
    while hung is not None:
        job = Job(cfg, model, shapes, seed, port == "core", sample, frozenset(found), uncovered)
        part, hung = run_in_simulation(cfg, _TARGET, job, unit=PORTS[port], progress=told)
        found |= part
    return found


@dataclass(frozen=True)
class Races(Workload):
    """Every entry of a walk changes, and is invalidated, at every moment of the walk; at the core port and at the AXI
    port. Then unrelated invalidations amid misses.

    ``sample`` is the share of the timings that is drawn, ``pages`` are those of the stream of misses.
    """

    name: ClassVar[str] = "races"
    sample: float = 1
    shapes: tuple[Shape, ...] = SHAPES
    pages: int = 8192

    def measure(self, preset_name: str, seed: int, told: Progress | None = None, *, unit: str = UNIT) -> Outcome:
        """At both ports, whatever ``unit``; errors as for the other workloads."""
        outcome = Outcome()
        cfg, model = preset(preset_name), model_preset(preset_name)
        for port, component in PORTS.items():
            report = told and _prefixed(told, port)
            found = sweep(cfg, model, port, seed, self.sample, shapes=self.shapes, told=report)
            stream = super().measure(preset_name, seed, report, unit=component)
            for name in ("timings", "stale", "mixed", "hung"):
                outcome.figures[f"{port}_{name}"] = sum(getattr(row, name) for row in found.values())
            outcome.figures["rows"] = outcome.figures.get("rows", 0) + len(found)
            outcome.figures |= {f"{port}_stream_{name}": value for name, value in stream.figures.items()}
            outcome.details |= {f"{port}.{name}": row.figures for name, row in found.items()}
            outcome.notes += [problem for row in found.values() for problem in row.problems]
        return outcome

    async def run(self, session: Session) -> Outcome:
        """The stream of misses."""
        return Outcome(await invalidate_amid_misses(session, self.pages))


def _prefixed(told: Progress, port: str) -> Callable[[int, int, str], None]:
    return lambda done, total, what: told(done, total, f"{port} {what}")
