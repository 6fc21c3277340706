"""Virtual commands of the software unit: PASIDs that are given out and taken back (§1.18)."""

from .register_file import RegisterFile

__all__ = ["VirtualCommands"]

ALLOCATE, FREE = 1, 2
SUCCESS, UNDEFINED, REFUSED = 0, 1, 16
"""VCRSP.SC."""

WORD = 32
"""An allocation takes the lowest free PASID of so many neighbours, from those of the last one on."""


class VirtualCommands:
    """Gives out PASIDs below ``pasids``, but for 0. ``out`` are those that are given out."""

    def __init__(self, registers: RegisterFile, pasids: int):
        self._registers = registers
        self._pasids = pasids
        self._last = 0
        self.out: set[int] = set()

    def run(self) -> None:
        """Carry out what VCMD says."""
        command, operand = self._registers.field("VCMD", "CMD"), self._registers.field("VCMD", "OA") & 0xFFFFF
        status, result = UNDEFINED, 0
        if command == ALLOCATE:
            status, result = self._allocate()
        elif command == FREE:
            status = SUCCESS if operand in self.out else REFUSED
            self.out.discard(operand)
        self._registers.set_field("VCRSP", "SC", status)
        self._registers.set_field("VCRSP", "RSLT", result)

    def _allocate(self) -> tuple[int, int]:
        first = self._last // WORD * WORD
        for pasid in (*range(first, self._pasids), *range(first)):
            if pasid and pasid not in self.out:
                self.out.add(pasid)
                self._last = pasid
                return SUCCESS, pasid
        return REFUSED, 0
