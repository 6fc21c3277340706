"""Paging-structure caches: where the lower tables of an address are, so that a walk need not begin at the root (§8.2).

They are looked up beside the IOTLB, by requester and input address, so that a miss reaches the walker with the table to
begin at. The first-stage table of a nested walk is kept with its resolved host address. Only a table that all entries
above allow all access to is kept, which spares storing permissions: whoever needs the others walks from the root.
"""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out

from ..bus.fork import Fork
from ..config import IommuConfig
from ..invalidation.command import Invalidation
from .block_cache import BlockCache
from .cache_format import select
from .requester_format import RequesterFormat, RequesterKey

__all__ = ["StructureCaches", "StructureFill", "StructureFormat", "StructureHint", "TableLevel"]


class TableLevel(enum.Enum, shape=1):
    """Level of a cached table: the one of 4 KiB leaves, or the one above."""

    LEVEL_1 = 0
    LEVEL_2 = 1


class StructureFormat(RequesterFormat):
    """Tables of ``level`` (1 or 2), each of which serves 2^(9 ``level``) 4 KiB pages."""

    def __init__(self, cfg: IommuConfig, level: int):
        super().__init__(cfg, 9 * level, {"table": cfg.page_bits}, RequesterKey(9 * level), leaf=False)


class StructureHint(data.StructLayout):
    """Where a walk may begin: ``table`` is the host page of the table of ``level``.

    It holds for the address space of ``domain_id`` and ``pasid`` and the stage that ``first_stage`` tells.
    """

    def __init__(self, cfg: IommuConfig):
        super().__init__(
            {
                "level": TableLevel,
                "table": cfg.page_bits,
                "domain_id": cfg.domain_bits,
                "pasid": 20,
                "first_stage": 1,
            }
        )


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
        ``cfg.structure_cache_1`` and ``_2`` are their shapes.

    Attributes
    ----------
    key : In(RequesterKey)
        4 KiB key, every cycle.
    hit, hint : Out
        `LATENCY` cycles later; level 1 is preferred.
    fill : In(stream of StructureFill)
    invalidations : In(stream of Invalidation)
        Applied to both; the transfer is its completion.
    """

    LATENCY = BlockCache.LATENCY + 1

    def __init__(self, cfg: IommuConfig):
        self.cfg = cfg
        super().__init__(
            {
                "key": In(RequesterKey(0)),
                "hit": Out(1),
                "hint": Out(StructureHint(cfg)),
                "fill": In(stream.Signature(StructureFill(cfg))),
                "invalidations": In(stream.Signature(Invalidation)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        cfg = self.cfg
        m.submodules.invalidations = fork = Fork(Invalidation, 2)
        wiring.connect(m, wiring.flipped(self.invalidations), fork.i)
        caches = {}
        shapes = {TableLevel.LEVEL_1: cfg.structure_cache_1, TableLevel.LEVEL_2: cfg.structure_cache_2}
        for n, (level, shape) in enumerate(shapes.items()):
            cache = BlockCache(StructureFormat(cfg, n + 1), shape)
            m.submodules[level.name.lower()] = caches[level] = cache
            wiring.connect(m, fork.o[n], cache.invalidations)
            self._connect(m, cache, level, 9 * (n + 1))
        first, second = (caches[level] for level in TableLevel)
        chosen = [(select(cache.way_hit, cache.way_entry), cache) for cache in (first, second)]
        found = first.way_hit.any()
        m.d.sync += self.hit.eq(found | second.way_hit.any())
        for name in ("table", "domain_id", "pasid", "first_stage"):
            values = [data.View(cache.format.entry, bits)[name] for bits, cache in chosen]
            m.d.sync += self.hint[name].eq(Mux(found, *values))
        m.d.sync += Value.cast(self.hint.level).eq(~found)
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
