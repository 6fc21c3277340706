"""The catalogue of defects and what they are written with. Each turns a sane random target into one that meets one
fault condition, named as in §4.

A defect is a function of a target, registered under its condition with the shapes it fits. The builder knows the
condition from how the tables were made, not from the model.
"""

from collections.abc import Callable
from typing import NamedTuple

from ...model import Mode, Structure
from ..paging import LEAF_LEVEL
from ..shapes import Shape
from ..structures import change_entry
from ..target import Target

__all__ = [
    "DEFECTS",
    "Defect",
    "beyond_guest_width",
    "beyond_haw",
    "change_context",
    "change_directory",
    "change_legacy_context",
    "change_pasid",
    "defect",
    "is_deep_second",
    "is_first",
    "is_legacy",
    "is_legacy_deep_second",
    "is_legacy_pass_through",
    "is_legacy_second",
    "is_legacy_small",
    "is_narrow_nested",
    "is_nested",
    "is_only_first",
    "is_only_second",
    "is_paged_small",
    "is_pass_through",
    "is_scalable",
    "is_second",
    "root_entry",
    "scalable_tables",
    "set_bit",
]

_SMALL = 4096


class Defect(NamedTuple):
    """``plant`` spoils a target so that it meets ``condition``; ``fits`` tells which shapes it can spoil; ``pasid``
    which requests: with PASID, without, or both (None)."""

    condition: str
    plant: Callable[[Target], None]
    fits: Callable[[Shape], bool]
    pasid: bool | None


DEFECTS: list[Defect] = []
"""All defects that fit into a target; those of the root-table address belong to a whole scenario."""


def is_scalable(shape: Shape) -> bool:
    return not shape.legacy


def is_legacy(shape: Shape) -> bool:
    return shape.legacy


def is_first(shape: Shape) -> bool:
    return shape.first_levels > 0


def is_only_first(shape: Shape) -> bool:
    return shape.mode is Mode.FIRST_STAGE


def is_second(shape: Shape) -> bool:
    return shape.second_levels > 0 and not shape.legacy


def is_only_second(shape: Shape) -> bool:
    return shape.mode is Mode.SECOND_STAGE


def is_legacy_second(shape: Shape) -> bool:
    return shape.mode is Mode.LEGACY


def _one_second_level(shape: Shape) -> bool:
    """Whether the root of the second stage holds the leaf: no entry above it."""
    return shape.second_levels == LEAF_LEVEL.get(shape.second_size)


def is_deep_second(shape: Shape) -> bool:
    return is_nested(shape) or (is_second(shape) and not _one_second_level(shape))


def is_legacy_deep_second(shape: Shape) -> bool:
    return is_legacy_second(shape) and not _one_second_level(shape)


def is_nested(shape: Shape) -> bool:
    return shape.mode is Mode.NESTED


def is_narrow_nested(shape: Shape) -> bool:
    return is_nested(shape) and shape.second_levels < 5


def is_pass_through(shape: Shape) -> bool:
    return shape.mode is Mode.PASS_THROUGH and not shape.legacy


def is_legacy_pass_through(shape: Shape) -> bool:
    return shape.mode is Mode.PASS_THROUGH and shape.legacy


def is_paged_small(shape: Shape) -> bool:
    """Shapes whose last stage has 4 KiB pages, so that its leaf can point to any page."""
    return not shape.legacy and (shape.second_size or shape.first_size) == _SMALL


def is_legacy_small(shape: Shape) -> bool:
    return shape.legacy and shape.second_size == _SMALL


def defect(condition: str, fits: Callable[[Shape], bool], pasid: bool | None = None):
    def register(plant: Callable[[Target], None]) -> Callable[[Target], None]:
        DEFECTS.append(Defect(condition, plant, fits, pasid))
        return plant

    return register


def root_entry(target: Target) -> int:
    """Address of the root entry's qword that the requester uses."""
    if target.scalable is not None:
        return target.scalable.root_entry_address(target.source_id) + (8 if target.source_id & 0x80 else 0)
    assert target.legacy is not None
    return target.legacy.root_entry_address(target.source_id)


def scalable_tables(target: Target):
    tables = target.scalable
    assert tables is not None
    return tables


def change_context(target: Target, **fields: int) -> None:
    place = scalable_tables(target).context_entry_address(target.source_id)
    change_entry(target.memory, Structure.SCALABLE_CONTEXT, place, **fields)


def change_legacy_context(target: Target, **fields: int) -> None:
    assert target.legacy is not None
    place = target.legacy.context_entry_address(target.source_id)
    change_entry(target.memory, Structure.LEGACY_CONTEXT, place, **fields)


def change_directory(target: Target, **fields: int) -> None:
    place = scalable_tables(target).directory_entry_address(target.source_id, target.pasid)
    change_entry(target.memory, Structure.PASID_DIRECTORY, place, **fields)


def change_pasid(target: Target, **fields: int) -> None:
    place = scalable_tables(target).pasid_entry_address(target.source_id, target.pasid)
    change_entry(target.memory, Structure.PASID_TABLE, place, **fields)


def set_bit(target: Target, address: int, bits: list[int]) -> None:
    """Set one random bit out of a list of bit numbers of the entry at ``address``."""
    bit = target.random.choice(bits)
    place = address + bit // 64 * 8
    target.memory.write64(place, target.memory.read64(place) | 1 << bit % 64)


def beyond_haw(target: Target, qword: int = 0) -> list[int]:
    return list(range(64 * qword + target.config.haw, 64 * qword + 64))


def beyond_guest_width(target: Target) -> int:
    """A page address that fits into HAW but not into the second stage."""
    width = target.config.guest_width(target.shape.second_levels)
    return target.random.randrange(1 << (width - 12), 1 << (target.config.haw - 12)) << 12
