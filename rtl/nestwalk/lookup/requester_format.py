"""Cache entries that belong to one requester and one range of its input addresses (§8.1)."""

from amaranth.hdl import C, Cat, Value
from amaranth.lib import data

from ..bus.counting import exceeds
from ..config import IommuConfig
from ..invalidation.command import Scope
from .cache_format import CacheFormat, ProbePlan, equal_terms, masked, masked_page, unmasked
from .hash import fold

__all__ = ["INPUT_PAGE_BITS", "RequesterFormat", "RequesterKey", "page_of"]

INPUT_PAGE_BITS = 46
"""An input page number: address bits 56:12 and, above them, bit 63 that stands for bits 63:57."""


def page_of(address: Value) -> Value:
    """Page number of a 64-bit input address whose bits 63:57 are equal."""
    return Cat(address[12:57], address[63])


class RequesterKey(data.StructLayout):
    """Requester and input page, ``page`` in units of 2^``page_shift`` 4 KiB pages, and what more a look-up needs.

    ``pasid`` is 0 without ``pasid_valid``.
    """

    def __init__(self, page_shift: int, more: dict | None = None):
        tags = {"source_id": 16, "pasid_valid": 1, "pasid": 20, "page": INPUT_PAGE_BITS - page_shift}
        super().__init__(tags | (more or {}))


class RequesterFormat(CacheFormat):
    """Entries tagged by source id, PASID and page; domain, effective PASID and stage are tags for invalidations.

    ``pasid`` is RID_PASID in an entry made by a request without PASID, so that a PASID-based invalidation finds it;
    ``first_stage`` says PGTT first-stage or nested.

    Parameters
    ----------
    cfg : IommuConfig
    page_shift : int
        log2 of the 4 KiB pages that an entry stands for.
    fields : dict
        What an entry holds besides its tags.
    key : RequesterKey
    leaf : bool
        Whether entries stand for leaf entries; others outlive page-selective invalidations with IH set.
    """

    def __init__(self, cfg: IommuConfig, page_shift: int, fields: dict, key: RequesterKey, *, leaf: bool = True):
        self.page_shift = page_shift
        self.domain_bits = cfg.domain_bits
        self.leaf = leaf
        self.largest_mask = cfg.max_address_mask
        tags = {
            "valid": 1,
            "source_id": 16,
            "pasid_valid": 1,
            "pasid": 20,
            "page": INPUT_PAGE_BITS - page_shift,
            "domain_id": cfg.domain_bits,
            "first_stage": 1,
        }
        self.entry = data.StructLayout(tags | fields)
        self.key = key
        members = {name: width for name, width in tags.items() if name not in ("valid", "first_stage")}
        members |= dict.fromkeys(("by_source", "by_pasid", "by_domain", "by_page"), 1)
        if cfg.max_address_mask > page_shift:
            members["page_mask"] = cfg.max_address_mask - page_shift
        self.pattern = data.StructLayout(members | {"page_of_first_stage": 1, "first_stage_only": 1})

    def key_of(self, entry):
        gated = entry.pasid & entry.pasid_valid.replicate(len(entry.pasid))
        return {name: entry[name] for name in ("source_id", "pasid_valid", "page")} | {"pasid": gated}

    def key_terms(self, entry, key):
        return [
            *equal_terms(entry.source_id, key.source_id),
            entry.pasid_valid == key.pasid_valid,
            *equal_terms(entry.pasid, key.pasid, unless=~key.pasid_valid),
            *equal_terms(entry.page, key.page),
        ]

    def hashed(self, key):
        return Cat(key.page, key.pasid, key.pasid_valid)

    def spread(self, key, bits):
        return fold(key.source_id, bits)

    def reaches(self, invalidation):
        kept = C(0) if self.leaf else (invalidation.scope == Scope.PAGE_IN_PASID) & invalidation.hint
        return invalidation.iotlb & ~kept

    def _page_mask(self, invalidation) -> Value:
        return unmasked(range(self.page_shift, INPUT_PAGE_BITS), invalidation, self.largest_mask)

    def _page(self, invalidation) -> Value:
        """The invalidation's page number without the bits that its address mask covers."""
        page = Cat(invalidation.page[: INPUT_PAGE_BITS - 1], invalidation.page[-1])[self.page_shift :]
        return masked(page, self._page_mask(invalidation))

    def fill_pattern(self, entry):
        members = {name: entry[name] for name in ("source_id", "pasid_valid", "pasid", "page")}
        members |= {"by_source": C(1), "by_pasid": entry.pasid_valid, "by_page": C(1), "page_of_first_stage": C(1)}
        return members | {"page_mask": ~C(0, max(0, self.largest_mask - self.page_shift))}

    def invalidation_pattern(self, invalidation):
        scope = invalidation.scope
        in_domain, in_pasid = scope == Scope.PAGE_IN_DOMAIN, scope == Scope.PAGE_IN_PASID
        return {
            "domain_id": invalidation.domain_id[: self.domain_bits],
            "by_domain": scope != Scope.GLOBAL,
            "pasid": invalidation.pasid,
            "by_pasid": in_pasid | (scope == Scope.PASID),
            "page": self._page(invalidation),
            "page_mask": self._page_mask(invalidation),
            # Beyond MAMV all pages.
            "by_page": (in_domain | in_pasid) & (invalidation.address_mask <= self.largest_mask),
            # A page of a domain: first-stage and nested entries of the domain all go (§5.3).
            "page_of_first_stage": in_pasid,
            "first_stage_only": in_pasid if self.leaf else in_pasid | (in_domain & invalidation.hint),
        }

    def pattern_terms(self, entry, pattern):
        any_page = ~pattern.by_page | (entry.first_stage & ~pattern.page_of_first_stage)
        return [
            *equal_terms(entry.source_id, pattern.source_id, unless=~pattern.by_source),
            (entry.pasid_valid == pattern.pasid_valid) | ~pattern.by_source,
            *equal_terms(entry.pasid, pattern.pasid, unless=~pattern.by_pasid),
            *equal_terms(entry.domain_id, pattern.domain_id, unless=~pattern.by_domain),
            *equal_terms(masked_page(entry.page, pattern), pattern.page, unless=any_page),
            entry.first_stage | ~pattern.first_stage_only,
        ]

    def probe(self, invalidation, step, index_bits):
        without_pasid = step[0]
        offset = step[1:]
        aligned = self._page(invalidation)
        page = Cat(aligned[: len(offset)] | offset, aligned[len(offset) :])
        pasid = invalidation.pasid & (~without_pasid).replicate(20)
        return ProbePlan(
            useful=invalidation.scope == Scope.PAGE_IN_PASID,
            exceeds=lambda log2: (
                exceeds(invalidation.address_mask, self.page_shift + log2 - 1) if log2 >= 1 else C(1, 1)
            ),
            hashed=Cat(page, pasid, ~without_pasid),
        )
