"""The invalidation queue in Python, from the tables of §5 alone: errors, completions and statuses, one at a time."""

from collections import Counter
from contextlib import suppress

from nestwalk.config import IommuConfig
from nestwalk_sim.memory import AccessError, Memory
from rtl.tests.invalidation.reference import decode

__all__ = ["QueueModel"]

INVALID_TAIL, FETCH, INVALID_TYPE, RESERVED_FIELD, INVALID_WIDTH, TAIL_ALIGNMENT, INVALID_MODE = range(1, 8)
"""IQEI (§1.11)."""

LEGACY, RESERVED = 0, 2
"""TTM."""


class QueueModel:
    """What the registers that belong to the queue say, and its head.

    Parameters
    ----------
    config : IommuConfig
    memory : Memory
        Where the queue lies and statuses go; changed as the unit changes it.

    ``address`` and ``tail`` are IQA and IQT, ``mode`` is TTM as latched. ``head`` is in units of 16 bytes.
    ``interrupts`` tells whether the last descriptor was a wait that interrupts. ``seen`` counts descriptors by type,
    granularity and IQEI, and other errors by IQEI alone.
    """

    def __init__(self, config: IommuConfig, memory: Memory):
        self._config, self._memory = config, memory
        self.address = self.tail = self.head = 0
        self.mode = LEGACY
        self.interrupts = False
        self.seen: Counter[tuple[int, ...]] = Counter()

    @property
    def empty(self) -> bool:
        return self.head == self.tail >> 4

    def step(self) -> int:
        """Execute the descriptor at the head; IQEI, or 0 and the head moves on."""
        self.interrupts = False
        error = self._misprogrammed()
        if error:
            self.seen[error,] += 1
            return error
        error = self._execute()
        if not error:
            self.head = (self.head + self._step) % self._slots
        return error

    @property
    def _step(self) -> int:
        """Units from one descriptor to the next."""
        return 2 if self.address >> 11 & 1 else 1

    @property
    def _slots(self) -> int:
        return 256 << (self.address & 7)

    def _misprogrammed(self) -> int:
        """IQEI of mode, width and tail, 0 for none."""
        wide, tail = self._step == 2, self.tail >> 4
        if self.mode == RESERVED:
            return INVALID_MODE
        if (wide and not self._config.scalable_mode) or (not wide and self.mode != LEGACY):
            return INVALID_WIDTH
        if wide and tail & 1:
            return TAIL_ALIGNMENT
        return INVALID_TAIL if tail >= self._slots else 0

    def _execute(self) -> int:
        place = ((self.address & ~0xFFF) + 16 * self.head) & (1 << self._config.haw) - 1
        try:
            value = int.from_bytes(self._memory.read(place, 16 * self._step), "little")
        except AccessError:
            self.seen[FETCH,] += 1
            return FETCH
        what, *details = decode(value, self._config, scalable=self.mode != LEGACY)
        error = details[0] if what == "error" else 0
        self.seen[value & 0xF, value >> 4 & 3, error] += 1
        if what == "wait":
            self.interrupts, status = bool(details[0]), details[1]
            if status is not None:
                with suppress(AccessError):  # nobody is left to be told
                    self._memory.write(status[0], status[1].to_bytes(4, "little"))
        return error
