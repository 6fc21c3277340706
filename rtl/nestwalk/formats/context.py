"""Context entries: what a requester id may do and where its tables are (§2.3, §2.4)."""

from collections.abc import Iterable

from amaranth.hdl import Value
from amaranth.lib import enum

from ..config import IommuConfig
from .structure import FixedStructure, check_width

__all__ = ["LegacyContextEntry", "ScalableContextEntry", "TranslationType", "address_width_supported"]


class TranslationType(enum.Enum, shape=2):
    """TT of a legacy context entry (§2.3)."""

    SECOND_STAGE = 0
    DEVICE_TLB = 1
    PASS_THROUGH = 2
    RESERVED = 3


def address_width_supported(cfg: IommuConfig, aw) -> Value:
    """An AW field (3 bits, levels - 2) names a number of levels that CAP.SAGAW announces."""
    return Value.cast(aw).matches(*sorted(levels - 2 for levels in cfg.second_stage_levels))


class LegacyContextEntry(FixedStructure):
    """Legacy-mode context entry, 128 bits, 256 entries indexed by SID[7:0] (§2.3). AW is the number of levels - 2."""

    p: 1
    fpd: 1
    tt: TranslationType
    rsvd0: 8
    ssptptr: 52
    aw: 3
    ign: 4
    rsvd1: 1
    did: 16
    rsvd2: 40

    def present(self) -> Value:
        """P; without it nothing but FPD counts."""
        return self.p

    @classmethod
    def also_reserved(cls, cfg: IommuConfig) -> Iterable[int]:
        yield cls.mask("ssptptr", cfg.page_bits)
        yield cls.mask("did", cfg.domain_bits)

    def is_pass_through(self) -> Value:
        """TT=10: the address goes through untranslated, SSPTPTR is ignored."""
        return Value.cast(self.tt == TranslationType.PASS_THROUGH)

    def blocks_device_tlb(self) -> Value:
        """TT blocks translation requests and translated requests (LCT.5)."""
        return Value.cast(self.tt != TranslationType.DEVICE_TLB)

    def invalid_programming(self, cfg: IommuConfig) -> Value:
        """AW or TT not supported (LCT.4.1, LCT.4.2). Pass-through wants the largest AW."""
        largest = max(cfg.second_stage_levels, default=0) - 2
        translates = address_width_supported(cfg, self.aw)
        return ~(
            ((self.tt == TranslationType.SECOND_STAGE) & translates)
            | ((self.tt == TranslationType.DEVICE_TLB) & translates & cfg.device_tlb)
            | (self.is_pass_through() & (self.aw == largest) & cfg.pass_through)
        )


class ScalableContextEntry(FixedStructure):
    """Scalable-mode context entry, 256 bits (two pieces), 128 entries in each half of a bus (§2.4)."""

    p: 1
    fpd: 1
    dte: 1
    paside: 1
    pre: 1
    hpte: 1
    eptr: 1
    rsvd0: 2
    pdts: 3
    pasiddirptr: 52
    rid_pasid: 20
    rid_priv: 1
    rsvd1: 171

    def present(self) -> Value:
        """P; without it nothing but FPD counts."""
        return self.p

    @classmethod
    def also_reserved(cls, cfg: IommuConfig) -> Iterable[int]:
        absent = {
            "dte": not cfg.device_tlb,
            "paside": not cfg.scalable_mode,
            "pre": not cfg.page_requests,
            "hpte": True,  # ECAP.HPTS, PTRS and RPRIVS are announced 0
            "eptr": True,
            "rid_priv": True,
            "rid_pasid": not cfg.rid_pasid,
        }
        yield from (cls.mask(field) for field, reserved in absent.items() if reserved)
        yield cls.mask("pasiddirptr", cfg.page_bits)

    def pasid_beyond_directory(self, pasid) -> Value:
        """``pasid`` (20 bits) is at least 2^(PDTS+13), so that the directory has no entry for it."""
        return (Value.cast(pasid)[13:] >> self.pdts).any()

    def invalid_programming(self) -> Value:
        """PRE without DTE, or RID_PASID beyond the directory (SCT.4.1, SCT.4.2); both pieces. EPTR is reserved."""
        return (self.pre & ~self.dte) | self.pasid_beyond_directory(self.rid_pasid)


check_width(LegacyContextEntry, 128)
check_width(ScalableContextEntry, 256)
