"""Accessors of the unit's registers, made from the register table that the hardware is made from too.

The only module of the host stack that knows that table.
"""

from dataclasses import dataclass

from nestwalk.registers.table import REGISTERS

from ..log import Trace
from ..transport import Transport, poll

__all__ = ["Capabilities", "RegisterValue", "Registers"]

KEPT_COMMANDS = 0x96FF_FFFF
"""GSTS without its one-shot bits: what every write of GCMD repeats (§1.5.1)."""

COMMANDS = {"TE": "TES", "SRTP": "RTPS", "WBF": "WBFS", "QIE": "QIES"}
"""Command bit of GCMD and the status bit of GSTS that answers it."""


@dataclass(frozen=True)
class RegisterValue:
    """A register's value with its fields by name.

    Parameters
    ----------
    name : str
        Name without ``_REG``.
    raw : int
        The whole value.
    """

    name: str
    raw: int

    def __getitem__(self, field: str) -> int:
        return REGISTERS[self.name].by_name[field].extract(self.raw)


class Registers:
    """Registers of one unit, by the specification's names without ``_REG``."""

    def __init__(self, transport: Transport):
        self.transport = transport

    async def read(self, name: str, index: int = 0, base: int | None = None) -> RegisterValue:
        """Read one register, of an array that of number ``index``; of 128 bits the upper half first.

        Parameters
        ----------
        base : int, optional
            Byte offset of the first one, where a capability tells it.
        """
        register = REGISTERS[name]
        offset = self._offset(name, index, base)
        if register.width == 32:
            return RegisterValue(name, await self.transport.read32(offset))
        high = await self.transport.read64(offset + 8) if register.width == 128 else 0
        return RegisterValue(name, high << 64 | await self.transport.read64(offset))

    async def clear(self, name: str, field: str, index: int = 0, base: int | None = None) -> None:
        """Clear a status bit by writing 1 to it, and nothing to the rest of the register."""
        place = REGISTERS[name].by_name[field].low
        await self.transport.write32(self._offset(name, index, base) + place // 32 * 4, 1 << place % 32)

    async def write(self, name: str, **fields: int) -> None:
        """Write one register: the named fields (values from their own bit 0), zero elsewhere.

        Raises
        ------
        ValueError
            When there is no such field or a value does not fit it.
        """
        register = REGISTERS[name]
        value = register.pack(fields)
        write = self.transport.write32 if register.width == 32 else self.transport.write64
        await write(register.offset, value)

    @staticmethod
    def _offset(name: str, index: int, base: int | None) -> int:
        register = REGISTERS[name]
        return (register.offset if base is None else base) + index * register.step

    async def global_command(self, command: str, on: bool, trace: Trace) -> None:
        """Give one global command by the protocol of §1.5.1 and wait for its answer.

        Parameters
        ----------
        command : str
            ``TE``, ``SRTP``, ``QIE`` or ``WBF``.
        on : bool
            Level to set; one-shot commands are given with True.

        Raises
        ------
        IommuError
            ETIMEDOUT when the status bit does not follow.
        """
        status = COMMANDS[command]
        kept = (await self.read("GSTS")).raw & KEPT_COMMANDS
        bit = REGISTERS["GCMD"].by_name[command].mask
        await self.transport.write32(REGISTERS["GCMD"].offset, kept | bit if on else kept & ~bit)
        # A write-buffer flush is done when its status falls back; everything else when it follows.
        expected = int(on and command != "WBF")

        async def followed() -> bool:
            return (await self.read("GSTS"))[status] == expected

        await poll(self.transport, followed, f"GSTS.{status} = {expected}")
        trace.step(f"GCMD {command}={int(on)}, GSTS {status}={expected}")


@dataclass(frozen=True)
class Capabilities:
    """What the unit announces in CAP and ECAP, as far as the driver asks (§1.3, §1.4)."""

    cap: RegisterValue
    ecap: RegisterValue

    @classmethod
    async def read(cls, regs: Registers) -> "Capabilities":
        return cls(await regs.read("CAP"), await regs.read("ECAP"))

    def __getitem__(self, field: str) -> int:
        """A field of either register; their names do not overlap."""
        return (self.cap if field in REGISTERS["CAP"].by_name else self.ecap)[field]

    @property
    def second_stage_levels(self) -> frozenset[int]:
        """Numbers of levels that second-stage tables may have (SAGAW)."""
        return frozenset(levels for levels in (3, 4, 5) if self["SAGAW"] >> levels - 2 & 1)

    @property
    def domain_ids(self) -> int:
        """Number of domain identifiers (ND)."""
        return 1 << 2 * self["ND"] + 4

    @property
    def fault_record_offset(self) -> int:
        """Byte offset of the first fault recording register (FRO)."""
        return 16 * self["FRO"]

    @property
    def fault_records(self) -> int:
        """Number of fault recording registers (NFR + 1)."""
        return self["NFR"] + 1
