"""What the line buffer remembers, and what it gives to walks."""

from amaranth.lib import data
from amaranth.utils import exact_log2

from ..bus.memory import MemoryRead
from ..config import IommuConfig

__all__ = ["LOG2_LINE", "PIECES", "Arriving", "Awaited", "BufferedEntry", "Compared", "HeldRead", "Sought"]

PIECES = 4
"""16-byte pieces of a line."""

LOG2_LINE = 6


class BufferedEntry(data.StructLayout):
    """An 8-byte entry for the walk ``slot``."""

    def __init__(self, cfg: IommuConfig):
        super().__init__({"slot": range(cfg.walk_slots), "value": 64})


class HeldRead(data.StructLayout):
    """A read in the cycle in which hit or miss is decided.

    Members: ``wanted``, it is looked up for a walk; ``retries``, it has waited for a line; ``plain``, it is not looked
    up; ``whole``, its line comes with it if it is not found; ``again``, its address is that of the slot's last entry
    from a line.
    """

    def __init__(self, cfg: IommuConfig):
        flags = dict.fromkeys(("valid", "wanted", "retries", "plain", "whole", "again"), 1)
        super().__init__(flags | {"read": MemoryRead(cfg)})


class Sought(data.StructLayout):
    """The entry that is looked up for a slot: its line, that one's place, and in which of its pieces it lies."""

    def __init__(self, cfg: IommuConfig):
        super().__init__(
            {
                "slot": range(cfg.walk_slots),
                "place": exact_log2(cfg.line_buffer_lines),
                "first": exact_log2(PIECES),
                "line": cfg.haw - LOG2_LINE,
            }
        )


class Compared(data.StructLayout):
    """What a look-up has found at the line's place.

    Members: ``same``, each 8 bits of its line's number are those of the row; ``valid``, the row's line is there;
    ``before``, ``latest``: the line is that of the look-up before, or of the last one that missed; ``arrives``, the
    ``owner``, of that or of the row, reads a line; ``new``, it is neither; ``value``, the entry.
    """

    def __init__(self, cfg: IommuConfig):
        super().__init__(
            {
                "same": -(-(cfg.haw - LOG2_LINE) // 8),
                "valid": 1,
                "arrives": 1,
                "owner": range(cfg.walk_slots),
                "before": 1,
                "latest": 1,
                "new": 1,
                "value": 64,
            }
        )


class Awaited(data.StructLayout):
    """The line that a slot waits for: its place, and who reads it."""

    def __init__(self, cfg: IommuConfig):
        super().__init__({"place": exact_log2(cfg.line_buffer_lines), "owner": range(cfg.walk_slots)})


class Arriving(data.StructLayout):
    """What is known of a line under way: how many pieces have come, and whether one of them had an error."""

    def __init__(self):
        super().__init__({"pieces": exact_log2(PIECES), "failed": 1})
