"""Second-stage paging entries (§2.8)."""

from amaranth.hdl import C, Value

from ..config import IommuConfig
from .level import Level
from .structure import Structure, check_width

__all__ = ["SecondStageEntry"]


class SecondStageEntry(Structure):
    """Second-stage paging entry of any level, 64 bits (§2.8), for ECAP.SSIRWS=0 (IR is ignored, IW reserved).

    EMT and IPAT have no effect (ECAP.MTS=0); A and D count only with SSADE. ``level`` is an int or a 3-bit Value,
    1 (4 KiB pages) to 5. All predicates are combinational, 1 bit.
    """

    r: 1
    w: 1
    ign0: 1
    emt: 3
    ipat: 1
    ps: 1
    a: 1
    d: 1
    ign1: 1
    snp: 1
    address: 40
    ign2: 9
    ir: 1
    iw: 1
    ign3: 1

    def present(self) -> Value:
        """R or W; without them nothing else counts."""
        return self.r | self.w

    def is_leaf(self, level) -> Value:
        """The entry maps a page, provided that it is present and `reserved_set` is 0."""
        level = Level(level)
        return level.is_1 | (level.is_2_or_3 & self.ps)

    def reserved_set(self, cfg: IommuConfig, level) -> Value:
        """A bit that is reserved at ``level`` is set (LSS.2, SSS.3)."""
        at = Level(level)
        large = at.is_2_or_3 & self.address[:9].any() if cfg.second_stage_2m else at.is_2_or_3
        huge = at.is_3 & (self.address[9:18].any() if cfg.second_stage_1g else C(1))
        snoop = self.snp & ~self.is_leaf(level) if cfg.snoop_control else self.snp
        return self.iw | snoop | self.address[cfg.page_bits :].any() | (self.ps & (at.is_4_or_5 | large | huge))


check_width(SecondStageEntry, 64)
