"""Page-table levels as the paging entries' predicates want them: each test is one or two bits of the number (§2.9)."""

from amaranth.hdl import C, Value

__all__ = ["Level"]


class Level:
    """A page-table level 1 (4 KiB pages) to 5.

    Parameters
    ----------
    level : int or Value
        3 bits. Only the values 1 to 5 occur, which keeps every test within two bits.
    """

    def __init__(self, level):
        self.bits = C(level, 3) if isinstance(level, int) else Value.cast(level)
        if len(self.bits) != 3:
            raise ValueError(f"a page-table level is 3 bits wide, not {len(self.bits)}")

    @property
    def is_1(self) -> Value:
        """Entries map 4 KiB pages."""
        return ~self.bits[2] & ~self.bits[1]

    @property
    def is_2(self) -> Value:
        """Entries may map 2 MiB pages."""
        return self.bits[1] & ~self.bits[0]

    @property
    def is_3(self) -> Value:
        """Entries may map 1 GiB pages."""
        return self.bits[1] & self.bits[0]

    @property
    def is_2_or_3(self) -> Value:
        """Entries may map large pages."""
        return Value.cast(self.bits[1])

    @property
    def is_4_or_5(self) -> Value:
        """Entries never map pages."""
        return Value.cast(self.bits[2])
