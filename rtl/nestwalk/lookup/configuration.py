"""Caches of what the tables say about a requester: context entries and PASID-table entries (§8.1)."""

from amaranth.hdl import C, Cat, Value
from amaranth.lib import data

from ..config import IommuConfig
from ..formats.pasid import TranslationMode
from ..invalidation.command import Scope
from .cache_format import CacheFormat, equal_terms
from .hash import fold

__all__ = ["AddressSpace", "ContextFields", "ContextFormat", "PasidFormat"]


class ContextFields(data.StructLayout):
    """What a scalable-mode context entry says (§2.4): ``directory`` is the 4 KiB page of the PASID directory."""

    def __init__(self, cfg: IommuConfig):
        super().__init__(
            {
                "fpd": 1,
                "dte": 1,
                "paside": 1,
                "pre": 1,
                "pdts": 3,
                "rid_pasid": 20,
                "directory": cfg.page_bits,
            }
        )


class AddressSpace(data.StructLayout):
    """How addresses of a requester are translated: a PASID-table entry (§2.6) or a legacy context entry (§2.3).

    ``pasid`` is the PASID whose entry this is (RID_PASID for requests without one); ``mode`` is PGTT;
    ``second_levels`` is AW (levels - 2); roots are 4 KiB pages; ``fpd`` gathers those of all entries on the way.
    """

    def __init__(self, cfg: IommuConfig):
        super().__init__(
            {
                "legacy": 1,
                "pasid": 20,
                "fpd": 1,
                "domain_id": cfg.domain_bits,
                "mode": TranslationMode,
                "second_levels": 3,
                "second_root": cfg.page_bits,
                "first_root": cfg.page_bits,
                "first_5_level": 1,
                "sre": 1,
                "wpe": 1,
                "eafe": 1,
                "ssade": 1,
                "pwsnp": 1,
                "pgsnp": 1,
            }
        )


SOURCE_PATTERN = {"source_id": 16, "by_source": 1, "function_mask": 3}
"""Members of a pattern that name a source id, ``function_mask`` the low bits of it that count."""


def _source_pattern(invalidation: data.View, by_source: Value) -> dict[str, Value]:
    """FM 1 masks function bit 2, 2 bits 2:1, 3 bits 2:0 (§1.7)."""
    function_mask = invalidation.function_mask
    compared = Cat(function_mask != 3, function_mask < 2, function_mask == 0)
    source_id = Cat(invalidation.source_id[:3] & compared, invalidation.source_id[3:])
    return {"source_id": source_id, "by_source": by_source, "function_mask": compared}


def _source_terms(entry: data.View, pattern: data.View) -> list[Value]:
    compared = Cat(entry.source_id[:3] & pattern.function_mask, entry.source_id[3:])
    return equal_terms(compared, pattern.source_id, unless=~pattern.by_source)


class ContextFormat(CacheFormat):
    """Scalable-mode context entries by source id.

    A domain-selective invalidation removes all of them: they have no domain tag (§5.3).
    """

    SPREAD_BITS = 0

    def __init__(self, cfg: IommuConfig):
        self.entry = data.StructLayout({"valid": 1, "source_id": 16, "fields": ContextFields(cfg)})
        self.key = data.StructLayout({"source_id": 16})
        self.pattern = data.StructLayout(SOURCE_PATTERN)

    def key_of(self, entry):
        return {"source_id": entry.source_id}

    def key_terms(self, entry, key):
        return equal_terms(entry.source_id, key.source_id)

    def hashed(self, key):
        return key.source_id

    def spread(self, key, bits):
        return C(0, 0)

    def reaches(self, invalidation):
        return invalidation.context

    def fill_pattern(self, entry):
        return {"source_id": entry.source_id, "by_source": C(1), "function_mask": C(-1, 3)}

    def invalidation_pattern(self, invalidation):
        return _source_pattern(invalidation, invalidation.scope == Scope.DEVICE)

    def pattern_terms(self, entry, pattern):
        return _source_terms(entry, pattern)


class PasidFormat(CacheFormat):
    """PASID-table entries by source id and PASID, and legacy context entries by source id.

    An entry that a request without PASID made is looked up without knowing RID_PASID; its ``space.pasid`` is the tag
    for invalidations, and ``pasid`` of its key is 0. Because such an entry, and the checks that a request with PASID
    has passed, depend on the context entry, context-cache invalidations reach this cache too.
    """

    def __init__(self, cfg: IommuConfig):
        self.domain_bits = cfg.domain_bits
        self.entry = data.StructLayout({"valid": 1, "source_id": 16, "pasid_valid": 1, "space": AddressSpace(cfg)})
        self.key = data.StructLayout({"source_id": 16, "pasid_valid": 1, "pasid": 20})
        tags = {"pasid_valid": 1, "pasid": 20, "domain_id": cfg.domain_bits}
        conditions = dict.fromkeys(("by_pasid_valid", "by_pasid", "by_domain", "domain_of_legacy_only"), 1)
        self.pattern = data.StructLayout(SOURCE_PATTERN | tags | conditions)

    def key_of(self, entry):
        gated = entry.space.pasid & entry.pasid_valid.replicate(20)
        return {"source_id": entry.source_id, "pasid_valid": entry.pasid_valid, "pasid": gated}

    def key_terms(self, entry, key):
        return [
            *equal_terms(entry.source_id, key.source_id),
            entry.pasid_valid == key.pasid_valid,
            *equal_terms(entry.space.pasid, key.pasid, unless=~key.pasid_valid),
        ]

    def hashed(self, key):
        return Cat(key.pasid, key.pasid_valid)

    def spread(self, key, bits):
        return fold(key.source_id, bits)

    def domain(self, entry):
        return entry.space.domain_id

    def reaches(self, invalidation):
        return invalidation.context | invalidation.pasid_cache

    def fill_pattern(self, entry):
        source = {"source_id": entry.source_id, "by_source": C(1), "function_mask": C(-1, 3)}
        pasid = {"pasid_valid": entry.pasid_valid, "by_pasid_valid": C(1)}
        return source | pasid | {"pasid": entry.space.pasid, "by_pasid": entry.pasid_valid}

    def invalidation_pattern(self, invalidation):
        scope, by_context = invalidation.scope, invalidation.context
        return _source_pattern(invalidation, by_context & (scope == Scope.DEVICE)) | {
            "pasid": invalidation.pasid,
            "by_pasid": scope == Scope.PASID,
            "domain_id": invalidation.domain_id[: self.domain_bits],
            "by_domain": (scope == Scope.DOMAIN) | (scope == Scope.PASID),
            "domain_of_legacy_only": by_context,
        }

    def pattern_terms(self, entry, pattern):
        any_domain = ~pattern.by_domain | (pattern.domain_of_legacy_only & ~entry.space.legacy)
        return [
            *_source_terms(entry, pattern),
            (entry.pasid_valid == pattern.pasid_valid) | ~pattern.by_pasid_valid,
            *equal_terms(entry.space.pasid, pattern.pasid, unless=~pattern.by_pasid),
            *equal_terms(entry.space.domain_id, pattern.domain_id, unless=any_domain),
        ]
