"""A small fully associative cache in registers."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..bus.sharing import PARTITIONS, WAY_BITS
from ..invalidation.command import Invalidation
from .block_cache import BlockCache
from .cache_format import CacheFormat, select
from .replacement import Replacement

__all__ = ["RegisterCache"]


class RegisterCache(wiring.Component):
    """Fully associative cache with the ports, the latency and the contract of `BlockCache`.

    A fill takes three cycles and so does an invalidation (take the pattern, compare, then write or clear).

    Parameters
    ----------
    cache_format : CacheFormat
        Entry, key, tags.
    entries : int
        Number of entries.
    partitioned : bool
        Whether there is ``partitions``.

    Attributes
    ----------
    key, way_hit, way_entry, fill, partitions, invalidations, filled, evicted
        As those of `BlockCache`, with the entry that hits as the only way; partitions are of entries.
    """

    LATENCY = BlockCache.LATENCY

    def __init__(self, cache_format: CacheFormat, entries: int, *, partitioned: bool = False):
        self.format = cache_format
        self.entries = entries
        self._partitioned = partitioned
        super().__init__(
            {
                "key": In(cache_format.key),
                "way_hit": Out(1),
                "way_entry": Out(cache_format.entry).array(1),
                "fill": In(stream.Signature(cache_format.entry)),
                **({"partitions": In(data.ArrayLayout(WAY_BITS, PARTITIONS))} if partitioned else {}),
                "invalidations": In(stream.Signature(Invalidation)),
                "filled": Out(1),
                "evicted": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        self._entries = entries = [Signal(self.format.entry, name=f"entry_{n}") for n in range(self.entries)]
        self._changing = Signal(self.entries)
        self._elaborate_lookup(m)

        by_fill = self.format.make_pattern(self.format.fill_pattern(self.fill.payload))
        by_invalidation = self.format.make_pattern(self.format.invalidation_pattern(self.invalidations.payload))
        clears, reached = Signal(), Signal()
        m.d.comb += reached.eq(self.format.reaches(self.invalidations.payload))
        m.d.comb += clears.eq(self.invalidations.valid & reached)
        pattern = Signal(self.format.pattern, reset_less=True)
        m.d.sync += pattern.eq(Mux(clears, by_invalidation, by_fill))
        matched = Signal(self.entries)
        for n, entry in enumerate(entries):
            m.d.sync += matched[n].eq(Cat(self.format.pattern_terms(entry, pattern)).all() & entry.valid)

        valid = Cat(entry.valid for entry in entries)
        m.submodules.replacement = self._replacement = replacement = Replacement(
            self.entries, domain_bits=len(self.fill.payload.domain_id) if self._partitioned else 0
        )
        m.d.comb += [replacement.equal.eq(matched), replacement.valid.eq(valid), replacement.filled.eq(self.filled)]
        if self._partitioned:
            m.d.comb += replacement.domain_id.eq(self.fill.payload.domain_id)
            m.d.comb += replacement.partitions.eq(self.partitions)
        with m.FSM(name="maintain") as self._states:
            with m.State("IDLE"):
                with m.If(clears):
                    m.next = "COMPARE_CLEAR"
                with m.Else():
                    m.d.comb += self.invalidations.ready.eq(self.invalidations.valid)
                    with m.If(self.fill.valid):
                        m.next = "COMPARE_WRITE"
            with m.State("COMPARE_CLEAR"):
                m.d.comb += self.fill.ready.eq(1)  # a waiting fill may be covered: discard it
                m.next = "CLEAR"
            with m.State("COMPARE_WRITE"):
                m.next = "WRITE"
            with m.State("CLEAR"):
                m.d.comb += self.invalidations.ready.eq(1)
                for n, entry in enumerate(entries):
                    with m.If(matched[n]):
                        m.d.comb += self._changing[n].eq(1)
                        m.d.sync += entry.valid.eq(0)
                m.next = "IDLE"
            with m.State("WRITE"):
                m.d.comb += [self.fill.ready.eq(1), self.filled.eq(1), self.evicted.eq(replacement.evicts)]
                for n, entry in enumerate(entries):
                    with m.If(replacement.way[n]):
                        m.d.comb += self._changing[n].eq(1)
                        m.d.sync += [entry.eq(self.fill.payload), entry.valid.eq(1)]
                m.next = "IDLE"
        return m

    def _elaborate_lookup(self, m):
        """Compare, then choose, then wait for the block RAM."""
        hits, clashes = Signal(self.entries), Signal(self.entries)
        for n, entry in enumerate(self._entries):
            terms = Cat(entry.valid, *self.format.key_terms(entry, self.key), *self.format.grant_terms(entry, self.key))
            held = Signal(len(terms), name=f"terms_{n}")
            m.d.sync += [held.eq(terms), clashes[n].eq(self._changing[n])]
            # An entry that changed right after it was compared is not the one that answered.
            m.d.comb += hits[n].eq(held.all() & ~clashes[n])
        chosen = Signal(self.format.entry)
        hit = Signal()
        m.d.sync += [
            hit.eq(hits.any()),
            chosen.eq(select(hits, self._entries)),
            self.way_hit.eq(hit),
            self.way_entry[0].eq(chosen),
        ]
