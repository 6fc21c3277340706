"""What the set-associative cache in block RAM promises."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value

from nestwalk.config import CacheShape
from nestwalk.lookup.block_cache import BlockCache

from .cache import CacheSpec
from .lib import implies
from .spec import Mode, Task
from .tags import Tags

__all__ = ["BlockCacheSpec", "ProbedCacheSpec"]


class BlockCacheSpec(CacheSpec):
    """The promises of `CacheSpec` for `BlockCache`: a fill or an invalidation takes several cycles from its first
    read of the RAM to its last write, and others begin meanwhile.

    Parameters
    ----------
    tags : Tags
    shape : CacheShape
        Small: every row is looked at. Rows and ways beyond the first two add nothing that a claim could tell apart.
    """

    PULSE = 0

    TASKS = {
        "tags": CacheSpec.TAGS,
        "prove": Task(Mode.PROVE, 8, "a row is read, compared and written, or looked up, within 7 cycles"),
        "progress": Task(
            Mode.PROVE, 20, "the longest wait, of an invalidation of all rows after a reset, and two more"
        ),
        "cover": Task(Mode.COVER, 40, "a reset, two fills, an invalidation between them and three look-ups"),
    }

    def __init__(self, task: str, tags: Tags, shape: CacheShape):
        self._shape = shape
        # Rows are cleared one a cycle after a reset, and read one a cycle but while something is written.
        self.FILL = shape.sets + 12
        self.INVALIDATION = 2 * shape.sets + 14
        super().__init__(task, tags)

    def make(self, m: Module):
        dut = BlockCache(self.tags.format, self._shape, partitioned=self._shape.ways > 1)
        self.expose(m, "dut", dut)
        return dut

    def invariants(self, m: Module):
        if self._shape.ways > 1:
            self._partitions(m, self.dut._stages[-1]["fill"], self._shape.ways)
        dut, scan = self.dut, self.dut._scan
        idle, reading, finishing = (scan["states"].ongoing(state) for state in ("IDLE", "SCAN", "FINISH"))
        offered = dut.invalidations
        asked = dut._asked
        fills = Cat(asked["fill"], *(stage["fill"] for stage in dut._stages), dut._writes_fill)
        scans = Cat(asked["scan"], *(stage["scan"] for stage in dut._stages))
        ways = range(self._shape.ways)

        self.claim(m, "A fill is on its way in exactly one place.", (fills & (fills - 1)) == 0)
        self.claim(m, "The cache knows whether a fill is on its way.", dut._filling == fills.any())
        self.claim(m, "A fill on its way is still offered.", implies(dut._filling, dut.fill.valid))
        self.claim(m, "The rotation names one way.", Cat(dut._replacement.rotation == 1 << way for way in ways).any())
        self.claim(
            m,
            "Nothing is on its way while rows are cleared after a reset.",
            implies(dut._flushing, idle & ~fills.any() & ~dut._writing & ~self.known & ~self.resident),
        )

        self.claim(m, "The scan is in one of its states.", idle | reading | finishing)
        self.claim(
            m,
            "A fill that waits is discarded as an invalidation begins.",
            implies(scan["discard"], reading & dut.fill.valid & ~dut._filling & (scan["counter"] == 0)),
        )
        self.claim(
            m,
            "Rows are read for no one but an invalidation that is offered.",
            implies(scans.any(), ~idle),
        )
        self.claim(
            m,
            "Rows are read only for an invalidation that reaches this cache.",
            implies(~idle, offered.valid & dut.format.reaches(offered.payload)),
        )
        counter = scan["counter"]
        self.claim(
            m,
            "The scan counts to its end.",
            implies(reading, counter <= scan["last"])
            & implies(finishing, counter == scan["last"] + 1)
            & implies(~idle, scan["last"] == scan["count"]),
        )
        self.claim(
            m,
            "The row that is asked for is that of the step before.",
            implies(
                asked["scan"],
                (counter > 0)
                & ~asked["fill"]
                & (asked["probed"] == scan["probing"])
                & (asked["plain"] == (counter - 1)[: len(asked["plain"])]),
            ),
        )
        key = Signal(dut.format.key)
        m.d.comb += [key[name].eq(value) for name, value in dut.format.key_of(dut.fill.payload).items()]
        spread = dut.format.spread(key, dut._spread_bits)
        asks = (asked["tags"] == Cat(spread, dut.format.hashed(key))) & asked["probed"]
        self.claim(m, "A fill asks for the rows of its key.", implies(asked["fill"], asks))
        placed = dut._stages[0]
        waits = [held == row for held, row in zip(placed["rows"], dut._rows_of(m, key), strict=True)]
        self.claim(m, "A row waits for a fill or for an invalidation.", ~(placed["fill"] & placed["scan"]))
        self.claim(m, "Those wait for the RAM.", implies(placed["fill"], Cat(waits).all()))
        self.claim(m, "A fill is written as it is offered.", implies(dut._writes_fill, dut._writing & dut._filling))

    def held(self, m, entry):
        key = Signal(self.tags.format.key)
        m.d.comb += [key[name].eq(value) for name, value in self.tags.format.key_of(entry).items()]
        rows = self.dut._rows_of(m, key)
        held = [
            (Array(self.platform.rows(memory))[row], ~self.dut._flushing | (self.dut._flush_row > row))
            for memory, row in zip(self.dut._memories, rows, strict=True)
        ]
        self._scanned(m, key, rows, [entry for entry, _ in held])
        return held

    def _scanned(self, m, key, rows, held):
        """Invariants that tie what is stored to the progress of an invalidation that covers the watched entry."""
        dut, scan = self.dut, self.dut._scan
        busy = ~scan["states"].ongoing("IDLE")
        payload = dut.invalidations.payload
        covered = busy & self.tags.covers(payload, self.entry)
        self.claim(
            m,
            "No fill is covered by the invalidation that rows are read for, but for one that is discarded.",
            ~(covered & self.says & ~scan["discard"]),
        )
        begun = Signal(dut._index_bits + 1)
        m.d.comb += begun.eq(scan["counter"] - dut._asked["scan"])
        for way, (row, entry) in enumerate(zip(rows, held, strict=True)):
            step = Mux(scan["probing"], self._probe_step(key), row)
            on_its_way = [stage["scan"] & (stage["rows"][way] == row) for stage in dut._stages]
            on_its_way.append(dut._writing & (dut._write_rows[way] == row))
            self.claim(
                m,
                "The step that reads a row reads it.",
                implies(covered & dut._asked["scan"] & (begun == step), dut._asked_rows[way] == row),
            )
            placed = dut._stages[0]
            self.claim(
                m,
                "The step before it waits for its row.",
                implies(covered & placed["scan"] & (begun == step + 1), placed["rows"][way] == row),
            )
            self.claim(
                m,
                "A row that was read for an invalidation holds nothing that it covers.",
                implies(covered & (begun > step) & ~Cat(on_its_way).any(), Value.cast(entry) != Value.cast(self.entry)),
            )

    def _probe_step(self, key):
        """When a probe comes by ``key``; caches of so few rows are not probed."""
        return Const(0)


class ProbedCacheSpec(BlockCacheSpec):
    """The promises of `BlockCacheSpec` for a cache that page-selective invalidations read some rows of, instead of all.

    It has as many rows as that takes, and a spread of one bit, since it takes more rows with more.
    How long anything waits is proved for the smaller cache.
    """

    TASKS = {
        "tags": CacheSpec.TAGS,
        "prove": Task(Mode.PROVE, 8, "a row is read, compared and written, or looked up, within 7 cycles"),
        "cover": Task(Mode.COVER, 44, "a reset, two fills, a probe between them and three look-ups"),
    }

    def make(self, m):
        dut = BlockCache(self.tags.format, self._shape)
        dut._spread_bits = 1
        self.expose(m, "dut", dut)
        return dut

    def invariants(self, m):
        super().invariants(m)
        served = self.dut.invalidations.valid & self.dut.invalidations.ready & self.dut._scan["probing"]
        covered = self.tags.covers(self.dut.invalidations.payload, self.entry)
        self.cover(m, "A probe removes the watched entry.", served & covered & self.known)

    def _probe_step(self, key):
        """A probe counts through what the invalidation does not know: the spread, whether the entry was allocated with
        a PASID, and the page number below the mask."""
        payload, cache_format = self.dut.invalidations.payload, self.tags.format
        unknown = Cat(payload.address_mask > bit + cache_format.page_shift for bit in range(self.dut._index_bits))
        return Cat(cache_format.spread(key, 1), ~key.pasid_valid, key.page[: len(unknown)] & unknown)
