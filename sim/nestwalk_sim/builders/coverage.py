"""What a run of random translations must have met: every fault condition, shape and kind of access."""

from collections import Counter

from ..model import Access, Mode, ModelConfig, Result, untranslated_conditions
from .random_scenario import Draw
from .shapes import legacy_shapes, scalable_shapes

__all__ = ["Coverage"]


class Coverage:
    """Counts bins and names those that stayed empty.

    Parameters
    ----------
    config : ModelConfig
        Announced capabilities, which decide what can be met.

    The bins are ``("fault", condition)``, ``("granted", shape)``, ``("access", mode, access)`` of granted requests and
    ``("mode", mode)``.
    """

    def __init__(self, config: ModelConfig):
        self.counts: Counter[tuple] = Counter()
        self._wanted: set[tuple] = {("fault", condition) for condition in untranslated_conditions(config)}
        shapes = (scalable_shapes(config) if config.scalable_mode else []) + (
            legacy_shapes(config) if config.second_stage else []
        )
        self._wanted |= {("granted", shape) for shape in shapes}
        self._wanted |= {("access", shape.mode, access) for shape in shapes for access in Access}
        self._wanted |= {("mode", Mode.UNTRANSLATED), ("mode", Mode.INTERRUPT)}

    def record(self, draw: Draw, result: Result) -> None:
        """Count one translation."""
        self.counts["mode", result.mode] += 1
        if result.granted:
            self.counts["granted", draw.shape] += 1
            self.counts["access", result.mode, draw.request.access] += 1
        else:
            self.counts["fault", result.fault_condition] += 1

    def missing(self) -> list[str]:
        """The bins that nothing fell into, readable."""
        return sorted(" ".join(map(str, wanted)) for wanted in self._wanted if not self.counts[wanted])
