"""What the tags of each cache mean (§8.1, §5.3), said once more without the cache's own comparisons.

A specification that asked the cache's format whether tags are equal would follow it into a mistake.
"""

from abc import ABC, abstractmethod

from amaranth.hdl import Cat, Const, Mux, Value
from amaranth.lib import data

from nestwalk.bus.translation import Access
from nestwalk.config import IommuConfig
from nestwalk.invalidation.command import Scope
from nestwalk.lookup.cache_format import CacheFormat
from nestwalk.lookup.configuration import ContextFormat, PasidFormat
from nestwalk.lookup.guest_caches import GuestFormat
from nestwalk.lookup.iotlb import PageFormat
from nestwalk.lookup.structure_caches import StructureFormat

__all__ = ["ComparedTags", "ContextTags", "GuestTags", "PageTags", "PasidTags", "StructureTags", "Tags"]

PAGE_BITS = 45
"""Page number bits of an address that are stored one by one: address bits 56:12."""

SIGN = 51
"""Page number bit of address bit 63, which is stored once for bits 63:57."""


class Tags(ABC):
    """The meaning of the tags of one cache format.

    Attributes
    ----------
    format : CacheFormat
    """

    format: CacheFormat

    @abstractmethod
    def same(self, left: data.View, right: data.View) -> Value:
        """Whether two entries, or an entry and a key, are about the same thing."""

    def allows(self, entry: data.View, key: data.View) -> Value:
        """Whether ``entry`` permits the access of ``key``."""
        return Const(1)

    @abstractmethod
    def covers(self, invalidation: data.View, entry: data.View) -> Value:
        """Whether ``invalidation`` must remove ``entry`` (§5.3)."""

    def may_cover(self, invalidation: data.View, entry: data.View) -> Value:
        """Whether ``invalidation`` may remove ``entry``: hardware may always remove more than it must (§5.2)."""
        return self.covers(invalidation, entry)


class PageTags(Tags):
    """IOTLB: SID, allocated with or without PASID, PASID, address; removed by DID, PGTT, PASID and address."""

    def __init__(self, cfg: IommuConfig, page_shift: int = 0):
        self.format = PageFormat(cfg, page_shift)
        self._shift = page_shift
        self._domain_bits = cfg.domain_bits

    def same(self, left, right):
        return (
            (left.source_id == right.source_id)
            & (left.pasid_valid == right.pasid_valid)
            & (~left.pasid_valid | (left.pasid == right.pasid))
            & (left.page == right.page)
        )

    def allows(self, entry, key):
        granted = entry.permissions
        read = Mux(key.privileged, granted.privileged_read, granted.user_read)
        write = Mux(key.privileged, granted.privileged_write, granted.user_write)
        access = key.access
        return (
            ((access == Access.READ) & read)
            | ((access == Access.WRITE) & write)
            | ((access == Access.ATOMIC) & read & write)
            | ((access == Access.ZERO_LENGTH_READ) & (read | write))
        )

    def covers(self, invalidation, entry):
        return self._removes(invalidation, entry, self._overlaps(invalidation, entry, SIGN))

    def may_cover(self, invalidation, entry):
        many = invalidation.address_mask > self.format.largest_mask
        return self._removes(invalidation, entry, self._overlaps(invalidation, entry, PAGE_BITS) | many)

    def _removes(self, invalidation, entry, overlaps):
        scope = invalidation.scope
        domain = entry.domain_id == invalidation.domain_id[: self._domain_bits]
        pasid = entry.pasid == invalidation.pasid
        return invalidation.iotlb & (
            (scope == Scope.GLOBAL)
            | ((scope == Scope.DOMAIN) & domain)
            | ((scope == Scope.PASID) & domain & pasid)
            | ((scope == Scope.PAGE_IN_DOMAIN) & domain & (entry.first_stage | (overlaps & ~self._kept(invalidation))))
            | (
                (scope == Scope.PAGE_IN_PASID)
                & domain
                & pasid
                & entry.first_stage
                & overlaps
                & ~self._kept(invalidation)
            )
        )

    def _kept(self, invalidation) -> Value:
        """Whether page-selective invalidations keep such entries: none are kept in the IOTLB."""
        return Const(0)

    def _overlaps(self, invalidation, entry, sign_position):
        """Whether the entry's page and the 2^AM pages of the invalidation have an address in common."""
        mask = invalidation.address_mask
        agree = [
            (entry.page[bit - self._shift] == invalidation.page[bit]) | (mask > bit)
            for bit in range(self._shift, PAGE_BITS)
        ]
        agree.append((entry.page[PAGE_BITS - self._shift] == invalidation.page[SIGN]) | (mask > sign_position))
        return Cat(agree).all()


class StructureTags(PageTags):
    """Paging-structure caches by requester: as the IOTLB, but page-selective invalidations with IH keep them."""

    def __init__(self, cfg: IommuConfig, level: int):
        super().__init__(cfg, 9 * level)
        self.format = StructureFormat(cfg, level)

    def allows(self, entry, key):
        return Const(1)

    def _kept(self, invalidation):
        return invalidation.hint


class GuestTags(Tags):
    """Nested TLB and second-stage paging-structure caches: DID, guest-physical address; PASID-based invalidations
    and, of tables, page-selective ones with IH keep them."""

    def __init__(self, cfg: IommuConfig, page_shift: int):
        self.format = GuestFormat(cfg, page_shift)
        self._shift = page_shift
        self._cfg = cfg

    def same(self, left, right):
        return (left.domain_id == right.domain_id) & (left.page == right.page)

    def covers(self, invalidation, entry):
        return self._removes(invalidation, entry, Const(0))

    def may_cover(self, invalidation, entry):
        return self._removes(invalidation, entry, invalidation.address_mask > self._cfg.max_address_mask)

    def _removes(self, invalidation, entry, any_page):
        scope, mask = invalidation.scope, invalidation.address_mask
        domain = entry.domain_id == invalidation.domain_id[: self._cfg.domain_bits]
        overlaps = (
            any_page
            | Cat(
                (entry.page[bit - self._shift] == invalidation.page[bit]) | (mask > bit)
                for bit in range(self._shift, self._cfg.page_bits)
            ).all()
        )
        kept = invalidation.hint if self._shift else Const(0)
        return invalidation.iotlb & (
            (scope == Scope.GLOBAL)
            | ((scope == Scope.DOMAIN) & domain)
            | ((scope == Scope.PAGE_IN_DOMAIN) & domain & overlaps & ~kept)
        )


class ContextTags(Tags):
    """Context cache of scalable mode: SID; removed by SID under the function mask."""

    def __init__(self, cfg: IommuConfig):
        self.format = ContextFormat(cfg)

    def same(self, left, right):
        return left.source_id == right.source_id

    def covers(self, invalidation, entry):
        return invalidation.context & ((invalidation.scope != Scope.DEVICE) | _same_function(invalidation, entry))


class PasidTags(Tags):
    """PASID cache: SID, with or without PASID, PASID; removed by DID and PASID, and by context-cache invalidations."""

    def __init__(self, cfg: IommuConfig):
        self.format = PasidFormat(cfg)
        self._domain_bits = cfg.domain_bits

    def same(self, left, right):
        return (
            (left.source_id == right.source_id)
            & (left.pasid_valid == right.pasid_valid)
            & (~left.pasid_valid | (self._pasid(left) == self._pasid(right)))
        )

    def covers(self, invalidation, entry):
        scope = invalidation.scope
        domain = entry.space.domain_id == invalidation.domain_id[: self._domain_bits]
        pasid = entry.space.pasid == invalidation.pasid
        by_pasid_cache = (
            (scope == Scope.GLOBAL) | ((scope == Scope.DOMAIN) & domain) | ((scope == Scope.PASID) & domain & pasid)
        )
        # Domain-selective invalidation of contexts removes legacy entries of the domain, and in scalable mode all.
        by_context = (
            (scope == Scope.GLOBAL)
            | ((scope == Scope.DOMAIN) & (domain | ~entry.space.legacy))
            | ((scope == Scope.DEVICE) & _same_function(invalidation, entry))
        )
        return (invalidation.context & by_context) | (invalidation.pasid_cache & by_pasid_cache)

    @staticmethod
    def _pasid(view: data.View) -> Value:
        return view.pasid if "pasid" in dict(view.shape()) else view.space.pasid


def _same_function(invalidation: data.View, entry: data.View) -> Value:
    """Equal source ids apart from the function bits that FM masks: 1 bit 2, 2 bits 2:1, 3 bits 2:0."""
    mask = invalidation.function_mask
    ignored = Mux(mask == 3, 0b111, Mux(mask == 2, 0b110, Mux(mask == 1, 0b100, 0)))
    return (entry.source_id | ignored) == (invalidation.source_id | ignored)


class ComparedTags(Tags):
    """The tags as the cache compares them; `TagsSpec` proves that they mean what the others say."""

    def __init__(self, cache_format: CacheFormat):
        self.format = cache_format

    def same(self, left, right):
        return Cat(self.format.key_terms(left, self._key(right))).all()

    def allows(self, entry, key):
        return Cat(Const(1, 1), *self.format.grant_terms(entry, key)).all()

    def covers(self, invalidation, entry):
        return self.format.reaches(invalidation) & self._matches(entry, self.format.invalidation_pattern(invalidation))

    def replaces(self, fill, entry):
        """Whether a fill of ``fill`` replaces ``entry``."""
        return self._matches(entry, self.format.fill_pattern(fill))

    def _matches(self, entry, members) -> Value:
        pattern = data.View(self.format.pattern, self.format.make_pattern(members))
        return Cat(self.format.pattern_terms(entry, pattern)).all()

    def _key(self, view: data.View) -> data.View:
        """The key that finds ``view``, an entry or a key already."""
        if view.shape() == self.format.key:
            return view
        fields = self.format.key_of(view)
        bits = Cat(fields[name] if name in fields else Const(0, field.width) for name, field in self.format.key)
        return data.View(self.format.key, bits)
