"""What all structures in memory share: masks of named fields, reserved bits, and reading in 16-byte pieces (§2)."""

from collections.abc import Iterable
from functools import reduce
from operator import or_
from typing import Any, Self

from amaranth.hdl import Cat, Const, Value
from amaranth.lib import data

from ..bus.memory import PIECE_BITS
from ..config import IommuConfig

__all__ = ["FixedStructure", "Structure", "check_width", "combine", "piece_of"]


def check_width(structure: type[data.Struct], bits: int):
    """Raise `TypeError` unless ``structure`` is exactly ``bits`` wide; called at import for every structure."""
    if structure.as_shape().size != bits:
        raise TypeError(f"{structure.__name__} is {structure.as_shape().size} bits wide, not {bits}")


def combine(masks: Iterable[int]) -> int:
    """Bitwise OR of ``masks``."""
    return reduce(or_, masks, 0)


def piece_of(mask: int, number: int) -> int:
    """The 128 bits of ``mask`` that belong to piece ``number``."""
    return mask >> number * PIECE_BITS & (1 << PIECE_BITS) - 1


class Structure(data.Struct):
    """A structure in memory. Fields have the specification's names in lower case; only ``rsvd…`` must be 0."""

    @classmethod
    def width(cls) -> int:
        """Bits of the whole structure."""
        return cls.as_shape().size

    @classmethod
    def mask(cls, field: str, low: int = 0) -> int:
        """Mask of ``field`` within the structure, from the field's bit ``low`` upwards."""
        place = cls.as_shape()[field]
        return ((1 << place.width) - 1 & -1 << low) << place.offset

    @classmethod
    def at_piece(cls, number: int, piece) -> Self:
        """View of a structure of which only piece ``number`` (``piece``, 128 bits) is known; all other bits are 0."""
        below, above = number * PIECE_BITS, cls.width() - (number + 1) * PIECE_BITS
        view: Any = cls  # called with the value alone, which its metaclass arranges
        return view(Cat(Const(0, below), piece, Const(0, above)))


class FixedStructure(Structure):
    """A structure whose reserved bits depend on the configuration only, so that they are one constant mask."""

    @classmethod
    def also_reserved(cls, cfg: IommuConfig) -> Iterable[int]:
        """Masks of the bits that are reserved under ``cfg`` besides the fields named ``rsvd…``."""
        return ()

    @classmethod
    def reserved_mask(cls, cfg: IommuConfig) -> int:
        """All bits that must be 0 under ``cfg``."""
        named = combine(cls.mask(name) for name, _ in cls.as_shape() if name.startswith("rsvd"))
        return named | combine(cls.also_reserved(cfg))

    def reserved_set(self, cfg: IommuConfig) -> Value:
        """A reserved bit is set anywhere in the structure: 1 bit, combinational."""
        return (self.as_value() & self.reserved_mask(cfg)).any()

    @classmethod
    def reserved_in_piece(cls, cfg: IommuConfig, number: int, piece) -> Value:
        """A reserved bit is set in piece ``number`` (``piece``, 128 bits): 1 bit, combinational.

        A piece past the end of the structure is reserved as a whole (padding of 128-bit descriptors, §5.1).
        """
        padding = -1 << cls.width()
        return (Value.cast(piece) & piece_of(cls.reserved_mask(cfg) | padding, number)).any()
