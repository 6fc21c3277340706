"""A set-associative, skewed cache in block RAM."""

from itertools import pairwise

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..bus.sharing import PARTITIONS, WAY_BITS
from ..config import CacheShape
from ..invalidation.command import Invalidation
from .cache_format import CacheFormat
from .hash import digest, row_index
from .replacement import Replacement

__all__ = ["BlockCache"]


class BlockCache(wiring.Component):
    """Set-associative cache with a hash per way, looked up every cycle, filled and invalidated through a second RAM
    port.

    ::

        key ──hash──> [RAM, one per way] ─> register ─> compare terms ─> register ──> way_hit, way_entry   (3 cycles)
                          │ second port
        fill ─────────┐   │
                      ├─> asked ──hash──> read row ─> register ─> compare with pattern ─> decide ─> write
        invalidation ─┘

    A fill writes one way, an invalidation clears the ways that it covers. The transfer on ``invalidations`` happens
    when every row that may hold a covered entry has been cleared. A row takes one cycle; an invalidation that the
    format can probe takes a few rows, others take all. A fill that was begun before an invalidation was offered is
    written before the first row is read, one that still waits then is discarded; fills go on between rows, and those
    come from walks that the invalidation did not overtake (`nestwalk.walk.walker` sees to that). After reset all rows
    are cleared, ``sets`` cycles; look-ups miss and fills wait until then.

    Parameters
    ----------
    cache_format : CacheFormat
        Entry, key, tags.
    shape : CacheShape
        Rows and ways.
    confines : bool
        Whether there is ``confined``.
    partitioned : bool
        Whether there is ``partitions``.

    Attributes
    ----------
    key : In
        Key to look up, every cycle.
    way_hit, way_entry : Out
        `LATENCY` cycles later: one-hot (at most one bit, since a fill replaces the entry of the same key) and the
        entry of each way.
    fill : In(stream)
        Entry to store; replaces the entry of equal key, wherever it is, else an invalid one, else rotates over the
        ways: over those that its domain may use.
    confined : In(1)
        With ``fill``: else replaces that of the first way that its domain may use.
    partitions : In(ArrayLayout)
        The ways of each domain, see `nestwalk.bus.sharing.Sharing`. Look-ups and invalidations know nothing of it.
    invalidations : In(stream)
        Invalidation to apply; the transfer is its completion.
    filled, evicted : Out(1)
        Pulses for counters: an entry is written; it replaces a valid one of another key.
    """

    LATENCY = 3

    def __init__(
        self, cache_format: CacheFormat, shape: CacheShape, *, confines: bool = False, partitioned: bool = False
    ):
        self.format = cache_format
        self.shape = shape
        self._confines = confines
        self._partitioned = partitioned
        self._index_bits = exact_log2(shape.sets)
        self._spread_bits = min(cache_format.SPREAD_BITS, self._index_bits)
        super().__init__(
            {
                "key": In(cache_format.key),
                "way_hit": Out(shape.ways),
                "way_entry": Out(cache_format.entry).array(shape.ways),
                "fill": In(stream.Signature(cache_format.entry)),
                **({"confined": In(1)} if confines else {}),
                **({"partitions": In(data.ArrayLayout(WAY_BITS, PARTITIONS))} if partitioned else {}),
                "invalidations": In(stream.Signature(Invalidation)),
                "filled": Out(1),
                "evicted": Out(1),
            }
        )

    def _rows(self, m, hashed: Value, spread: Value) -> list[Value]:
        """The row of each way."""
        mixed = Signal(2 * self._index_bits)  # because the simulator would evaluate it again for each bit
        m.d.comb += mixed.eq(digest(hashed, index_bits=self._index_bits))
        return [row_index(mixed, spread, way=way, index_bits=self._index_bits) for way in range(self.shape.ways)]

    def _rows_of(self, m, key: data.View) -> list[Value]:
        return self._rows(m, self.format.hashed(key), self.format.spread(key, self._spread_bits))

    def elaborate(self, platform):
        m = Module()
        ways = range(self.shape.ways)
        # What a block RAM returns for a row that its other port writes is undefined; see ``_elaborate_lookup``.
        attributes = {"no_rw_check": 1}
        self._memories = [
            Memory(shape=self.format.entry, depth=self.shape.sets, init=[], attrs=attributes) for _ in ways
        ]
        for way, memory in enumerate(self._memories):
            m.submodules[f"way_{way}"] = memory
        self._flushing, self._flush_row = Signal(init=1), Signal(self._index_bits)
        with m.If(self._flushing):
            m.d.sync += self._flush_row.eq(self._flush_row + 1)
            with m.If(self._flush_row.all()):
                m.d.sync += self._flushing.eq(0)

        self._filling = Signal()  # a fill has begun and is not written yet
        self._writing = Signal()
        self._write_rows = [Signal(self._index_bits, name=f"write_row_{way}", reset_less=True) for way in ways]
        self._outputs = [Signal(self.format.entry, name=f"row_output_{way}", reset_less=True) for way in ways]
        # What a row is read for: while its number waits, while it leaves the RAM, is compared, and is decided upon.
        self._stages = [
            {
                "fill": Signal(name=f"fill_{n}"),
                "scan": Signal(name=f"scan_{n}"),
                "rows": [Signal(self._index_bits, name=f"rows_{n}_{way}", reset_less=True) for way in ways],
            }
            for n in range(4)
        ]
        # The output registers of the RAM are registers of ours: so the tools heed ``no_rw_check``.
        lookups = [memory.read_port(domain="comb") for memory in self._memories]
        reads = [memory.read_port(domain="comb") for memory in self._memories]
        writes = [memory.write_port() for memory in self._memories]
        self._elaborate_lookup(m, lookups, writes)
        self._elaborate_questions(m)
        self._elaborate_reads(m, reads, writes)
        self._elaborate_decision(m, writes)
        return m

    def _elaborate_lookup(self, m, ports, writes):
        key_row = Signal(self.format.key, reset_less=True)
        key_data = Signal(self.format.key, reset_less=True)
        settled = Signal(2)
        m.d.sync += [key_row.eq(self.key), key_data.eq(key_row), settled.eq(Cat(~self._flushing, settled[0]))]
        for way, (port, row) in enumerate(zip(ports, self._rows_of(m, self.key), strict=True)):
            fetched = Signal(self.format.entry, name=f"fetched_{way}", reset_less=True)
            answer = Signal(self.format.entry, name=f"answer_{way}", reset_less=True)
            # A row that was written while it was read is a miss.
            read_row, written_row = (Signal(self._index_bits, name=f"{n}_row_{way}") for n in ("read", "written"))
            written, clash = Signal(name=f"written_{way}"), Signal(name=f"clash_{way}")
            m.d.sync += [read_row.eq(row), written_row.eq(writes[way].addr), written.eq(writes[way].en)]
            m.d.sync += clash.eq(written & (written_row == read_row))
            terms = [fetched.valid & settled[1] & ~clash, *self.format.key_terms(fetched, key_data)]
            terms += self.format.grant_terms(fetched, key_data)
            held = Signal(len(terms), name=f"terms_{way}")
            output = Signal(self.format.entry, name=f"output_{way}", reset_less=True)
            m.d.comb += port.addr.eq(row)
            m.d.comb += [self.way_hit[way].eq(held.all()), self.way_entry[way].eq(answer)]
            m.d.sync += [output.eq(port.data), fetched.eq(output), held.eq(Cat(terms)), answer.eq(fetched)]

    def _elaborate_questions(self, m):
        """Choose what asks for a row next: a fill, or the next step of an invalidation."""
        filling = self._filling
        key = Signal(self.format.key)
        m.d.comb += [key[name].eq(value) for name, value in self.format.key_of(self.fill.payload).items()]
        hashed = self.format.hashed(key)
        tags = Cat(self.format.spread(key, self._spread_bits), hashed)
        self._asked = asked = {
            "fill": Signal(name="asked_fill"),
            "scan": Signal(name="asked_scan"),
            "probed": Signal(name="asked_probed", reset_less=True),
            "tags": Signal(len(hashed) + self._spread_bits, name="asked_tags", reset_less=True),  # spread, then hashed
            "plain": Signal(self._index_bits, name="asked_plain", reset_less=True),
        }
        self._issue = issue = Signal()
        may_ask, start_fill = Signal(), Signal()
        placed, self._reads = self._stages[0], Signal()
        m.d.comb += self._reads.eq((placed["fill"] | placed["scan"]) & ~self._writing & ~self._flushing)
        m.d.comb += issue.eq((asked["fill"] | asked["scan"]) & (~(placed["fill"] | placed["scan"]) | self._reads))
        m.d.comb += may_ask.eq(~(asked["fill"] | asked["scan"]) | issue)

        scan = self._elaborate_scan(m)
        held_back = (scan["due"] & ~scan["started"]) | scan["discard"]
        m.d.comb += start_fill.eq(self.fill.valid & ~filling & ~self._flushing & ~held_back & may_ask)
        m.d.comb += scan["step"].eq(scan["wanted"] & may_ask & ~start_fill)
        with m.If(start_fill):
            m.d.sync += filling.eq(1)
        counter, plan = scan["counter"], scan["plan"]
        if plan is not None:
            tags = Mux(start_fill, tags, Cat(counter[: self._spread_bits], plan.hashed))
        with m.If(may_ask):
            m.d.sync += [
                asked["fill"].eq(start_fill),
                asked["scan"].eq(scan["step"]),
                asked["probed"].eq(start_fill | scan["probing"]),
                asked["tags"].eq(tags),
                asked["plain"].eq(counter),
            ]

    def _elaborate_scan(self, m) -> dict:
        """Which rows an invalidation reads, one step at a time."""
        offered, index_bits = self.invalidations, self._index_bits
        names = ("reached", "due", "probing", "started", "wanted", "step", "discard")
        self._scan = scan = {name: Signal(name=f"scan_{name}") for name in names}
        scan["counter"] = counter = Signal(index_bits + 1)
        scan["last"] = last = Signal(index_bits + 1)
        m.d.comb += scan["reached"].eq(self.format.reaches(offered.payload))
        # Probing is for caches of more rows than the smallest probe takes.
        plan, count = None, C(self.shape.sets - 1, index_bits + 1)
        if index_bits > self._spread_bits + 1:
            plan = self.format.probe(offered.payload, counter[self._spread_bits :], index_bits)
        if plan is not None:
            # 2 ** (count_log2 + spread) - 1: its bits say which numbers the exponent exceeds.
            fits = ~plan.exceeds(index_bits - self._spread_bits - 1)
            m.d.comb += scan["probing"].eq(plan.useful & fits)
            probes = Cat(plan.exceeds(bit - self._spread_bits) for bit in range(index_bits + 1))
            count = Mux(scan["probing"], probes, count)
        scan["plan"], scan["count"] = plan, count
        m.d.sync += [scan["discard"].eq(0), scan["due"].eq(offered.valid & scan["reached"] & ~offered.ready)]
        with m.FSM(name="scan") as scan["states"]:
            with m.State("IDLE"):
                m.d.sync += [counter.eq(0), last.eq(count)]
                m.d.comb += offered.ready.eq(offered.valid & ~scan["reached"])
                with m.If(scan["due"] & ~self._flushing & ~self._filling):
                    # Only once: later fills are not covered, and a stream of them would never let it begin.
                    m.d.sync += scan["discard"].eq(self.fill.valid)
                    m.next = "SCAN"
            with m.State("SCAN"):
                m.d.comb += [scan["started"].eq(1), scan["wanted"].eq(1)]
                with m.If(scan["step"]):
                    m.d.sync += counter.eq(counter + 1)
                    with m.If(counter == last):
                        m.next = "FINISH"
            with m.State("FINISH"):
                m.d.comb += scan["started"].eq(1)
                under_way = Cat(self._asked["scan"], *(stage["scan"] for stage in self._stages), self._writing)
                with m.If(~under_way.any()):
                    m.d.comb += offered.ready.eq(1)
                    m.next = "IDLE"
        return scan

    def _elaborate_reads(self, m, reads, writes):
        """Address the second port: one address for its reads and its writes."""
        asked, (placed, *stages) = self._asked, self._stages
        spread, hashed = asked["tags"][: self._spread_bits], asked["tags"][self._spread_bits :]
        by_key = self._rows(m, hashed, spread)
        self._asked_rows = rows = [Signal(self._index_bits, name=f"asked_row_{way}") for way in range(self.shape.ways)]
        m.d.comb += [
            row.eq(Mux(asked["probed"], hashed, asked["plain"])) for row, hashed in zip(rows, by_key, strict=True)
        ]
        # The rows are a long way off.
        with m.If(self._issue | self._reads):
            m.d.sync += [placed["fill"].eq(asked["fill"]), placed["scan"].eq(asked["scan"])]
            m.d.sync += [held.eq(row) for held, row in zip(placed["rows"], rows, strict=True)]
        first = stages[0]
        m.d.sync += [first["fill"].eq(placed["fill"] & self._reads), first["scan"].eq(placed["scan"] & self._reads)]
        m.d.sync += [held.eq(row) for held, row in zip(first["rows"], placed["rows"], strict=True)]
        for before, after in pairwise(stages):
            m.d.sync += [after["fill"].eq(before["fill"]), after["scan"].eq(before["scan"])]
            m.d.sync += [new.eq(old) for old, new in zip(before["rows"], after["rows"], strict=True)]
        for way, (read, write) in enumerate(zip(reads, writes, strict=True)):
            at_write = Mux(self._flushing, self._flush_row, self._write_rows[way])
            address = Mux(self._writing | self._flushing, at_write, placed["rows"][way])
            m.d.comb += [read.addr.eq(address), write.addr.eq(read.addr)]
            with m.If(~write.en):
                m.d.sync += self._outputs[way].eq(read.data)

    def _elaborate_decision(self, m, writes):
        """Compare what was read with the pattern, then write."""
        ways = range(self.shape.ways)
        _, first, _, third = self._stages
        pattern = Signal(self.format.pattern, reset_less=True)
        by_fill = self.format.make_pattern(self.format.fill_pattern(self.fill.payload))
        by_invalidation = self.format.make_pattern(self.format.invalidation_pattern(self.invalidations.payload))
        m.d.sync += pattern.eq(Mux(first["fill"], by_fill, by_invalidation))
        matched, valid = Signal(self.shape.ways), Signal(self.shape.ways)
        for way in ways:
            fetched = Signal(self.format.entry, name=f"row_{way}", reset_less=True)
            terms = Cat(self.format.pattern_terms(fetched, pattern))
            held = Signal(len(terms), name=f"pattern_terms_{way}")
            m.d.sync += [fetched.eq(self._outputs[way]), held.eq(terms), valid[way].eq(fetched.valid)]
            m.d.comb += matched[way].eq(held.all() & valid[way])

        self._writes_fill = writes_fill = Signal()
        domain_id = self.format.domain(self.fill.payload) if self._partitioned else C(0, 0)
        m.submodules.replacement = self._replacement = replacement = Replacement(
            self.shape.ways, domain_bits=len(domain_id), confines=self._confines
        )
        m.d.comb += [replacement.equal.eq(matched), replacement.valid.eq(valid), replacement.filled.eq(writes_fill)]
        if self._confines:
            m.d.comb += replacement.confined.eq(self.confined)
        if self._partitioned:
            m.d.comb += [replacement.domain_id.eq(domain_id), replacement.partitions.eq(self.partitions)]
        evicts, enable = Signal(), Signal(self.shape.ways)
        m.d.sync += [self._writing.eq(0), writes_fill.eq(0), enable.eq(0)]
        m.d.sync += evicts.eq(third["fill"] & replacement.evicts)
        m.d.sync += [held.eq(row) for held, row in zip(self._write_rows, third["rows"], strict=True)]
        with m.If(third["fill"]):
            m.d.sync += [self._writing.eq(1), writes_fill.eq(1), enable.eq(replacement.way)]
        with m.Elif(third["scan"] & matched.any()):
            m.d.sync += [self._writing.eq(1), enable.eq(matched)]
        with m.If(writes_fill):
            m.d.sync += self._filling.eq(0)
        m.d.comb += [
            self.fill.ready.eq(writes_fill | self._scan["discard"]),
            self.filled.eq(writes_fill),
            self.evicted.eq(evicts),
        ]
        for way, write in enumerate(writes):
            # What is not a fill clears: of an entry that is not valid nothing else counts.
            m.d.comb += [
                write.data.eq(self.fill.payload),
                write.data.valid.eq(writes_fill),
                write.en.eq(self._flushing | enable[way]),
            ]
