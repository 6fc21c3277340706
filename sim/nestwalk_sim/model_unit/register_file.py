"""Storage behind the register table: read, write with each field's attribute, write-one-to-clear."""

from nestwalk.config import IommuConfig
from nestwalk.registers.capability import is_announced
from nestwalk.registers.description import Attribute, Register
from nestwalk.registers.table import REGISTERS

__all__ = ["RegisterFile"]

DWORD = (1 << 32) - 1


def _bits(fields) -> int:
    return sum(field.mask for field in fields)


class RegisterFile:
    """Values of all registers; what the configuration does not announce is reserved.

    Parameters
    ----------
    config : IommuConfig
        Says what there is, and how many elements FRCD has; they are called ``FRCD0``, ``FRCD1``, ...

    ``locked`` are names of registers to which writes have no effect.
    """

    def __init__(self, config: IommuConfig):
        self._registers: dict[str, Register] = {}
        self._values: dict[str, int] = {}
        self._dwords: dict[int, tuple[str, int]] = {}
        self.locked: set[str] = set()
        self._announced = {
            name: [field for field in register.fields if is_announced(config, field)]
            for name, register in REGISTERS.items()
        }
        for name, register in REGISTERS.items():
            for index in range(register.count(config.fault_records)):
                element = f"{name}{index}" if register.array else name
                self._registers[element] = register
                self._values[element] = register.pack({field.name: field.reset for field in self._announced[name]})
                first = register.place(index)
                for at in range(0, register.width // 8, 4):
                    self._dwords[first + at] = element, 8 * at

    def __getitem__(self, name: str) -> int:
        return self._values[name]

    def __setitem__(self, name: str, value: int) -> None:
        self._values[name] = value

    def field(self, name: str, field: str) -> int:
        """One field's value."""
        return self._registers[name].by_name[field].extract(self._values[name])

    def set_field(self, name: str, field: str, value: int) -> None:
        """Change one field as the hardware behind the register does, whatever software may do to it."""
        mask = self._registers[name].by_name[field]
        value = value << mask.low & _bits(self._fields(name))
        self._values[name] = self._values[name] & ~mask.mask | value

    def read(self, offset: int, size: int) -> int:
        """What a read of ``size`` bytes, 4 or 8, returns; 0 where there is no register."""
        return sum(self._read(offset + at) << 8 * at for at in range(0, size, 4))

    def _read(self, offset: int) -> int:
        if offset not in self._dwords:
            return 0
        element, shift = self._dwords[offset]
        readable = _bits(field for field in self._fields(element) if field.attribute.readable)
        return (self._values[element] & readable) >> shift & DWORD

    def write(self, offset: int, size: int, value: int) -> dict[str, int]:
        """Write ``size`` bytes, 4 or 8.

        Returns
        -------
        dict of str to int
            The registers that were written, and the bits written to each in their places.
        """
        touched: dict[str, int] = {}
        for at in range(0, size, 4):
            if offset + at in self._dwords:
                element, shift = self._dwords[offset + at]
                if element in self.locked:
                    continue
                self._write(element, DWORD << shift, (value >> 8 * at & DWORD) << shift)
                touched[element] = touched.get(element, 0) | (value >> 8 * at & DWORD) << shift
        return touched

    def _write(self, element: str, mask: int, bits: int) -> None:
        fields = self._fields(element)
        cleared = _bits(field for field in fields if field.attribute.write_one_clears)
        stored = mask & _bits(
            field for field in fields if field.attribute in (Attribute.RW, Attribute.WO) and not field.self_clearing
        )
        self._values[element] = (self._values[element] & ~stored | bits & stored) & ~(bits & cleared)

    def _fields(self, element: str):
        """The announced fields of a register."""
        return self._announced[self._registers[element].name]
