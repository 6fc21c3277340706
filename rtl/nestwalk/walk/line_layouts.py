"""What the line buffer remembers, and what it gives to walks."""

from amaranth.lib import data
from amaranth.utils import exact_log2

from ..bus.memory import MemoryRead
from ..config import IommuConfig

__all__ = ["LOG2_LINE", "PIECES", "Arriving", "Awaited", "BufferedEntry", "Row", "Waiting"]

PIECES = 4
"""16-byte pieces of a line."""

LOG2_LINE = 6


class BufferedEntry(data.StructLayout):
    """An 8-byte entry for the walk ``slot``."""

    def __init__(self, cfg: IommuConfig):
        super().__init__({"slot": range(cfg.walk_slots), "value": 64})


class Waiting(data.StructLayout):
    """A read that waits for memory; ``again``: its address is that of the slot's last entry from a line."""

    def __init__(self, cfg: IommuConfig):
        super().__init__({"read": MemoryRead(cfg), "again": 1})


class Row(data.StructLayout):
    """Which line a place is for, and the slot that reads it, or has read it."""

    def __init__(self, cfg: IommuConfig):
        super().__init__({"tag": cfg.haw - LOG2_LINE, "owner": range(cfg.walk_slots)})


class Awaited(data.StructLayout):
    """The line that a slot waits for: its place, and who reads it."""

    def __init__(self, cfg: IommuConfig):
        super().__init__({"place": exact_log2(cfg.line_buffer_lines), "owner": range(cfg.walk_slots)})


class Arriving(data.StructLayout):
    """What is known of a line under way: how many pieces have come, and whether one of them had an error."""

    def __init__(self):
        super().__init__({"pieces": exact_log2(PIECES), "failed": 1})
