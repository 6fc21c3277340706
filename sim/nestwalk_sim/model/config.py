"""What the modelled unit announces, and the masks that follow from it."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

__all__ = ["MODEL_PRESETS", "ModelConfig", "model_preset"]

_AGAW = {3: 39, 4: 48, 5: 57}


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Announced capabilities; the defaults are those of the preset DEFAULT.

    Parameters
    ----------
    haw, mgaw : int
        Host address width and maximum guest address width in bits (§0.5).
    scalable_mode, first_stage, second_stage, nested, pass_through : bool
        ECAP.SMTS, FSTS, SSTS, NEST and PT.
    second_stage_levels : frozenset of int
        Levels of second-stage tables in CAP.SAGAW, of 3, 4 and 5.
    first_stage_5_level, first_stage_1g, second_stage_2m, second_stage_1g : bool
        CAP.FS5LP, FS1GP and the two bits of SSLPS.
    snoop_control, supervisor_requests, rid_pasid, rid_priv, page_walk_snoop : bool
        ECAP.SC, SRS, RPS, RPRIVS and SMPWCS.
    extended_accessed, second_stage_accessed_dirty, memory_type : bool
        ECAP.EAFS, SSADS and MTS.
    device_tlb, page_requests, pasid, pasid_in_translated, host_permission_tables, abort_dma : bool
        ECAP.DT, PRS, PASID, PTRS, HPTS and ADMS.
    pasid_bits, domain_bits : int
        PSS + 1 and 2 * ND + 4, in bits.
    zero_length_read : bool
        CAP.ZLR.
    version_major : int
        VER.MAX (§0.4).
    """

    haw: int = 52
    mgaw: int = 57
    scalable_mode: bool = True
    first_stage: bool = True
    second_stage: bool = True
    nested: bool = True
    pass_through: bool = True
    second_stage_levels: frozenset[int] = frozenset({3, 4, 5})
    first_stage_5_level: bool = True
    first_stage_1g: bool = True
    second_stage_2m: bool = True
    second_stage_1g: bool = True
    snoop_control: bool = True
    supervisor_requests: bool = True
    rid_pasid: bool = True
    rid_priv: bool = False
    page_walk_snoop: bool = True
    extended_accessed: bool = False
    second_stage_accessed_dirty: bool = False
    memory_type: bool = False
    device_tlb: bool = True
    page_requests: bool = True
    pasid: bool = True
    pasid_in_translated: bool = False
    host_permission_tables: bool = False
    abort_dma: bool = False
    pasid_bits: int = 20
    domain_bits: int = 16
    zero_length_read: bool = True
    version_major: int = 5

    def replace(self, **changes) -> Self:
        """A copy with some capabilities changed."""
        return replace(self, **changes)

    def guest_width(self, levels: int) -> int:
        """Bits of a second-stage input address, min(MGAW, AGAW) (§2.9)."""
        return min(self.mgaw, _AGAW[levels])

    @cached_property
    def fault_address(self) -> int:
        """Bits of FI in a fault record: those of a page in the largest address width announced (§1.8)."""
        widths = [_AGAW[5 if self.first_stage_5_level else 4]] * self.first_stage
        return (1 << max(*widths, *(_AGAW[levels] for levels in self.second_stage_levels), 0)) - 0x1000

    # The masks below are the model's own reading of §2: kept as plain integers of the whole entry.

    @cached_property
    def table_address(self) -> int:
        """Bits HAW-1:12 of an entry."""
        return (1 << self.haw) - 0x1000

    @cached_property
    def beyond_haw(self) -> int:
        """Bits 63:HAW of a qword."""
        return (1 << 64) - (1 << self.haw)

    @cached_property
    def unused_domain(self) -> int:
        """Bits of a 16-bit domain identifier that ND does not announce."""
        return 0xFFFF & ~((1 << self.domain_bits) - 1)

    @cached_property
    def first_stage_reserved(self) -> dict[tuple[int, bool], int]:
        """Reserved bits of a present first-stage entry by (level, bit 7 set) (§2.7)."""
        high = (1 << 52) - (1 << self.haw)
        page_size = 1 << 7
        return {
            (5, False): high | page_size,
            (5, True): high | page_size,
            (4, False): high | page_size,
            (4, True): high | page_size,
            (3, False): high,
            (3, True): high | 0x3FFFE000 | (0 if self.first_stage_1g else page_size),
            (2, False): high,
            (2, True): high | 0x1FE000,
            (1, False): high,
            (1, True): high,
        }

    @cached_property
    def second_stage_reserved(self) -> dict[tuple[int, bool], int]:
        """Reserved bits of a present second-stage entry by (level, bit 7 set) (§2.8, SSIRWE=0)."""
        high = (1 << 52) - (1 << self.haw) | 1 << 62
        page_size, bit11 = 1 << 7, 1 << 11
        snoop = 0 if self.snoop_control else bit11
        return {
            (5, False): high | bit11,
            (5, True): high | bit11 | page_size,
            (4, False): high | bit11,
            (4, True): high | bit11 | page_size,
            (3, False): high | bit11,
            (3, True): high | (0x3FFFF000 | snoop if self.second_stage_1g else page_size),
            (2, False): high | bit11,
            (2, True): high | (0x1FF000 | snoop if self.second_stage_2m else page_size),
            (1, False): high | snoop,
            (1, True): high | snoop,
        }


MODEL_PRESETS: dict[str, ModelConfig] = {
    "DEFAULT": ModelConfig(),
    "FULL": ModelConfig(),
    "TINY": ModelConfig(device_tlb=False, page_requests=False, version_major=6),
    "FORMAL": ModelConfig(
        haw=32,
        mgaw=39,
        second_stage_levels=frozenset({3}),
        first_stage_5_level=False,
        first_stage_1g=False,
        second_stage_1g=False,
        pasid_bits=8,
        domain_bits=4,
        device_tlb=False,
        page_requests=False,
        version_major=6,
    ),
}
"""What the presets of the unit announce."""


def model_preset(name: str) -> ModelConfig:
    """Look up a preset by name, in any case.

    Raises
    ------
    ValueError
        When there is none of that name; the message lists those that exist.
    """
    try:
        return MODEL_PRESETS[name.upper()]
    except KeyError:
        raise ValueError(f"unknown preset {name!r}: choose one of {', '.join(MODEL_PRESETS)}") from None
