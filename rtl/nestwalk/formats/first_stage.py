"""First-stage paging entries (§2.7)."""

from amaranth.hdl import C, Value

from ..config import IommuConfig
from .level import Level
from .structure import Structure, check_width

__all__ = ["FirstStageEntry"]


class FirstStageEntry(Structure):
    """First-stage paging entry of any level, 64 bits (§2.7).

    PS is PAT in a 4 KiB entry; bit 12, the lowest of ``address``, is PAT in larger leaf entries. PWT, PCD, PAT and G
    have no effect. ``level`` is an int or a 3-bit Value, 1 (4 KiB pages) to 5. All predicates are combinational, 1 bit.
    """

    p: 1
    rw: 1
    us: 1
    pwt: 1
    pcd: 1
    a: 1
    d: 1
    ps: 1
    g: 1
    ign0: 1
    ea: 1
    ign1: 1
    address: 40
    ign2: 12

    def present(self) -> Value:
        """P; without it nothing else counts."""
        return self.p

    def is_leaf(self, level) -> Value:
        """The entry maps a page, provided that it is present and `reserved_set` is 0."""
        level = Level(level)
        return level.is_1 | (level.is_2_or_3 & self.ps)

    def reserved_set(self, cfg: IommuConfig, level) -> Value:
        """A bit that is reserved at ``level`` is set (SFS.3)."""
        level = Level(level)
        large = level.is_2_or_3 & self.address[1:9].any()
        huge = level.is_3 & (self.address[9:18].any() if cfg.first_stage_1g else C(1))
        return self.address[cfg.page_bits :].any() | (self.ps & (level.is_4_or_5 | large | huge))

    def beyond(self, width: int) -> Value:
        """Under nesting: the entry's address is not below 2^``width`` (SFS.5)."""
        return self.address[width - 12 :].any()


check_width(FirstStageEntry, 64)
