"""Performance monitoring of the software unit, and the enhanced commands that control it (§1.15, §1.16)."""

from .register_file import RegisterFile

__all__ = ["PerformanceMonitor"]

ENABLE, DISABLE, FREEZE, UNFREEZE = 240, 241, 244, 245
SUCCESS, UNDEFINED, REFUSED = 0, 1, 16
"""ECRSP.SC."""

PLACES = {
    "clocks": (0, 0),
    "requests": (0, 1),
    "memory_reads": (1, 0),
    "page_requests": (1, 6),
    "iotlb_lookups": (3, 0),
    "iotlb_hits": (3, 1),
}
"""Group and bit of each event; a clock passes with every access to a register and with every request."""


class PerformanceMonitor:
    """The counters, whose state is all in registers."""

    def __init__(self, registers: RegisterFile):
        self._registers = registers

    @property
    def _counters(self) -> range:
        return range(self._registers.field("PERFCAP", "NCNTR"))

    def run(self) -> None:
        """Carry out what ECMD says."""
        registers = self._registers
        command, counter = registers.field("ECMD", "CMD"), registers.field("ECMD", "OA") & 0xFFFF
        status = SUCCESS
        if command in (ENABLE, DISABLE):
            if counter not in self._counters or (command == ENABLE and not self._possible(counter)):
                status = REFUSED
            else:
                registers.set_field(f"CNTRCFG{counter}", "EN", int(command == ENABLE))
                (registers.locked.add if command == ENABLE else registers.locked.discard)(f"CNTRCFG{counter}")
        elif command in (FREEZE, UNFREEZE):
            registers.set_field("FRZSTS", "FRZ", (1 << len(self._counters)) - 1 if command == FREEZE else 0)
        else:
            status = UNDEFINED
        registers.set_field("ECRSP", "SC", status)

    def count(self, **events: int) -> None:
        """Things have happened, so many of each name."""
        for counter in self._counters:
            configuration = f"CNTRCFG{counter}"
            group, selected = self._registers.field(configuration, "EGI"), self._registers.field(configuration, "ES")
            counts = self._registers.field(configuration, "EN") and not self._registers.field("FRZSTS", "FRZ")
            if counts:
                places = ((PLACES[name], number) for name, number in events.items())
                self._add(counter, sum(number for (its, bit), number in places if its == group and selected >> bit & 1))

    def _possible(self, counter: int) -> bool:
        """Whether the unit has the group and all selected events (§1.15)."""
        group, selected, freezing = (
            self._registers.field(f"CNTRCFG{counter}", field) for field in ("EGI", "ES", "GFO")
        )
        there = self._registers.field(f"PERFEVNTCAP{group}", "ES") if group < 4 else 0
        return there != 0 and not selected & ~there and not freezing

    def _add(self, counter: int, number: int) -> None:
        registers = self._registers
        value = registers.field(f"CNTR{counter}", "CNT") + number
        width = registers.field("PERFCAP", "CW")
        registers.set_field(f"CNTR{counter}", "CNT", value & (1 << width) - 1)
        if value >> width:
            registers.set_field("OVFSTS", f"OVF{counter}", 1)
            if registers.field(f"CNTRCFG{counter}", "IO"):
                registers.set_field("PERFINTRSTS", "PIS", 1)
