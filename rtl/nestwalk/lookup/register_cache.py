"""A small fully associative cache in registers."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..invalidation.command import Invalidation
from .block_cache import BlockCache
from .cache_format import CacheFormat

__all__ = ["RegisterCache"]


class RegisterCache(wiring.Component):
    """Fully associative cache with the ports, the latency and the contract of `BlockCache`.

    A fill takes two cycles and so does an invalidation (compare, then write or clear).

    Parameters
    ----------
    format : CacheFormat
        Entry, key, tags.
    entries : int
        Number of entries.

    Attributes
    ----------
    key, way_hit, way_entry, fill, invalidations, filled, evicted
        As those of `BlockCache`, one way per entry.
    """

    LATENCY = BlockCache.LATENCY

    def __init__(self, format: CacheFormat, entries: int):
        self.format = format
        self.entries = entries
        super().__init__(
            {
                "key": In(format.key),
                "way_hit": Out(entries),
                "way_entry": Out(format.entry).array(entries),
                "fill": In(stream.Signature(format.entry)),
                "invalidations": In(stream.Signature(Invalidation)),
                "filled": Out(1),
                "evicted": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        self._entries = entries = [Signal(self.format.entry, name=f"entry_{n}") for n in range(self.entries)]
        self._elaborate_lookup(m)

        key = Signal(self.format.key)
        m.d.comb += [key[name].eq(value) for name, value in self.format.key_of(self.fill.payload).items()]
        same, covered = Signal(self.entries), Signal(self.entries)
        for n, entry in enumerate(entries):
            same_terms = self.format.key_terms(entry, key)
            covered_terms = self.format.invalidation_terms(entry, self.invalidations.payload)
            m.d.sync += same[n].eq(Cat(same_terms).all() & entry.valid)
            m.d.sync += covered[n].eq(Cat(covered_terms).all() & entry.valid)

        valid = Cat(entry.valid for entry in entries)
        free = ~valid & (valid + 1)  # the lowest entry that is not valid
        rotation = Signal(self.entries, init=1)
        victim = Signal(self.entries)
        m.d.comb += victim.eq(Mux(same.any(), same, Mux(valid.all(), rotation, free)))
        with m.FSM(name="maintain"):
            with m.State("IDLE"):
                with m.If(self.invalidations.valid):
                    with m.If(self.format.reaches(self.invalidations.payload)):
                        m.d.comb += self.fill.ready.eq(1)  # a waiting fill may be covered: discard it
                        m.next = "CLEAR"
                    with m.Else():
                        m.d.comb += self.invalidations.ready.eq(1)
                with m.Elif(self.fill.valid):
                    m.next = "WRITE"
            with m.State("CLEAR"):
                m.d.comb += self.invalidations.ready.eq(1)
                for n, entry in enumerate(entries):
                    with m.If(covered[n]):
                        m.d.sync += entry.valid.eq(0)
                m.next = "IDLE"
            with m.State("WRITE"):
                m.d.comb += [self.fill.ready.eq(1), self.filled.eq(1), self.evicted.eq(~same.any() & valid.all())]
                if self.entries > 1:
                    m.d.sync += rotation.eq(rotation.rotate_left(1))
                for n, entry in enumerate(entries):
                    with m.If(victim[n]):
                        m.d.sync += [entry.eq(self.fill.payload), entry.valid.eq(1)]
                m.next = "IDLE"
        return m

    def _elaborate_lookup(self, m):
        """Compare in the first cycle; entry and hit then wait for those of the block RAM."""
        for n, entry in enumerate(self._entries):
            terms = Cat(entry.valid, *self.format.key_terms(entry, self.key), *self.format.grant_terms(entry, self.key))
            held, hit, held_entry = Signal(len(terms), name=f"terms_{n}"), Signal(2, name=f"hit_{n}"), []
            m.d.sync += [held.eq(terms), hit.eq(Cat(held.all(), hit[0]))]
            for stage in range(self.LATENCY):
                held_entry.append(Signal(self.format.entry, name=f"entry_{n}_{stage}"))
                m.d.sync += held_entry[stage].eq(held_entry[stage - 1] if stage else entry)
            m.d.comb += [self.way_hit[n].eq(hit[1]), self.way_entry[n].eq(held_entry[-1])]
