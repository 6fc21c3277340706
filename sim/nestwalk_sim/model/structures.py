"""Root, context and PASID structures as the model reads them (§2.1 to §2.6).

Every function takes the whole entry as a little-endian integer, checks it in the order present, reserved, invalid
programming, and raises :class:`TranslationFault` with the name of the first condition that applies.
"""

from typing import NamedTuple

from .config import ModelConfig
from .fault_conditions import TranslationFault

__all__ = [
    "ContextEntry",
    "LegacyContextEntry",
    "PasidEntry",
    "legacy_context",
    "legacy_root",
    "pasid_directory",
    "pasid_entry",
    "scalable_context",
    "scalable_root",
]

FIRST_STAGE, SECOND_STAGE, NESTED, PASS_THROUGH = 1, 2, 3, 4
"""Values of PGTT."""

_QWORD = (1 << 64) - 1


class LegacyContextEntry(NamedTuple):
    """What a legacy walk takes from its context entry; ``levels`` of the second stage, 0 under pass-through."""

    pass_through: bool
    levels: int
    table: int


class ContextEntry(NamedTuple):
    """What a scalable-mode walk takes from its context entry; ``pasid_limit`` is the first PASID beyond the
    directory."""

    pasid_enabled: bool
    page_requests: bool
    pasid_directory: int
    pasid_limit: int
    rid_pasid: int
    rid_privileged: bool


class PasidEntry(NamedTuple):
    """What a walk takes from its PASID table entry. Fields that PGTT ignores are as they lie in memory."""

    translation_type: int
    domain: int
    snooped: bool
    supervisor: bool
    write_protect: bool
    extended_accessed: bool
    first_stage_levels: int
    first_stage_table: int
    second_stage_levels: int
    second_stage_table: int
    second_stage_updates: bool


def legacy_root(entry: int, config: ModelConfig) -> int:
    """Context-table address in a legacy root entry (128 bits)."""
    if not entry & 1:
        raise TranslationFault("LRT.2")
    if entry & 0xFFE or entry & config.beyond_haw or entry >> 64:
        raise TranslationFault("LRT.3")
    return entry & config.table_address


def legacy_context(entry: int, config: ModelConfig) -> LegacyContextEntry:
    """A legacy context entry (128 bits)."""
    if not entry & 1:
        raise TranslationFault("LCT.2")
    high = entry >> 64
    if entry & 0xFF0 or entry & config.beyond_haw or high & 1 << 7 or high >> 8 & config.unused_domain or high >> 24:
        raise TranslationFault("LCT.3")
    translation_type = entry >> 2 & 3
    supported = (True, config.device_tlb, config.pass_through, False)[translation_type]
    levels = (high & 7) + 2
    largest_only = translation_type == 2
    widths = {max(config.second_stage_levels)} if largest_only else config.second_stage_levels
    if not supported:
        raise TranslationFault("LCT.4.2")
    if levels not in widths:
        raise TranslationFault("LCT.4.1")
    return LegacyContextEntry(largest_only, levels, entry & config.table_address)


def scalable_root(half: int, config: ModelConfig) -> int:
    """Context-table address in the half (64 bits) of a scalable-mode root entry that the requester uses."""
    if not half & 1:
        raise TranslationFault("SRT.2")
    if half & 0xFFE or half & config.beyond_haw:
        raise TranslationFault("SRT.3")
    return half & config.table_address


def scalable_context(entry: int, config: ModelConfig) -> ContextEntry:
    """A scalable-mode context entry (256 bits)."""
    if not entry & 1:
        raise TranslationFault("SCT.2")
    reserved = (
        0x180
        | (0 if config.device_tlb else 1 << 2)
        | (0 if config.pasid else 1 << 3)
        | (0 if config.page_requests else 1 << 4)
        | (0 if config.host_permission_tables else 1 << 5)
        | (0 if config.pasid_in_translated else 1 << 6)
        | config.beyond_haw
        | (0 if config.rid_pasid else 0xFFFFF << 64)
        | (0 if config.rid_priv else 1 << 84)
    )
    if entry & reserved or entry >> 85:
        raise TranslationFault("SCT.3")
    rid_pasid = entry >> 64 & 0xFFFFF
    pasid_limit = 1 << ((entry >> 9 & 7) + 13)
    device_tlb, pasid_enabled, page_requests, pasid_in_translated = entry & 4, entry & 8, entry & 16, entry & 64
    if page_requests and not device_tlb:
        raise TranslationFault("SCT.4.1")
    if rid_pasid >= pasid_limit:
        raise TranslationFault("SCT.4.2")
    if pasid_in_translated and not pasid_enabled:
        raise TranslationFault("SCT.4.3")
    return ContextEntry(
        bool(pasid_enabled),
        bool(page_requests),
        entry & config.table_address,
        pasid_limit,
        rid_pasid,
        bool(entry & 1 << 84),
    )


def pasid_directory(entry: int, config: ModelConfig) -> int:
    """PASID-table address in a PASID directory entry (64 bits)."""
    if not entry & 1:
        raise TranslationFault("SPD.2")
    if entry & 0xFFC or entry & config.beyond_haw:
        raise TranslationFault("SPD.3")
    return entry & config.table_address


def _pasid_entry_reserved(translation_type: int, config: ModelConfig) -> int:
    """Bits of a PASID table entry that must be 0, for the eight qwords as one integer (§2.6).

    A field that the announced capabilities reserve is not checked where the translation type ignores it: drivers
    program AW into first-stage and pass-through entries of units without a second stage.
    """
    first_used = translation_type not in (SECOND_STAGE, PASS_THROUGH)
    second_used = translation_type not in (FIRST_STAGE, PASS_THROUGH)
    first_missing = first_used and not config.first_stage
    second_missing = second_used and not config.second_stage
    address = config.table_address
    reserved = [0] * 8
    reserved[0] = 1 << 5 | 3 << 10 | config.beyond_haw
    if second_missing:
        reserved[0] |= 7 << 2 | address
    if second_used and not config.second_stage_accessed_dirty:
        reserved[0] |= 1 << 9
    reserved[1] = config.unused_domain | 0x7F << 16 | 0x1F << 27
    if not config.page_walk_snoop:
        reserved[1] |= 1 << 23
    if not config.snoop_control:
        reserved[1] |= 1 << 24
    if not config.memory_type:
        reserved[1] |= 1 << 25 | 0xFFFFFFFF << 32 | (1 << 26 if second_used else 0)
    reserved[2] = 1 << 1 | 0xF << 8 | config.beyond_haw
    if not config.supervisor_requests:
        reserved[2] |= 1
    if first_missing:
        reserved[2] |= 3 << 2 | 1 << 4 | address
    if first_used and not config.extended_accessed:
        reserved[2] |= 1 << 7
    reserved[3] = _QWORD
    if config.host_permission_tables:
        reserved[4] = 0xFF8 | config.beyond_haw
        reserved[5] = _QWORD & ~0xFFFF | config.unused_domain
    else:
        reserved[4] = reserved[5] = _QWORD
    reserved[6] = reserved[7] = _QWORD
    return sum(qword << 64 * index for index, qword in enumerate(reserved))


_reserved_masks: dict[ModelConfig, list[int]] = {}


def _check_programming(entry: PasidEntry, paging_mode: int, config: ModelConfig) -> None:
    """The conditions of invalid programming, SPT.4.x."""
    supported = {
        FIRST_STAGE: config.first_stage,
        SECOND_STAGE: config.second_stage,
        NESTED: config.nested,
        PASS_THROUGH: config.pass_through,
    }
    if not supported.get(entry.translation_type):
        raise TranslationFault("SPT.4.2")
    nested = entry.translation_type == NESTED
    if (
        nested or entry.translation_type == SECOND_STAGE
    ) and entry.second_stage_levels not in config.second_stage_levels:
        raise TranslationFault("SPT.4.1")
    if (nested or entry.translation_type == FIRST_STAGE) and not (
        paging_mode == 0 or (paging_mode == 1 and config.first_stage_5_level)
    ):
        raise TranslationFault("SPT.4.3")
    if nested and entry.first_stage_table >> config.guest_width(entry.second_stage_levels):
        raise TranslationFault("SPT.4.4")


def pasid_entry(entry: int, config: ModelConfig) -> PasidEntry:
    """A PASID table entry (512 bits)."""
    if not entry & 1:
        raise TranslationFault("SPT.2")
    masks = _reserved_masks.get(config)
    if masks is None:
        masks = _reserved_masks[config] = [
            _pasid_entry_reserved(translation_type, config) for translation_type in range(8)
        ]
    translation_type = entry >> 6 & 7
    if entry & masks[translation_type]:
        raise TranslationFault("SPT.3")
    paging_mode = entry >> 130 & 3
    decoded = PasidEntry(
        translation_type=translation_type,
        domain=entry >> 64 & 0xFFFF,
        snooped=bool(entry >> 87 & 1) and config.page_walk_snoop,
        supervisor=bool(entry >> 128 & 1),
        write_protect=bool(entry >> 132 & 1),
        extended_accessed=bool(entry >> 135 & 1),
        first_stage_levels=4 + paging_mode,
        first_stage_table=entry >> 128 & config.table_address,
        second_stage_levels=(entry >> 2 & 7) + 2,
        second_stage_table=entry & config.table_address,
        second_stage_updates=bool(entry >> 9 & 1),
    )
    _check_programming(decoded, paging_mode, config)
    return decoded
