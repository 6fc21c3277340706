"""Event messages of the software unit (§1.8.2)."""

from contextlib import suppress

from ..memory import AccessError, Memory
from .register_file import RegisterFile

__all__ = ["Event"]


class Event:
    """One kind of event: its pending bit, its message and its wire.

    Parameters
    ----------
    name : str
        What its registers' names begin with: ``FE`` or ``IE``.
    address_bits : int
        Width of host addresses.
    sent : list
        Gets address and data of each message.
    """

    def __init__(
        self, name: str, registers: RegisterFile, memory: Memory, address_bits: int, sent: list[tuple[int, int]]
    ):
        self._control, self._data, self._low, self._high = (
            f"{name}{part}" for part in ("CTL", "DATA", "ADDR", "UADDR")
        )
        self._registers, self._memory, self._sent = registers, memory, sent
        self._address_mask = (1 << address_bits) - 1
        self._was_quiet = True
        self.line = False

    def follow(self, condition: bool, status: bool) -> None:
        """The status bits are what they are now.

        Parameters
        ----------
        condition : bool
            One of them raises the interrupt.
        status : bool
            One of them is set, also one that only keeps others from raising it.
        """
        registers = self._registers
        if not status:
            registers.set_field(self._control, "IP", 0)
        elif condition and self._was_quiet:
            registers.set_field(self._control, "IP", 1)
        self._was_quiet = not status
        masked = registers.field(self._control, "IM")
        self.line = condition and not masked
        if registers.field(self._control, "IP") and not masked:
            registers.set_field(self._control, "IP", 0)
            self._send()

    def _send(self) -> None:
        address = (self._registers[self._high] << 32 | self._registers[self._low]) & self._address_mask
        data = self._registers[self._data]
        self._sent.append((address, data))
        with suppress(AccessError):  # nobody is left to be told
            self._memory.write(address, data.to_bytes(4, "little"))
