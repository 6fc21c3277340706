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


def _domain_terms(entry: data.View, invalidation: data.View, bits: int, unless: Value) -> list[Value]:
    return equal_terms(entry.domain_id, invalidation.domain_id[:bits], unless=unless)


def _source_terms(entry: data.View, invalidation: data.View, unless: Value) -> list[Value]:
    """Equal source ids under the function mask: 1 masks bit 2, 2 bits 2:1, 3 bits 2:0 (§1.7)."""
    function_mask = invalidation.function_mask
    compared = Cat(function_mask != 3, function_mask < 2, function_mask == 0, C(-1, 13))
    return equal_terms(entry.source_id & compared, invalidation.source_id & compared, unless=unless)


class ContextFormat(CacheFormat):
    """Scalable-mode context entries by source id.

    A domain-selective invalidation removes all of them: they have no domain tag (§5.3).
    """

    def __init__(self, cfg: IommuConfig):
        self.entry = data.StructLayout({"valid": 1, "source_id": 16, "fields": ContextFields(cfg)})
        self.key = data.StructLayout({"source_id": 16})

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

    def invalidation_terms(self, entry, invalidation):
        return _source_terms(entry, invalidation, invalidation.scope != Scope.DEVICE)


class PasidFormat(CacheFormat):
    """PASID-table entries by source id and PASID, and legacy context entries by source id.

    An entry that a request without PASID made is looked up without knowing RID_PASID; its ``space.pasid`` is the tag
    for invalidations. Because such an entry, and the checks that a request with PASID has passed, depend on the context
    entry, context-cache invalidations reach this cache too.
    """

    def __init__(self, cfg: IommuConfig):
        self.domain_bits = cfg.domain_bits
        self.entry = data.StructLayout({"valid": 1, "source_id": 16, "pasid_valid": 1, "space": AddressSpace(cfg)})
        self.key = data.StructLayout({"source_id": 16, "pasid_valid": 1, "pasid": 20})

    def key_of(self, entry):
        return {"source_id": entry.source_id, "pasid_valid": entry.pasid_valid, "pasid": entry.space.pasid}

    def key_terms(self, entry, key):
        return [
            *equal_terms(entry.source_id, key.source_id),
            entry.pasid_valid == key.pasid_valid,
            *equal_terms(entry.space.pasid, key.pasid, unless=~key.pasid_valid),
        ]

    def hashed(self, key):
        return Cat(key.pasid & key.pasid_valid.replicate(20), key.pasid_valid)

    def spread(self, key, bits):
        return fold(key.source_id, bits)

    def reaches(self, invalidation):
        return invalidation.context | invalidation.pasid_cache

    def invalidation_terms(self, entry, invalidation):
        scope, by_context = invalidation.scope, invalidation.context
        by_domain = (scope == Scope.DOMAIN) | (scope == Scope.PASID)
        return [
            *_source_terms(entry, invalidation, ~(by_context & (scope == Scope.DEVICE))),
            *_domain_terms(
                entry.space, invalidation, self.domain_bits, ~by_domain | (by_context & ~entry.space.legacy)
            ),
            *equal_terms(entry.space.pasid, invalidation.pasid, unless=scope != Scope.PASID),
        ]
