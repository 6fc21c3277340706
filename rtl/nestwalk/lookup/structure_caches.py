"""Paging-structure caches: where the lower tables of an address are, so that a walk need not begin at the root (§8.2).

They are looked up beside the IOTLB, by requester and input address, so that a miss reaches the walker with the table to
begin at. The first-stage table of a nested walk is kept with its resolved host address. Only a table that all entries
above allow all access to is kept, which spares storing permissions: whoever needs the others walks from the root.
"""

from amaranth.hdl import C, Cat, Module, Signal, Value
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out

from ..bus.fork import Fork
from ..bus.sharing import sharing_port
from ..config import CacheShape, IommuConfig
from ..invalidation.command import Invalidation
from .block_cache import BlockCache
from .cache_format import select
from .requester_format import RequesterFormat, RequesterKey

__all__ = [
    "SpaceTags",
    "StructureCaches",
    "StructureFill",
    "StructureFormat",
    "StructureHint",
    "TableLevel",
    "structure_shapes",
]


class TableLevel(enum.Enum, shape=1):
    """Level of a cached table: the one of 4 KiB leaves, or the one above."""

    LEVEL_1 = 0
    LEVEL_2 = 1


def structure_shapes(cfg: IommuConfig) -> dict[TableLevel, CacheShape]:
    """The caches that ``cfg`` asks for, by the level of their tables."""
    shapes = {TableLevel.LEVEL_1: cfg.structure_cache_1, TableLevel.LEVEL_2: cfg.structure_cache_2}
    return {level: shape for level, shape in shapes.items() if shape is not None}


class StructureFormat(RequesterFormat):
    """Tables of ``level`` (1 or 2), each of which serves 2^(9 ``level``) 4 KiB pages."""

    def __init__(self, cfg: IommuConfig, level: int):
        super().__init__(cfg, 9 * level, {"table": cfg.page_bits}, RequesterKey(9 * level), leaf=False)


class StructureHint(data.StructLayout):
    """Where a walk may begin: ``table`` is the host page of the table of ``level``."""

    def __init__(self, cfg: IommuConfig):
        super().__init__({"level": TableLevel, "table": cfg.page_bits})


class SpaceTags(data.StructLayout):
    """The address space that a hint is good for: domain, effective PASID, and which stage comes first."""

    def __init__(self, cfg: IommuConfig):
        super().__init__({"domain_id": cfg.domain_bits, "pasid": 20, "first_stage": 1})


class StructureFill(data.StructLayout):
    """A table to keep, its tags at 4 KiB granularity."""

    def __init__(self, cfg: IommuConfig):
        entry = RequesterFormat(cfg, 0, {"table": cfg.page_bits}, RequesterKey(0)).entry
        super().__init__({"entry": entry, "level": TableLevel})


class StructureCaches(wiring.Component):
    """The caches of level-1 and level-2 tables, side by side.

    Parameters
    ----------
    cfg : IommuConfig
        ``cfg.structure_cache_1`` and ``_2`` are their shapes; one of them may be missing.

    Attributes
    ----------
    key : In(RequesterKey)
        4 KiB key, every cycle.
    hint : Out(StructureHint)
        `LATENCY` - 1 cycles later, not registered; level 1 is preferred.
    space, hit : In(SpaceTags), Out(1)
        `LATENCY` cycles after ``key``: the hint of the cycle before is for ``space``.
    fill : In(stream of StructureFill)
    invalidations : In(stream of Invalidation)
        Applied to both; the transfer is its completion.
    sharing : In(Sharing)
    filled, evicted : Out(2)
        Pulses for counters: of level 1, of level 2.
    """

    LATENCY = BlockCache.LATENCY + 1

    def __init__(self, cfg: IommuConfig):
        self.cfg = cfg
        super().__init__(
            {
                "key": In(RequesterKey(0)),
                "hint": Out(StructureHint(cfg)),
                "space": In(SpaceTags(cfg)),
                "hit": Out(1),
                "fill": In(stream.Signature(StructureFill(cfg))),
                "invalidations": In(stream.Signature(Invalidation)),
                "sharing": sharing_port(),
                "filled": Out(2),
                "evicted": Out(2),
            }
        )

    def elaborate(self, platform):
        m = Module()
        cfg = self.cfg
        shapes = structure_shapes(cfg)
        m.submodules.invalidations = fork = Fork(Invalidation, len(shapes))
        wiring.connect(m, wiring.flipped(self.invalidations), fork.i)
        m.d.comb += self.fill.ready.eq(1)  # what there is no cache for is taken and forgotten
        hits, entries, found = [], [], C(0)
        level_2 = C(0)
        for out, (level, shape) in zip(fork.o, shapes.items(), strict=True):
            levels = level.value + 1
            cache = BlockCache(StructureFormat(cfg, levels), shape, partitioned=cfg.partitioning)
            m.submodules[level.name.lower()] = cache
            wiring.connect(m, out, cache.invalidations)
            self._connect(m, cache, level, 9 * levels)
            if cfg.partitioning:
                m.d.comb += cache.partitions.eq(self.sharing.ways)
            m.d.comb += [self.filled[level.value].eq(cache.filled), self.evicted[level.value].eq(cache.evicted)]
            wins = cache.way_hit & (~found).replicate(shape.ways)
            hits += [*wins]
            entries += [*cache.way_entry]
            found = found | cache.way_hit.any()
            level_2 = wins.any() if level == TableLevel.LEVEL_2 else level_2
        found_before, tags = Signal(), Signal(SpaceTags(cfg), reset_less=True)
        m.d.comb += Value.cast(self.hint.level).eq(level_2)
        m.d.comb += self.hint.table.eq(select(Cat(hits), [entry.table for entry in entries]))
        m.d.sync += found_before.eq(found)
        for name, _ in tags.shape():
            m.d.sync += tags[name].eq(select(Cat(hits), [entry[name] for entry in entries]))
        m.d.comb += self.hit.eq(found_before & (tags.as_value() == self.space.as_value()))
        return m

    def _connect(self, m, cache, level, shift):
        for name in ("source_id", "pasid_valid", "pasid"):
            m.d.comb += cache.key[name].eq(self.key[name])
        m.d.comb += cache.key.page.eq(self.key.page[shift:])
        entry, chosen = self.fill.payload.entry, Signal(name=f"fills_{level.name.lower()}")
        m.d.comb += [chosen.eq(self.fill.payload.level == level), cache.fill.valid.eq(self.fill.valid & chosen)]
        with m.If(chosen):
            m.d.comb += self.fill.ready.eq(cache.fill.ready)
        for name in ("source_id", "pasid_valid", "pasid", "domain_id", "first_stage", "table"):
            m.d.comb += cache.fill.payload[name].eq(entry[name])
        m.d.comb += [cache.fill.payload.valid.eq(1), cache.fill.payload.page.eq(entry.page[shift:])]
