"""Receives root, context and PASID structures and checks their fields, piece by piece."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..bus.axi import AxiResponse
from ..bus.memory import PIECE_BITS, MemoryReadData
from ..bus.queue import Queue
from ..config import IommuConfig
from ..formats.context import LegacyContextEntry, ScalableContextEntry
from ..formats.pasid import PasidDirectoryEntry, PasidEntry, TranslationMode
from ..formats.root import RootEntry, ScalableRootEntry
from .address import one_of
from .state import StructureKind, TableEvent

__all__ = ["STRUCTURE_SIZES", "ExpectedStructure", "StructureReader"]

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


class StructureReader(wiring.Component):
    """Gathers the pieces of structures, which arrive in the order they were asked for, and turns them into events.

    ::

        data ──> first two pieces held, reserved bits of every piece gathered ──last──> check ──> event
        expected (FIFO) ─────────────────────────────────────────────────────────> slot

    Parameters
    ----------
    cfg : IommuConfig

    Attributes
    ----------
    expected : In(stream of ExpectedStructure)
        One for each read, in the order of the reads; never refused, a slot waits for one structure at most.
    data : In(stream of MemoryReadData)
    complete, slot : Out(1), Out
        In the cycle of a structure's last piece: whose it is.
    event : Out(TableEvent)
        One cycle later, for that cycle only: what it says.
    """

    def __init__(self, cfg: IommuConfig):
        self.cfg = cfg
        super().__init__(
            {
                "expected": In(stream.Signature(ExpectedStructure(cfg))),
                "data": In(stream.Signature(MemoryReadData(cfg), always_ready=True)),
                "complete": Out(1),
                "slot": Out(range(cfg.walk_slots)),
                "event": Out(TableEvent(cfg)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        cfg = self.cfg
        m.submodules.expected = expected = Queue(ExpectedStructure(cfg), cfg.walk_slots, refuses=False)
        wiring.connect(m, wiring.flipped(self.expected), expected.i)

        piece = self.data.payload.data
        kind = expected.o.payload.kind
        number = Signal(2)
        first, second = Signal(PIECE_BITS, reset_less=True), Signal(PIECE_BITS, reset_less=True)
        error, reserved = Signal(), Signal()
        whose, is_kind = Signal(ExpectedStructure(cfg), reset_less=True), Signal(len(StructureKind), reset_less=True)
        failed = (self.data.payload.response == AxiResponse.SLVERR) | (self.data.payload.response == AxiResponse.DECERR)
        starts = number == 0
        mode = Mux(starts, PasidEntry.at_piece(0, piece).pgtt, PasidEntry.at_piece(0, first).pgtt)
        m.d.comb += [
            self.complete.eq(self.data.valid & self.data.payload.last),
            self.slot.eq(expected.o.payload.slot),
        ]
        with m.If(self.data.valid):
            m.d.sync += [
                number.eq(Mux(self.data.payload.last, 0, number + 1)),
                error.eq(failed | (error & ~starts)),
                reserved.eq(self._reserved(kind, number, mode) | (reserved & ~starts)),
                whose.eq(expected.o.payload),
                is_kind.eq(Cat(kind == one for one in StructureKind)),
            ]
            with m.If(starts):
                m.d.sync += first.eq(piece)
            with m.If(number == 1):
                m.d.sync += second.eq(piece)
            m.d.comb += expected.o.ready.eq(self.data.payload.last)

        self._tell(m, whose, dict(zip(StructureKind, is_kind, strict=True)), error, reserved, first, second)
        return m

    def _tell(self, m, whose, is_kind, error, reserved, first, second):
        """What the structure in hand says; each kind's checks apart, and fields of the same place from there.

        Of a context and a PASID-table entry the pieces that say something are there a cycle before the last one, and
        so these are told from registers.
        """
        cfg, event = self.cfg, self.event
        half = Signal(64)
        in_upper = whose.upper & (is_kind[StructureKind.ROOT] | is_kind[StructureKind.DIRECTORY])
        root, legacy_root, directory = ScalableRootEntry(first), RootEntry(first), PasidDirectoryEntry(half)
        context, legacy = ScalableContextEntry(Cat(first, second)), LegacyContextEntry(first)
        pasid = PasidEntry(Cat(first, second, C(0, 2 * PIECE_BITS)))
        context_invalid, pasid_invalid = Signal(reset_less=True), Signal(reset_less=True)
        m.d.sync += [
            context_invalid.eq(context.invalid_programming()),
            pasid_invalid.eq(pasid.invalid_programming(cfg)),
        ]
        present = {
            StructureKind.ROOT: root.present(whose.upper),
            StructureKind.LEGACY_ROOT: legacy_root.present(),
            StructureKind.CONTEXT: context.present(),
            StructureKind.LEGACY_CONTEXT: legacy.present(),
            StructureKind.DIRECTORY: directory.present(),
            StructureKind.PASID: pasid.present(),
        }
        invalid = {
            StructureKind.CONTEXT: context_invalid,
            StructureKind.LEGACY_CONTEXT: legacy.invalid_programming(cfg),
            StructureKind.PASID: pasid_invalid,
        }
        in_one_piece = {
            StructureKind.ROOT: root.reserved_set(cfg, whose.upper),
            StructureKind.DIRECTORY: directory.reserved_set(cfg),
        }
        fpd = {
            StructureKind.CONTEXT: context.fpd,
            StructureKind.LEGACY_CONTEXT: legacy.fpd,
            StructureKind.DIRECTORY: directory.fpd,
            StructureKind.PASID: pasid.fpd,
        }

        def of_kind(values) -> Value:
            return one_of([(is_kind[kind], Value.cast(value)) for kind, value in values.items()])

        m.d.comb += [
            half.eq(Mux(in_upper, first[64:], first[:64])),
            event.kind.eq(whose.kind),
            event.error.eq(error),
            event.present.eq(of_kind(present)),
            event.reserved.eq(reserved | of_kind(in_one_piece)),
            event.invalid.eq(of_kind(invalid)),
            event.fpd.eq(of_kind(fpd)),
            event.page.eq(half[12 : cfg.haw]),
        ]
        self._tell_context(m, context)
        self._tell_space(m, is_kind[StructureKind.PASID], pasid, legacy)

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

    def _tell_context(self, m, entry):
        fields = self.event.context
        m.d.comb += [
            fields.fpd.eq(entry.fpd),
            fields.dte.eq(entry.dte),
            fields.paside.eq(entry.paside),
            fields.pre.eq(entry.pre),
            fields.pdts.eq(entry.pdts),
            fields.rid_pasid.eq(entry.rid_pasid),
            fields.directory.eq(entry.pasiddirptr),
        ]

    def _tell_space(self, m, is_pasid, entry, legacy):
        """A PASID-table entry's address space, or that of a legacy context entry."""
        space = self.event.space
        pass_through, second_stage = TranslationMode.PASS_THROUGH.value, TranslationMode.SECOND_STAGE.value
        legacy_mode = Mux(legacy.is_pass_through(), pass_through, second_stage)
        m.d.comb += [
            space.legacy.eq(~is_pasid),
            space.fpd.eq(self.event.fpd),
            space.domain_id.eq(Mux(is_pasid, entry.did, legacy.did)),
            Value.cast(space.mode).eq(Mux(is_pasid, Value.cast(entry.pgtt), legacy_mode)),
            space.second_levels.eq(Mux(is_pasid, entry.aw, legacy.aw)),
            space.second_root.eq(Mux(is_pasid, entry.ssptptr, legacy.ssptptr)),
            space.first_root.eq(entry.fsptptr),
        ]
        flags = {
            "first_5_level": entry.fspm[0],
            "sre": entry.sre,
            "wpe": entry.wpe,
            "eafe": entry.eafe,
            "ssade": entry.ssade,
            "pwsnp": entry.pwsnp,
            "pgsnp": entry.pgsnp,
        }
        m.d.comb += [space[name].eq(flag & is_pasid) for name, flag in flags.items()]
