"""Root tables: 256 entries of 128 bits indexed by bus number (§2.1, §2.2)."""

from collections.abc import Iterable

from amaranth.hdl import Mux, Value

from ..config import IommuConfig
from .structure import FixedStructure, Structure, check_width

__all__ = ["RootEntry", "ScalableRootEntry"]


class RootEntry(FixedStructure):
    """Legacy-mode root entry (§2.1)."""

    p: 1
    rsvd0: 11
    ctp: 52
    rsvd1: 64

    def present(self) -> Value:
        """P; without it nothing else counts."""
        return self.p

    @classmethod
    def also_reserved(cls, cfg: IommuConfig) -> Iterable[int]:
        yield cls.mask("ctp", cfg.page_bits)


class ScalableRootEntry(Structure):
    """Scalable-mode root entry: two halves, of which a request meets the one that ``upper`` = SID[7] selects (§2.2)."""

    lp: 1
    rsvd0: 11
    lctp: 52
    up: 1
    rsvd1: 11
    uctp: 52

    def present(self, upper) -> Value:
        """LP or UP, of the half in use."""
        return Mux(upper, self.up, self.lp)

    def reserved_set(self, cfg: IommuConfig, upper) -> Value:
        """A reserved bit is set in the half in use."""
        return Mux(
            upper,
            self.rsvd1.any() | self.uctp[cfg.page_bits :].any(),
            self.rsvd0.any() | self.lctp[cfg.page_bits :].any(),
        )

    def context_table(self, cfg: IommuConfig, upper) -> Value:
        """Host page number of the context table of the half in use (``cfg.page_bits`` bits)."""
        return Value.cast(Mux(upper, self.uctp, self.lctp)[: cfg.page_bits])


check_width(RootEntry, 128)
check_width(ScalableRootEntry, 128)
