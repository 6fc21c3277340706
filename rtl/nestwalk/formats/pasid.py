"""PASID directory and PASID table: how one address space of a requester is translated (§2.5, §2.6)."""

from collections.abc import Iterable

from amaranth.hdl import C, Cat, Value
from amaranth.lib import enum

from ..bus.memory import PIECE_BITS
from ..config import IommuConfig
from .context import address_width_supported
from .structure import FixedStructure, Structure, check_width, combine, piece_of

__all__ = ["PasidDirectoryEntry", "PasidEntry", "TranslationMode"]


class TranslationMode(enum.Enum, shape=3):
    """PGTT of a PASID-table entry (§2.6)."""

    FIRST_STAGE = 1
    SECOND_STAGE = 2
    NESTED = 3
    PASS_THROUGH = 4


class PasidDirectoryEntry(FixedStructure):
    """PASID directory entry, 64 bits, indexed by PASID[19:6] (§2.5)."""

    p: 1
    fpd: 1
    rsvd0: 10
    smptblptr: 52

    def present(self) -> Value:
        """P; without it nothing but FPD counts."""
        return self.p

    @classmethod
    def also_reserved(cls, cfg: IommuConfig) -> Iterable[int]:
        yield cls.mask("smptblptr", cfg.page_bits)


class PasidEntry(Structure):
    """PASID-table entry, 512 bits (four pieces), indexed by PASID[5:0] (§2.6).

    AW is the number of second-stage levels - 2, FSPM=1 means a 5-level first stage. The fields of one stage are
    neither checked nor used under a PGTT that ignores that stage, whatever is announced: drivers program AW into
    first-stage entries of units without a second stage. All other fields are checked under every PGTT.
    """

    p: 1
    fpd: 1
    aw: 3
    rsvd0: 1
    pgtt: TranslationMode
    ssade: 1
    rsvd1: 2
    ssptptr: 52
    did: 16
    rsvd2: 7
    pwsnp: 1
    pgsnp: 1
    cd: 1
    emte: 1
    rsvd3: 5
    pat: 32
    sre: 1
    rsvd4: 1
    fspm: 2
    wpe: 1
    ign: 2
    eafe: 1
    rsvd5: 4
    fsptptr: 52
    rsvd6: 64
    hptsz: 2
    hptpfd: 1
    rsvd7: 9
    hptptr: 52
    hptdid: 16
    rsvd8: 176

    def present(self) -> Value:
        """P; without it nothing but FPD counts."""
        return self.p

    @classmethod
    def reserved_masks(cls, cfg: IommuConfig) -> dict[str, int]:
        """Bits that must be 0: ``always``, and where PGTT does not ignore the ``first_stage`` or ``second_stage``."""
        announced = {
            "always": {
                "pwsnp": cfg.page_walk_snoop,
                "pgsnp": cfg.snoop_control,
                "cd": False,  # ECAP.MTS and HPTS are announced 0
                "pat": False,
                "sre": cfg.supervisor_requests,
                "hptsz": False,
                "hptpfd": False,
                "hptptr": False,
                "hptdid": False,
            },
            "first_stage": {
                "fspm": cfg.first_stage,
                "wpe": cfg.first_stage,
                "eafe": cfg.extended_accessed,
                "fsptptr": cfg.first_stage,
            },
            "second_stage": {
                "aw": cfg.second_stage,
                "ssade": cfg.second_stage_accessed_dirty,
                "ssptptr": cfg.second_stage,
                "emte": False,
            },
        }
        masks = {
            group: combine(cls.mask(field) for field, there in fields.items() if not there)
            for group, fields in announced.items()
        }
        masks["always"] |= combine(cls.mask(name) for name, _ in cls.as_shape() if name.startswith("rsvd"))
        masks["always"] |= cls.mask("ssptptr", cfg.page_bits) | cls.mask("fsptptr", cfg.page_bits)
        masks["always"] |= cls.mask("did", cfg.domain_bits)
        return masks

    @classmethod
    def reserved_in_piece(cls, cfg: IommuConfig, number: int, piece, mode) -> Value:
        """A reserved bit is set in piece ``number`` (``piece``, 128 bits) of an entry of PGTT ``mode`` (SPT.3)."""
        bits = {
            group: (Value.cast(piece) & piece_of(mask, number)).any() for group, mask in cls.reserved_masks(cfg).items()
        }
        pgtt = Value.cast(mode)
        pass_through = TranslationMode.PASS_THROUGH.value
        ignores_first = pgtt.matches(TranslationMode.SECOND_STAGE.value, pass_through)
        ignores_second = pgtt.matches(TranslationMode.FIRST_STAGE.value, pass_through)
        return bits["always"] | (bits["first_stage"] & ~ignores_first) | (bits["second_stage"] & ~ignores_second)

    def reserved_set(self, cfg: IommuConfig) -> Value:
        """A reserved bit is set in any of the four pieces (SPT.3)."""
        bits = self.as_value()
        pieces = [bits[PIECE_BITS * number :][:PIECE_BITS] for number in range(self.width() // PIECE_BITS)]
        return Cat(self.reserved_in_piece(cfg, number, piece, self.pgtt) for number, piece in enumerate(pieces)).any()

    def is_first_stage(self) -> Value:
        """PGTT is first stage only."""
        return Value.cast(self.pgtt == TranslationMode.FIRST_STAGE)

    def is_second_stage(self) -> Value:
        """PGTT is second stage only."""
        return Value.cast(self.pgtt == TranslationMode.SECOND_STAGE)

    def is_nested(self) -> Value:
        """PGTT is nested."""
        return Value.cast(self.pgtt == TranslationMode.NESTED)

    def is_pass_through(self) -> Value:
        """PGTT is pass-through."""
        return Value.cast(self.pgtt == TranslationMode.PASS_THROUGH)

    def uses_first_stage(self) -> Value:
        """PGTT is first stage or nested."""
        return self.is_first_stage() | self.is_nested()

    def uses_second_stage(self) -> Value:
        """PGTT is second stage or nested."""
        return self.is_second_stage() | self.is_nested()

    def mode_unsupported(self, cfg: IommuConfig) -> Value:
        """PGTT is none of the announced translation modes (SPT.4.2)."""
        announced = {
            TranslationMode.FIRST_STAGE: cfg.first_stage,
            TranslationMode.SECOND_STAGE: cfg.second_stage,
            TranslationMode.NESTED: cfg.nested,
            TranslationMode.PASS_THROUGH: cfg.pass_through,
        }
        return ~Value.cast(self.pgtt).matches(*(mode.value for mode, there in announced.items() if there))

    def address_width_unsupported(self, cfg: IommuConfig) -> Value:
        """AW is used and not in CAP.SAGAW (SPT.4.1)."""
        return self.uses_second_stage() & ~address_width_supported(cfg, self.aw)

    def first_stage_mode_unsupported(self, cfg: IommuConfig) -> Value:
        """FSPM is used and names neither 4 nor announced 5 levels (SPT.4.3); bits of piece 0 (PGTT) and piece 1."""
        return self.uses_first_stage() & (self.fspm[1] | (self.fspm[0] & (not cfg.first_stage_5_level)))

    def first_stage_root_out_of_range(self, cfg: IommuConfig) -> Value:
        """Nested, and FSPTPTR is above 2^min(MGAW, AW) - 1 (SPT.4.4); bits of piece 0 (PGTT, AW) and piece 1."""
        beyond = C(0)
        for levels in sorted(cfg.second_stage_levels):
            first_bit = cfg.second_stage_width(levels) - 12
            beyond = beyond | ((self.aw == levels - 2) & self.fsptptr[first_bit:].any())
        return self.is_nested() & beyond

    def invalid_programming(self, cfg: IommuConfig) -> Value:
        """Any of SPT.4.1 to SPT.4.4; needs pieces 0 and 1."""
        return (
            self.address_width_unsupported(cfg)
            | self.mode_unsupported(cfg)
            | self.first_stage_mode_unsupported(cfg)
            | self.first_stage_root_out_of_range(cfg)
        )


check_width(PasidDirectoryEntry, 64)
check_width(PasidEntry, 512)
