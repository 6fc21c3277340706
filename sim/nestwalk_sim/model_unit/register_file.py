"""Storage behind the register table: read, write with each field's attribute, write-one-to-clear."""

from nestwalk.config import IommuConfig
from nestwalk.registers.capability import is_announced
from nestwalk.registers.description import Attribute, Register
from nestwalk.registers.table import REGISTERS

__all__ = ["RegisterFile"]


class RegisterFile:
    """Values of all registers. Fields that are not announced are 0, whatever is done to them.

    Parameters
    ----------
    config : IommuConfig
        Says which fields there are and how many elements FRCD has; they are called ``FRCD0``, ``FRCD1``, ...
    """

    def __init__(self, config: IommuConfig):
        self._registers: dict[str, tuple[Register, int]] = {}
        self._values: dict[str, int] = {}
        self._announced: dict[str, int] = {}
        for name, register in REGISTERS.items():
            announced = [field for field in register.fields if is_announced(config, field)]
            self._announced[name] = sum(field.mask for field in announced)
            for index in range(register.count(config.fault_records)):
                element = f"{name}{index}" if register.array else name
                self._registers[element] = register, register.offset + index * register.width // 8
                self._values[element] = register.pack({field.name: field.reset for field in announced})

    def __getitem__(self, name: str) -> int:
        return self._values[name]

    def __setitem__(self, name: str, value: int) -> None:
        self._values[name] = value

    def field(self, name: str, field: str) -> int:
        """One field's value."""
        return self._registers[name][0].by_name[field].extract(self._values[name])

    def set_field(self, name: str, field: str, value: int) -> None:
        """Change one field as the hardware behind the register does, whatever software may do to it."""
        register = self._registers[name][0]
        mask = register.by_name[field]
        value = value << mask.low & self._announced[register.name]
        self._values[name] = self._values[name] & ~mask.mask | value

    def read(self, offset: int, size: int) -> int:
        """What a read of ``size`` bytes returns; 0 where there is no register."""
        name, shift = self._find(offset)
        if name is None:
            return 0
        register = self._registers[name][0]
        readable = sum(field.mask for field in register.fields if field.attribute.readable)
        return (self._values[name] & readable) >> shift & (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> tuple[str | None, int]:
        """Write ``size`` bytes.

        Returns
        -------
        tuple of str or None, and int
            The register that was written, and the bits written to it in their places.
        """
        name, shift = self._find(offset)
        if name is None:
            return None, 0
        register = self._registers[name][0]
        touched = (1 << 8 * size) - 1 << shift
        written = value << shift & touched
        cleared = sum(field.mask for field in register.fields if field.attribute.write_one_clears)
        stored = sum(field.mask for field in register.fields if field.attribute is Attribute.RW)
        stored &= touched & self._announced[register.name]
        self._values[name] = (self._values[name] & ~stored | written & stored) & ~(written & cleared)
        return name, written

    def _find(self, offset: int) -> tuple[str | None, int]:
        """The register at a byte offset, and how many bits into it that is."""
        for name, (register, first) in self._registers.items():
            if first <= offset < first + register.width // 8:
                return name, 8 * (offset - first)
        return None, 0
