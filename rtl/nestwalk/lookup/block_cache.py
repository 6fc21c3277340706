"""A set-associative, skewed cache in block RAM."""

from amaranth.hdl import C, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..config import CacheShape
from ..invalidation.command import Invalidation
from .cache_format import CacheFormat
from .hash import SPREAD_BITS, row_index

__all__ = ["BlockCache"]


class BlockCache(wiring.Component):
    """Set-associative cache with a hash per way, looked up every cycle, filled and invalidated through a second RAM
    port.

    ::

        key ──hash──> [RAM, one per way] ─> register ─> compare terms ─> register ──> way_hit, way_entry   (3 cycles)
                          │ second port
        fill ─────────────┤ read row ─> register ─> compare ─> decide ─> write one way
        invalidation ─────┘ read rows ─> register ─> compare ─> decide ─> clear the ways that it covers

    The transfer on ``invalidations`` happens when every row that may hold a covered entry has been cleared. A row takes
    one cycle; an invalidation that the format can probe takes a few rows, others take all. A fill that was begun before
    an invalidation was offered is written before the first row is read, one that still waits then is discarded; fills
    go on between rows, and those come from walks that the invalidation did not overtake (`nestwalk.walk.walker` sees to
    that). After reset all rows are cleared, ``sets`` cycles; look-ups miss and fills wait until then.

    Parameters
    ----------
    cache_format : CacheFormat
        Entry, key, tags.
    shape : CacheShape
        Rows and ways.

    Attributes
    ----------
    key : In
        Key to look up, every cycle.
    way_hit, way_entry : Out
        `LATENCY` cycles later: one-hot (at most one bit, since a fill replaces the entry of the same key) and the
        entry of each way.
    fill : In(stream)
        Entry to store; replaces the entry of equal key, else an invalid one, else rotates over the ways.
    invalidations : In(stream)
        Invalidation to apply; the transfer is its completion.
    filled, evicted : Out(1)
        Pulses for counters: an entry was written; it replaced a valid one of another key.
    """

    LATENCY = 3

    def __init__(self, cache_format: CacheFormat, shape: CacheShape):
        self.format = cache_format
        self.shape = shape
        self._index_bits = exact_log2(shape.sets)
        self._spread_bits = min(SPREAD_BITS, self._index_bits)
        super().__init__(
            {
                "key": In(cache_format.key),
                "way_hit": Out(shape.ways),
                "way_entry": Out(cache_format.entry).array(shape.ways),
                "fill": In(stream.Signature(cache_format.entry)),
                "invalidations": In(stream.Signature(Invalidation)),
                "filled": Out(1),
                "evicted": Out(1),
            }
        )

    def _rows(self, m, key: data.View) -> list:
        # Signals, because the simulator would evaluate the expressions again for each of their bits.
        hashed, spread_value = Signal(len(self.format.hashed(key))), self.format.spread(key, self._spread_bits)
        spread = Signal(max(1, len(spread_value)))  # formats without it would make a signal that Verilog cannot express
        m.d.comb += [hashed.eq(self.format.hashed(key)), spread.eq(spread_value)]
        return [row_index(hashed, spread, way=way, index_bits=self._index_bits) for way in range(self.shape.ways)]

    def elaborate(self, platform):
        m = Module()
        ways = range(self.shape.ways)
        entry_shape = self.format.entry
        # What a block RAM returns for a row that its other port writes is undefined; see ``_elaborate_lookup``.
        attributes = {"no_rw_check": 1}
        self._memories = [Memory(shape=entry_shape, depth=self.shape.sets, init=[], attrs=attributes) for _ in ways]
        for way, memory in enumerate(self._memories):
            m.submodules[f"way_{way}"] = memory
        self._flushing = Signal(init=1)
        self._writing = Signal()
        self._filling = Signal()
        # Maintenance pipeline over the second port: issue -> row -> terms -> decision (write).
        lookups = [memory.read_port() for memory in self._memories]
        reads = [memory.read_port() for memory in self._memories]
        writes = [memory.write_port() for memory in self._memories]
        self._elaborate_lookup(m, lookups, writes)
        stages = self._elaborate_pipeline(m, reads)
        self._elaborate_decision(m, stages, writes)
        for read, write in zip(reads, writes, strict=True):
            # One address for both: they share the RAM's second port.
            m.d.comb += [write.addr.eq(read.addr), read.en.eq(~write.en)]
        return m

    def _elaborate_lookup(self, m, ports, writes):
        key_row = Signal(self.format.key)
        key_data = Signal(self.format.key)
        settled = Signal(2)
        m.d.sync += [key_row.eq(self.key), key_data.eq(key_row), settled.eq(Cat(~self._flushing, settled[0]))]
        for way, (port, row) in enumerate(zip(ports, self._rows(m, self.key), strict=True)):
            fetched = Signal(self.format.entry, name=f"fetched_{way}")
            # A row that was written while it was read is a miss.
            clash = Signal(2, name=f"clash_{way}")
            m.d.sync += clash.eq(Cat(writes[way].en & (writes[way].addr == row), clash[0]))
            terms = [fetched.valid & settled[1] & ~clash[1], *self.format.key_terms(fetched, key_data)]
            terms += self.format.grant_terms(fetched, key_data)
            held = Signal(len(terms), name=f"terms_{way}")
            m.d.comb += [port.addr.eq(row), port.en.eq(1), self.way_hit[way].eq(held.all())]
            m.d.sync += [fetched.eq(port.data), held.eq(Cat(terms)), self.way_entry[way].eq(fetched)]

    def _elaborate_pipeline(self, m, reads):
        """Choose what reads the second port, and carry it to the decision."""
        flushing, writing, filling = self._flushing, self._writing, self._filling
        self._flush_row = row = Signal(self._index_bits)
        with m.If(flushing):
            m.d.sync += row.eq(row + 1)
            with m.If(row.all()):
                m.d.sync += flushing.eq(0)

        scan = self._elaborate_scan(m)
        start_fill, held_back = Signal(), Signal()
        reached = self.invalidations.valid & self.format.reaches(self.invalidations.payload)
        m.d.comb += [
            held_back.eq(reached & ~scan["started"]),
            start_fill.eq(self.fill.valid & ~filling & ~flushing & ~writing & ~held_back),
        ]
        with m.If(start_fill):
            m.d.sync += filling.eq(1)
        with m.If(scan["discard"]):
            m.d.comb += self.fill.ready.eq(1)
        scanning = Signal()
        m.d.comb += [scanning.eq(scan["valid"] & ~start_fill & ~writing), scan["step"].eq(scanning)]

        key = Signal(self.format.key)
        m.d.comb += [key[name].eq(value) for name, value in self.format.key_of(self.fill.payload).items()]
        self._stages = stages = [
            {
                "fill": Signal(name=f"fill_{n}"),
                "scan": Signal(name=f"scan_{n}"),
                "rows": [Signal(self._index_bits, name=f"rows_{n}_{way}") for way in range(self.shape.ways)],
            }
            for n in range(3)
        ]
        chosen = [
            Mux(start_fill, fill_row, scan_row)
            for fill_row, scan_row in zip(self._rows(m, key), scan["rows"], strict=True)
        ]
        m.d.sync += [stages[0]["fill"].eq(start_fill), stages[0]["scan"].eq(scanning)]
        m.d.sync += [held.eq(new) for held, new in zip(stages[0]["rows"], chosen, strict=True)]
        for before, after in zip(stages, stages[1:], strict=False):
            m.d.sync += [after["fill"].eq(before["fill"]), after["scan"].eq(before["scan"])]
            m.d.sync += [new.eq(old) for old, new in zip(before["rows"], after["rows"], strict=True)]
        for way, read in enumerate(reads):
            at_write = Mux(flushing, row, self._write_rows[way])
            m.d.comb += read.addr.eq(Mux(writing | flushing, at_write, chosen[way]))
        m.d.comb += scan["idle"].eq(~Cat(stage["scan"] for stage in stages).any() & ~writing)
        return {"stages": stages, "key": key, "data": [read.data for read in reads]}

    def _elaborate_scan(self, m):
        """Which rows an invalidation reads, one set of row indices at a time."""
        ways = range(self.shape.ways)
        self._write_rows = [Signal(self._index_bits, name=f"write_row_{way}") for way in ways]
        offered = self.invalidations
        steps_log2 = self._index_bits
        self._scan = scan = {
            "valid": Signal(name="scan_valid"),
            "step": Signal(name="scan_step"),
            "idle": Signal(name="scan_idle"),
            "started": Signal(name="scan_started"),
            "discard": Signal(name="scan_discard"),
            "rows": [Signal(self._index_bits, name=f"scan_row_{way}") for way in ways],
        }
        scan["counter"] = counter = Signal(steps_log2 + 1)
        scan["last"] = last = Signal(steps_log2 + 1)
        # The probe's key and then its hash are registered, so the counter runs two steps ahead.
        # Probing is for caches of more rows than the smallest probe takes.
        plan = None
        if self._index_bits > self._spread_bits + 1:
            plan = self.format.probe(offered.payload, counter[self._spread_bits :], self._index_bits)
        scan["probing"] = probing = Signal()
        count = C(self.shape.sets - 1, steps_log2 + 1)
        next_rows = [(counter - 1)[:steps_log2] for _ in ways]
        if plan is not None:
            fits = plan.count_log2 + self._spread_bits < self._index_bits
            m.d.comb += probing.eq(plan.useful & fits)
            count = Mux(
                probing, (1 << (plan.count_log2 + self._spread_bits)[: (steps_log2 + 1).bit_length()]) - 1, count
            )
            hashed, spread, probed = Signal(len(plan.hashed)), Signal(self._spread_bits), Signal()
            plain = Signal(self._index_bits)
            next_rows = [
                Mux(probed, row_index(hashed, spread, way=way, index_bits=self._index_bits), plain) for way in ways
            ]
        scan["count"], scan["next_rows"] = count, next_rows
        advance = Signal()
        m.d.comb += advance.eq(~scan["valid"] | scan["step"])
        scan["ahead"] = ahead = Signal()
        with m.FSM(name="scan") as scan["states"]:
            with m.State("IDLE"):
                m.d.sync += [counter.eq(0), last.eq(count)]
                with m.If(offered.valid & ~self._flushing & ~self._filling):
                    with m.If(~self.format.reaches(offered.payload)):
                        m.d.comb += offered.ready.eq(1)
                    with m.Else():
                        # Only once: later fills are not covered, and a stream of them would never let it begin.
                        m.d.comb += scan["discard"].eq(self.fill.valid)
                        m.next = "SCAN"
            with m.State("SCAN"):
                m.d.comb += scan["started"].eq(1)
                with m.If(advance):
                    m.d.sync += [counter.eq(counter + 1), ahead.eq(1)]
                    if plan is not None:
                        m.d.sync += [
                            hashed.eq(plan.hashed),
                            spread.eq(counter[: self._spread_bits]),
                            probed.eq(probing),
                            plain.eq(counter),
                        ]
                    with m.If(counter == last):
                        m.next = "FINISH"
            with m.State("FINISH"):
                m.d.comb += scan["started"].eq(1)
                with m.If(advance):
                    m.d.sync += ahead.eq(0)
                with m.If(~ahead & ~scan["valid"] & scan["idle"]):
                    m.d.comb += offered.ready.eq(1)
                    m.next = "IDLE"
        with m.If(advance):
            m.d.sync += scan["valid"].eq(ahead)
            m.d.sync += [held.eq(new) for held, new in zip(scan["rows"], next_rows, strict=True)]
        return scan

    def _elaborate_decision(self, m, pipeline, writes):
        ways = range(self.shape.ways)
        first, second, third = pipeline["stages"]
        matched = Signal(self.shape.ways)
        valid = Signal(self.shape.ways)
        for way in ways:
            fetched = Signal(self.format.entry, name=f"row_{way}")
            m.d.sync += fetched.eq(pipeline["data"][way])
            fill_terms = self.format.key_terms(fetched, pipeline["key"])
            scan_terms = self.format.invalidation_terms(fetched, self.invalidations.payload)
            fill_held = Signal(len(fill_terms), name=f"fill_terms_{way}")
            scan_held = Signal(len(scan_terms), name=f"scan_terms_{way}")
            m.d.sync += [fill_held.eq(Cat(fill_terms)), scan_held.eq(Cat(scan_terms)), valid[way].eq(fetched.valid)]
            m.d.comb += matched[way].eq(Mux(third["fill"], fill_held.all(), scan_held.all()) & valid[way])

        self._rotation = rotation = Signal(self.shape.ways, init=1)
        free = ~valid & (valid + 1)  # the lowest way that is not valid
        victim = Mux(matched.any(), matched, Mux(valid.all(), rotation, free))
        enable, entry = Signal(self.shape.ways), Signal(self.format.entry)
        m.d.sync += [self._writing.eq(0), self.filled.eq(third["fill"])]
        m.d.sync += self.evicted.eq(third["fill"] & ~matched.any() & valid.all())
        m.d.sync += [held.eq(row) for held, row in zip(self._write_rows, third["rows"], strict=True)]
        with m.If(third["fill"]):
            m.d.sync += self._filling.eq(0)
            m.d.sync += [self._writing.eq(1), enable.eq(victim), entry.eq(self.fill.payload), entry.valid.eq(1)]
            if self.shape.ways > 1:
                m.d.sync += rotation.eq(rotation.rotate_left(1))
            m.d.comb += self.fill.ready.eq(1)
        with m.Elif(third["scan"] & matched.any()):
            m.d.sync += [self._writing.eq(1), enable.eq(matched), entry.eq(Const(0, len(entry.as_value())))]
        for way, write in enumerate(writes):
            m.d.comb += [
                write.data.eq(Mux(self._flushing, 0, entry)),
                write.en.eq(self._flushing | (self._writing & enable[way])),
            ]
