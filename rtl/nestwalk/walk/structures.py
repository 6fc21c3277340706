"""Receives root, context and PASID structures and checks their fields, piece by piece."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..bus.axi import AxiResponse
from ..bus.bypass_queue import BypassQueue
from ..bus.memory import PIECE_BITS, MemoryReadData
from ..bus.queue import Queue
from ..config import IommuConfig
from ..formats.context import LegacyContextEntry, ScalableContextEntry
from ..formats.pasid import PasidDirectoryEntry, PasidEntry, TranslationMode
from ..formats.root import RootEntry, ScalableRootEntry
from .state import StructureKind, TableEvent

__all__ = ["STRUCTURE_SIZES", "ExpectedStructure", "StructureEvent", "StructureReader"]

STRUCTURE_SIZES = {
    StructureKind.ROOT: 4,
    StructureKind.LEGACY_ROOT: 4,
    StructureKind.CONTEXT: 5,
    StructureKind.LEGACY_CONTEXT: 4,
    StructureKind.DIRECTORY: 3,
    StructureKind.PASID: 6,
}
"""log2 of the bytes that each structure is read with."""


class ExpectedStructure(data.StructLayout):
    """A structure on its way: who waits, what it is, and which half of its first piece counts (SID[7], address[3])."""

    def __init__(self, cfg: IommuConfig):
        super().__init__({"slot": range(cfg.walk_slots), "kind": StructureKind, "upper": 1})


class StructureEvent(data.StructLayout):
    """A checked structure for a slot."""

    def __init__(self, cfg: IommuConfig):
        super().__init__({"slot": range(cfg.walk_slots), "table": TableEvent(cfg)})


class StructureReader(wiring.Component):
    """Gathers the pieces of structures, which arrive in the order they were asked for, and turns them into events.

    ::

        data ──> first two pieces held, reserved bits of every piece gathered ──last──> check ──> queue ──> o
        expected (FIFO) ──────────────────────────────────────────────────────────────────┘

    An event comes one cycle after the last piece.

    Parameters
    ----------
    cfg : IommuConfig

    Attributes
    ----------
    expected : In(stream of ExpectedStructure)
        One for each read, in the order of the reads; never refused, a slot waits for one structure at most.
    data : In(stream of MemoryReadData)
    o : Out(stream of StructureEvent)
    """

    def __init__(self, cfg: IommuConfig):
        self.cfg = cfg
        super().__init__(
            {
                "expected": In(stream.Signature(ExpectedStructure(cfg))),
                "data": In(stream.Signature(MemoryReadData(cfg), always_ready=True)),
                "o": Out(stream.Signature(StructureEvent(cfg))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        cfg = self.cfg
        m.submodules.expected = expected = Queue(ExpectedStructure(cfg), cfg.walk_slots)
        m.submodules.events = events = BypassQueue(StructureEvent(cfg), cfg.walk_slots)
        wiring.connect(m, wiring.flipped(self.expected), expected.i)
        wiring.connect(m, events.o, wiring.flipped(self.o))

        piece = self.data.payload.data
        kind = expected.o.payload.kind
        number = Signal(2)
        first, second = Signal(PIECE_BITS), Signal(PIECE_BITS)
        error, reserved = Signal(), Signal()
        finished, whose = Signal(), Signal(ExpectedStructure(cfg))
        failed = (self.data.payload.response == AxiResponse.SLVERR) | (self.data.payload.response == AxiResponse.DECERR)
        starts = number == 0
        mode = Mux(starts, PasidEntry.at_piece(0, piece).pgtt, PasidEntry.at_piece(0, first).pgtt)
        m.d.sync += finished.eq(self.data.valid & self.data.payload.last)
        with m.If(self.data.valid):
            m.d.sync += [
                number.eq(Mux(self.data.payload.last, 0, number + 1)),
                error.eq(failed | (error & ~starts)),
                reserved.eq(self._reserved(kind, number, mode) | (reserved & ~starts)),
                whose.eq(expected.o.payload),
            ]
            with m.If(starts):
                m.d.sync += first.eq(piece)
            with m.If(number == 1):
                m.d.sync += second.eq(piece)
            m.d.comb += expected.o.ready.eq(self.data.payload.last)

        event = events.i.payload.table
        m.d.comb += [
            events.i.valid.eq(finished),
            events.i.payload.slot.eq(whose.slot),
            event.kind.eq(whose.kind),
            event.error.eq(error),
        ]
        with m.Switch(whose.kind):
            with m.Case(StructureKind.ROOT):
                self._check_root(m, event, first, whose.upper)
            with m.Case(StructureKind.LEGACY_ROOT):
                root = RootEntry(first)
                m.d.comb += [event.present.eq(root.present()), event.page.eq(root.ctp), event.reserved.eq(reserved)]
            with m.Case(StructureKind.CONTEXT):
                self._check_context(m, event, ScalableContextEntry(Cat(first, second)), reserved)
            with m.Case(StructureKind.LEGACY_CONTEXT):
                self._check_legacy_context(m, event, LegacyContextEntry(first), reserved)
            with m.Case(StructureKind.DIRECTORY):
                entry = PasidDirectoryEntry(Mux(whose.upper, first[64:], first[:64]))
                m.d.comb += [
                    event.present.eq(entry.present()),
                    event.fpd.eq(entry.fpd),
                    event.reserved.eq(entry.reserved_set(cfg)),
                    event.page.eq(entry.smptblptr),
                ]
            with m.Default():
                self._check_pasid(m, event, PasidEntry(Cat(first, second, C(0, 2 * PIECE_BITS))), reserved)
        return m

    def _reserved(self, kind: Value, number: Value, mode: Value) -> Value:
        """A reserved bit of the arriving piece is set; ``mode`` is PGTT of a PASID-table entry."""
        piece, result = self.data.payload.data, C(0)
        for at, (structure, pieces) in {
            StructureKind.LEGACY_ROOT: (RootEntry, 1),
            StructureKind.CONTEXT: (ScalableContextEntry, 2),
            StructureKind.LEGACY_CONTEXT: (LegacyContextEntry, 1),
        }.items():
            for n in range(pieces):
                here = (kind == at) & (number == n)
                result = result | (here & structure.reserved_in_piece(self.cfg, n, piece))
        for n in range(4):
            here = (kind == StructureKind.PASID) & (number == n)
            result = result | (here & PasidEntry.reserved_in_piece(self.cfg, n, piece, mode))
        return result

    def _check_root(self, m, event, first, upper):
        root = ScalableRootEntry(first)
        m.d.comb += [
            event.present.eq(root.present(upper)),
            event.reserved.eq(root.reserved_set(self.cfg, upper)),
            event.page.eq(root.context_table(self.cfg, upper)),
        ]

    def _check_context(self, m, event, entry, reserved):
        fields = event.context
        m.d.comb += [
            event.present.eq(entry.present()),
            event.fpd.eq(entry.fpd),
            event.reserved.eq(reserved),
            event.invalid.eq(entry.invalid_programming()),
            fields.fpd.eq(entry.fpd),
            fields.dte.eq(entry.dte),
            fields.paside.eq(entry.paside),
            fields.pre.eq(entry.pre),
            fields.pdts.eq(entry.pdts),
            fields.rid_pasid.eq(entry.rid_pasid),
            fields.directory.eq(entry.pasiddirptr),
        ]

    def _check_legacy_context(self, m, event, entry, reserved):
        space = event.space
        mode = Mux(entry.is_pass_through(), TranslationMode.PASS_THROUGH.value, TranslationMode.SECOND_STAGE.value)
        m.d.comb += [
            event.present.eq(entry.present()),
            event.fpd.eq(entry.fpd),
            event.reserved.eq(reserved),
            event.invalid.eq(entry.invalid_programming(self.cfg)),
            space.legacy.eq(1),
            space.fpd.eq(entry.fpd),
            space.domain_id.eq(entry.did),
            Value.cast(space.mode).eq(mode),
            space.second_levels.eq(entry.aw),
            space.second_root.eq(entry.ssptptr),
        ]

    def _check_pasid(self, m, event, entry, reserved):
        space = event.space
        m.d.comb += [
            event.present.eq(entry.present()),
            event.fpd.eq(entry.fpd),
            event.reserved.eq(reserved),
            event.invalid.eq(entry.invalid_programming(self.cfg)),
            space.domain_id.eq(entry.did),
            space.mode.eq(entry.pgtt),
            space.second_levels.eq(entry.aw),
            space.second_root.eq(entry.ssptptr),
            space.first_root.eq(entry.fsptptr),
            space.first_5_level.eq(entry.fspm[0]),
            space.sre.eq(entry.sre),
            space.wpe.eq(entry.wpe),
            space.eafe.eq(entry.eafe),
            space.ssade.eq(entry.ssade),
            space.pwsnp.eq(entry.pwsnp),
            space.pgsnp.eq(entry.pgsnp),
        ]
