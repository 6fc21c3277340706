"""Nested TLB and second-stage paging-structure caches: what is known of a domain's guest-physical addresses (§8.1).

All PASIDs of a domain share them: the tags are domain and guest-physical address.
"""

from amaranth.hdl import C, Cat, Module, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..bus.counting import exceeds
from ..bus.fork import Fork
from ..bus.sharing import sharing_port
from ..bus.translation import PageSize
from ..config import CacheShape, IommuConfig
from ..invalidation.command import Invalidation, Scope
from .block_cache import BlockCache
from .cache_format import CacheFormat, ProbePlan, equal_terms, masked, masked_page, select, unmasked

__all__ = ["GuestCaches", "GuestFill", "GuestFormat", "GuestKey", "guest_shapes"]


def guest_shapes(cfg: IommuConfig) -> dict[int, CacheShape]:
    """The caches that ``cfg`` asks for: 0 the nested TLB, 1 and 2 the tables of that level."""
    shapes = {0: cfg.nested_tlb, 1: cfg.second_stage_cache_1, 2: cfg.second_stage_cache_2}
    return {level: shape for level, shape in shapes.items() if shape is not None and cfg.nested}


class GuestKey(data.StructLayout):
    """Domain and guest-physical page, in units of 2^``page_shift`` 4 KiB pages."""

    def __init__(self, cfg: IommuConfig, page_shift: int):
        super().__init__({"domain_id": cfg.domain_bits, "page": cfg.page_bits - page_shift})


class GuestFormat(CacheFormat):
    """What the second stage says of 2^``page_shift`` guest-physical pages: the leaf that maps them, or a table.

    Parameters
    ----------
    cfg : IommuConfig
    page_shift : int
        0 for pages; 9 and 18 for tables of level 1 and 2, which only hold what all entries above allow all access to.
    """

    SPREAD_BITS = 0

    def __init__(self, cfg: IommuConfig, page_shift: int):
        self.page_shift = page_shift
        self.domain_bits = cfg.domain_bits
        self.page_bits = cfg.page_bits
        tags = {"valid": 1, "domain_id": cfg.domain_bits, "page": cfg.page_bits - page_shift}
        leaf = {} if page_shift else {"read": 1, "write": 1, "size": PageSize}
        self.entry = data.StructLayout(tags | leaf | {"target": cfg.page_bits})
        self.key = GuestKey(cfg, page_shift)
        self.largest_mask = cfg.max_address_mask
        members = {"domain_id": cfg.domain_bits, "by_domain": 1, "page": cfg.page_bits - page_shift, "by_page": 1}
        if cfg.max_address_mask > page_shift:
            members["page_mask"] = cfg.max_address_mask - page_shift
        self.pattern = data.StructLayout(members)

    def key_of(self, entry):
        return {"domain_id": entry.domain_id, "page": entry.page}

    def key_terms(self, entry, key):
        return [*equal_terms(entry.domain_id, key.domain_id), *equal_terms(entry.page, key.page)]

    def hashed(self, key):
        return Cat(key.page, key.domain_id)

    def spread(self, key, bits):
        return C(0, 0)

    def reaches(self, invalidation):
        scope = invalidation.scope
        by_domain = (scope == Scope.GLOBAL) | (scope == Scope.DOMAIN) | (scope == Scope.PAGE_IN_DOMAIN)
        kept = (scope == Scope.PAGE_IN_DOMAIN) & invalidation.hint if self.page_shift else C(0)
        return invalidation.iotlb & by_domain & ~kept

    def _page_mask(self, invalidation) -> Value:
        return unmasked(range(self.page_shift, self.page_bits), invalidation, self.largest_mask)

    def _page(self, invalidation) -> Value:
        """The invalidation's page number without the bits that its address mask covers."""
        return masked(invalidation.page[self.page_shift : self.page_bits], self._page_mask(invalidation))

    def fill_pattern(self, entry):
        tags = {"domain_id": entry.domain_id, "by_domain": C(1), "page": entry.page, "by_page": C(1)}
        return tags | {"page_mask": ~C(0, max(0, self.largest_mask - self.page_shift))}

    def invalidation_pattern(self, invalidation):
        scope = invalidation.scope
        return {
            "domain_id": invalidation.domain_id[: self.domain_bits],
            "by_domain": scope != Scope.GLOBAL,
            "page": self._page(invalidation),
            "page_mask": self._page_mask(invalidation),
            # Beyond MAMV all pages.
            "by_page": (scope == Scope.PAGE_IN_DOMAIN) & (invalidation.address_mask <= self.largest_mask),
        }

    def pattern_terms(self, entry, pattern):
        return [
            *equal_terms(entry.domain_id, pattern.domain_id, unless=~pattern.by_domain),
            *equal_terms(masked_page(entry.page, pattern), pattern.page, unless=~pattern.by_page),
        ]

    def probe(self, invalidation, step, index_bits):
        aligned = self._page(invalidation)
        page = Cat(aligned[: len(step)] | step, aligned[len(step) :])
        return ProbePlan(
            useful=invalidation.scope == Scope.PAGE_IN_DOMAIN,
            exceeds=lambda log2: exceeds(invalidation.address_mask, self.page_shift + log2) if log2 >= 0 else C(1, 1),
            hashed=Cat(page, invalidation.domain_id[: self.domain_bits]),
        )


class GuestFill(data.StructLayout):
    """Something to keep of guest-physical ``page``: of ``level`` 0 its leaf, of 1 and 2 a table.

    ``target`` is the host page of the table, or of the leaf's first page.
    """

    def __init__(self, cfg: IommuConfig):
        super().__init__(
            {
                "level": 2,
                "domain_id": cfg.domain_bits,
                "page": cfg.page_bits,
                "read": 1,
                "write": 1,
                "size": PageSize,
                "target": cfg.page_bits,
            }
        )


class GuestCaches(wiring.Component):
    """Nested TLB and the second stage's tables of level 1 and 2, side by side.

    The answer comes as the second-stage entry that would lead on from what is known, a leaf or a pointer to the known
    table, so that the page step needs no case for it.

    Parameters
    ----------
    cfg : IommuConfig
        ``cfg.nested_tlb``, ``cfg.second_stage_cache_1`` and ``_2`` are the shapes; some of them may be missing.

    Attributes
    ----------
    key : In(GuestKey)
        4 KiB key, every cycle.
    hit, leaf, level, target, read, write : Out
        `LATENCY` cycles later, not registered: whether the entry is a leaf, its level (1 to 3), address and
        permissions.
    fill : In(stream of GuestFill)
    invalidations : In(stream of Invalidation)
        Applied to all; the transfer is its completion.
    sharing : In(Sharing)
    level_hit, filled, evicted : Out(3)
        For counters, of the nested TLB and the tables of level 1 and 2: which of them answers; pulses of each.
    """

    LATENCY = BlockCache.LATENCY

    def __init__(self, cfg: IommuConfig):
        self.cfg = cfg
        super().__init__(
            {
                "key": In(GuestKey(cfg, 0)),
                "hit": Out(1),
                "leaf": Out(1),
                "level": Out(3),
                "target": Out(cfg.page_bits),
                "read": Out(1),
                "write": Out(1),
                "fill": In(stream.Signature(GuestFill(cfg))),
                "invalidations": In(stream.Signature(Invalidation)),
                "sharing": sharing_port(),
                "level_hit": Out(3),
                "filled": Out(3),
                "evicted": Out(3),
            }
        )

    def elaborate(self, platform):
        m = Module()
        cfg = self.cfg
        shapes = guest_shapes(cfg)
        m.submodules.invalidations = fork = Fork(Invalidation, len(shapes))
        wiring.connect(m, wiring.flipped(self.invalidations), fork.i)
        hits, targets, levels, found = [], [], [], C(0)
        # What there is no cache for is taken and forgotten.
        m.d.comb += [self.read.eq(1), self.write.eq(1), self.fill.ready.eq(1)]
        for out, (level, shape) in zip(fork.o, shapes.items(), strict=True):
            cache = BlockCache(GuestFormat(cfg, 9 * level), shape, partitioned=cfg.partitioning)
            m.submodules[f"tables_{level}" if level else "nested_tlb"] = cache
            wiring.connect(m, out, cache.invalidations)
            self._connect(m, cache, level)
            if cfg.partitioning:
                m.d.comb += cache.partitions.eq(self.sharing.ways)
            m.d.comb += [
                self.level_hit[level].eq(~found & cache.way_hit.any()),
                self.filled[level].eq(cache.filled),
                self.evicted[level].eq(cache.evicted),
            ]
            hits += [hit & ~found for hit in cache.way_hit]
            targets += [entry.target for entry in cache.way_entry]
            # A table of level 1 is what an entry of level 2 leads to, and so on; a leaf is its own entry.
            levels += [C(level + 1, 3) if level else Value.cast(entry.size) + 1 for entry in cache.way_entry]
            found = found | cache.way_hit.any()
            if level == 0:
                m.d.comb += self.leaf.eq(found)
                for name in ("read", "write"):
                    granted = select(cache.way_hit, [entry[name] for entry in cache.way_entry])
                    m.d.comb += getattr(self, name).eq(~found | granted)
        m.d.comb += [
            self.hit.eq(found),
            self.level.eq(select(Cat(hits), levels)),
            self.target.eq(select(Cat(hits), targets)),
        ]
        return m

    def _connect(self, m, cache, level):
        fill, filled, chosen = self.fill.payload, cache.fill.payload, Signal(name=f"fills_{level}")
        m.d.comb += [
            cache.key.domain_id.eq(self.key.domain_id),
            cache.key.page.eq(self.key.page[9 * level :]),
            chosen.eq(fill.level == level),
            cache.fill.valid.eq(self.fill.valid & chosen),
            filled.valid.eq(1),
            filled.domain_id.eq(fill.domain_id),
            filled.page.eq(fill.page[9 * level :]),
            filled.target.eq(fill.target),
        ]
        with m.If(chosen):
            m.d.comb += self.fill.ready.eq(cache.fill.ready)
        if level == 0:
            m.d.comb += [filled.read.eq(fill.read), filled.write.eq(fill.write), filled.size.eq(fill.size)]
