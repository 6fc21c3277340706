"""Shapes of random targets: which translation, how many levels, how large pages."""

from typing import NamedTuple

from ..model import Mode, ModelConfig

__all__ = ["Expectation", "Shape", "legacy_shapes", "scalable_shapes"]

_SIZES = {1: 1 << 12, 2: 1 << 21, 3: 1 << 30}


class Shape(NamedTuple):
    """Kind of translation and, where a stage takes part, its levels and page size in bytes (0 where it does not).

    ``legacy`` tells legacy from scalable mode, which pass-through alone would not.
    """

    mode: Mode
    first_levels: int = 0
    first_size: int = 0
    second_levels: int = 0
    second_size: int = 0
    legacy: bool = False


class Expectation(NamedTuple):
    """What the builder knows of an answer: a grant with host address and page size in bytes (0: none), or the name
    of the fault condition."""

    condition: str | None
    address: int = 0
    page_size: int = 0


def _second_sizes(config: ModelConfig) -> list[int]:
    return [_SIZES[1]] + [_SIZES[2]] * config.second_stage_2m + [_SIZES[3]] * config.second_stage_1g


def scalable_shapes(config: ModelConfig) -> list[Shape]:
    """All shapes of scalable mode that the configuration announces."""
    first_levels = [4, 5] if config.first_stage_5_level else [4]
    first_sizes = [_SIZES[1], _SIZES[2]] + [_SIZES[3]] * config.first_stage_1g
    firsts = [(levels, size) for levels in first_levels for size in first_sizes]
    seconds = [(levels, size) for levels in sorted(config.second_stage_levels) for size in _second_sizes(config)]
    shapes = [Shape(Mode.FIRST_STAGE, *first) for first in firsts] if config.first_stage else []
    if config.second_stage:
        shapes += [Shape(Mode.SECOND_STAGE, 0, 0, *second) for second in seconds]
    if config.nested:
        shapes += [Shape(Mode.NESTED, *first, *second) for first in firsts for second in seconds]
    if config.pass_through:
        shapes.append(Shape(Mode.PASS_THROUGH))
    return shapes


def legacy_shapes(config: ModelConfig) -> list[Shape]:
    """All shapes of legacy mode that the configuration announces."""
    sizes = _second_sizes(config)
    shapes = [Shape(Mode.LEGACY, 0, 0, levels, size, True) for levels in config.second_stage_levels for size in sizes]
    return shapes + [Shape(Mode.PASS_THROUGH, legacy=True)] * config.pass_through
