"""Event interrupts of the software unit: pending bits, masks and messages (§1.8.2, §1.9)."""

from contextlib import suppress
from dataclasses import dataclass

from ..memory import AccessError, Memory
from .register_file import RegisterFile

__all__ = ["Events"]


@dataclass(frozen=True)
class _Kind:
    """One kind of event: its registers' prefix, the fields that raise it, and those that keep others from doing so."""

    prefix: str
    conditions: tuple[tuple[str, str], ...]
    silent: tuple[tuple[str, str], ...] = ()


KINDS = (
    _Kind("FE", tuple(("FSTS", field) for field in ("PPF", "IQE", "ICE", "ITE")), (("FSTS", "PFO"),)),
    _Kind("IE", (("ICS", "IWC"),)),
    _Kind("PE", (("PRS", "PPR"), ("PRS", "PRO"))),
    _Kind("PERFINTR", (("PERFINTRSTS", "PIS"),)),
)


WIRES = 3
"""Kinds that have an interrupt wire, the first ones."""


class Events:
    """Sends a message when a condition rises from no status at all, now or when it is unmasked.

    Parameters
    ----------
    address_bits : int
        Width of host addresses.

    ``sent`` are the messages as (address, data), oldest first; each is written to memory if there is some.
    """

    def __init__(self, registers: RegisterFile, memory: Memory, address_bits: int):
        self._registers = registers
        self._address_mask = (1 << address_bits) - 1
        self._memory = memory
        self._quiet = {kind.prefix: True for kind in KINDS}
        self.sent: list[tuple[int, int]] = []

    @property
    def lines(self) -> tuple[bool, ...]:
        """Levels of the interrupt wires: fault, invalidation, page request."""
        registers = self._registers
        return tuple(
            any(registers.field(*field) for field in kind.conditions) and not registers.field(f"{kind.prefix}CTL", "IM")
            for kind in KINDS[:WIRES]
        )

    def settle(self) -> None:
        """Look at all status fields; after everything that may have changed one."""
        for kind in KINDS:
            self._settle(kind)

    def _settle(self, kind: _Kind) -> None:
        registers, control = self._registers, f"{kind.prefix}CTL"
        raised = any(registers.field(*field) for field in kind.conditions)
        status = raised or any(registers.field(*field) for field in kind.silent)
        if not status:
            registers.set_field(control, "IP", 0)
        elif raised and self._quiet[kind.prefix]:
            registers.set_field(control, "IP", 1)
        self._quiet[kind.prefix] = not status
        if registers.field(control, "IP") and not registers.field(control, "IM"):
            registers.set_field(control, "IP", 0)
            self._send(kind)

    def _send(self, kind: _Kind) -> None:
        registers = self._registers
        address = (registers[f"{kind.prefix}UADDR"] << 32 | registers[f"{kind.prefix}ADDR"]) & self._address_mask
        data = registers[f"{kind.prefix}DATA"]
        self.sent.append((address, data))
        # A message to processors goes nowhere in a memory of bytes.
        with suppress(AccessError):
            self._memory.write(address, data.to_bytes(4, "little"))
