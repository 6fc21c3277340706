"""How registers are described: fields with bits, access attribute and reset value (§0.3). Plain data, no hardware."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

__all__ = ["Attribute", "Field", "Register"]


class Attribute(Enum):
    """Access attribute of a field (§0.3). The unit's reset is a cold one: it clears sticky fields, too."""

    RW = "RW"
    RO = "RO"
    WO = "WO"
    RW1C = "RW1C"
    RW1CS = "RW1CS"
    ROS = "ROS"

    @property
    def stored(self) -> bool:
        """The register file keeps the value; otherwise the hardware behind it does."""
        return self not in (Attribute.RO, Attribute.ROS)

    @property
    def readable(self) -> bool:
        """Reads return the value; otherwise 0."""
        return self is not Attribute.WO

    @property
    def write_one_clears(self) -> bool:
        """Writing 1 clears the bit, which only the hardware sets."""
        return self in (Attribute.RW1C, Attribute.RW1CS)


@dataclass(frozen=True, kw_only=True)
class Field:
    """Bits of a register.

    Parameters
    ----------
    name : str
        The specification's name, upper case.
    high, low : int
        Bits of the register, ``high`` included.
    attribute : Attribute
        What reads and writes do.
    description : str
        One line for the documentation.
    reset : int
        Value after reset; of a stored field.
    self_clearing : bool
        A single bit that software sets to start something and hardware clears when it is done; writing 0 does nothing.
    hardware : bool
        A stored field that the hardware changes, too.
    starts : bool
        Writing the field, whatever the value, starts something.
    when : str
        The capability, like ``ECAP.DT``, without which the field is reserved (reads 0); empty for none.
    """

    name: str
    high: int
    low: int
    attribute: Attribute
    description: str
    reset: int = 0
    self_clearing: bool = False
    hardware: bool = False
    starts: bool = False
    when: str = ""

    def __post_init__(self):
        if not 0 <= self.low <= self.high:
            raise ValueError(f"field {self.name} has bits {self.high}:{self.low}")
        if self.reset >> self.width:
            raise ValueError(f"field {self.name} of {self.width} bits cannot reset to {self.reset:#x}")
        if self.self_clearing and self.width != 1:
            raise ValueError(f"self-clearing field {self.name} is a single bit, not {self.width}")

    @property
    def width(self) -> int:
        """Number of bits."""
        return self.high - self.low + 1

    @property
    def mask(self) -> int:
        """Mask of the field within the register."""
        return ((1 << self.width) - 1) << self.low

    def extract(self, value: int) -> int:
        """The field's value in the register's ``value``."""
        return (value & self.mask) >> self.low


@dataclass(frozen=True, kw_only=True)
class Register:
    """A register, or an array of equal ones.

    Parameters
    ----------
    name : str
        The specification's name without ``_REG``.
    offset : int
        Byte offset in the register block; of the first one of an array.
    width : int
        32, 64 or 128 bits, 64 or 128 in an array.
    section : str
        Where the reference describes it.
    description : str
        One line for the documentation.
    fields : tuple of Field
        All bits that are not named are reserved: writes are ignored, reads return 0.
    array : bool
        Whether there are several of them.
    length : int
        How many; 0 for one of each fault record.
    stride : int
        Bytes from one to the next, a power of two; 0 where they follow each other directly.
    lockable : bool
        Whether there are times in which writes have no effect.
    """

    name: str
    offset: int
    width: int
    section: str
    description: str
    fields: tuple[Field, ...]
    array: bool = False
    length: int = 0
    stride: int = 0
    lockable: bool = False

    def __post_init__(self):
        taken = 0
        for field in self.fields:
            if field.high >= self.width or field.mask & taken:
                raise ValueError(f"field {field.name} does not fit {self.name}")
            taken |= field.mask
        if self.offset % min(self.width // 8, 16):
            raise ValueError(f"{self.name} at {self.offset:#x} is not aligned")

    def count(self, fault_records: int) -> int:
        """How many there are in a unit with so many fault recording registers."""
        return (self.length or fault_records) if self.array else 1

    @property
    def step(self) -> int:
        """Bytes from one to the next."""
        return self.stride or self.width // 8

    def place(self, index: int) -> int:
        """Byte offset of the register of number ``index``."""
        return self.offset + index * self.step

    @cached_property
    def by_name(self) -> Mapping[str, Field]:
        """The fields by their names."""
        return {field.name: field for field in self.fields}

    def pack(self, values: Mapping[str, int]) -> int:
        """The register's value with the named fields set and all others 0.

        Raises
        ------
        ValueError
            When there is no such field, or a value does not fit its field.
        """
        packed = 0
        for name, value in values.items():
            field = self.by_name.get(name)
            if field is None:
                raise ValueError(f"{self.name} has no field {name}")
            if not 0 <= value < 1 << field.width:
                raise ValueError(f"{value:#x} does not fit {self.name}.{name} of {field.width} bits")
            packed |= value << field.low
        return packed

    def unpack(self, value: int) -> dict[str, int]:
        """Every field's value in the register's ``value``."""
        return {field.name: field.extract(value) for field in self.fields}
