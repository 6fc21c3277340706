"""What walks ask of memory, and what comes back: structures, and paging entries with or without their lines."""

from amaranth.hdl import C, Module, Mux, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..bus.axi import AxiResponse
from ..bus.memory import PIECE_BITS, MemoryIds, MemoryRead, MemoryReadSignature
from ..bus.queue import Queue
from ..config import IommuConfig
from .address import one_of
from .line_buffer import LineBuffer
from .line_layouts import BufferedEntry
from .state import StructureKind, TableEvent
from .structures import STRUCTURE_SIZES, StructureReader

__all__ = ["ArrivedEntry", "WalkReads"]


class ArrivedEntry(data.StructLayout):
    """A paging entry, somewhere in its 16 bytes; without ``shown`` it is a further piece of its line and no event."""

    def __init__(self, cfg: IommuConfig):
        super().__init__({"slot": range(cfg.walk_slots), "piece": PIECE_BITS, "error": 1, "shown": 1})


class WalkReads(wiring.Component):
    """Reads for walks, and sorts what arrives.

    ::

        reads_structure, reads_entry, again ──> Queue or LineBuffer ──> read.request
        read.data ─┬─ id of structures ──> StructureReader ──> structure, event
                   └─ id of a slot ──────> entry (and its line ──> LineBuffer ──> line)

    Parameters
    ----------
    cfg : IommuConfig

    Attributes
    ----------
    read : Out(MemoryReadSignature)
    slot, address : In
        Of the read that is asked for. There is room for one read of each slot.
    reads_structure, kind, upper : In(1), In(StructureKind), In(1)
        Read a structure, of which the upper half counts if it has two.
    reads_entry : In(1)
        Read a paging entry.
    entry : Out(stream of ArrivedEntry)
    structure : Out(stream of range)
        The slot whose structure is complete.
    event : Out(TableEvent)
        One cycle later: what that says.
    arrives, arrives_structure : Out(1)
        A piece of anything comes, or of a structure.
    lines : In(LineBuffer's), with ``cfg.line_buffer_lines``
        ``candidate_valid``, ``candidate``, ``candidate_second``, ``ahead``, ``wanted``, ``again``, ``overtaken`` and
        ``flush`` of that.
    line : Out(stream of BufferedEntry)
        With ``cfg.line_buffer_lines``.
    line_lookup, line_hit, line_filled : Out(1)
        Pulses of the line buffer.
    """

    def __init__(self, cfg: IommuConfig):
        self.cfg = cfg
        slot = range(cfg.walk_slots)
        of_lines = {
            "candidate_valid": In(1),
            "candidate": In(cfg.haw),
            "candidate_second": In(1),
            "ahead": In(1),
            "wanted": In(1),
            "again": In(1),
            "overtaken": In(cfg.walk_slots),
            "flush": In(1),
            "line": Out(stream.Signature(BufferedEntry(cfg))),
        }
        super().__init__(
            {
                "read": Out(MemoryReadSignature(cfg)),
                "slot": In(slot),
                "address": In(cfg.haw),
                "reads_structure": In(1),
                "kind": In(StructureKind),
                "upper": In(1),
                "reads_entry": In(1),
                "entry": Out(stream.Signature(ArrivedEntry(cfg), always_ready=True)),
                "structure": Out(stream.Signature(slot, always_ready=True)),
                "event": Out(TableEvent(cfg)),
                "arrives": Out(1),
                "arrives_structure": Out(1),
                **(of_lines if cfg.line_buffer_lines else {}),
                **dict.fromkeys(("line_lookup", "line_hit", "line_filled"), Out(1)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        cfg = self.cfg
        m.submodules.structures = structures = StructureReader(cfg)
        if cfg.line_buffer_lines:
            reads, again, shown = self._with_lines(m)
        else:
            m.submodules.reads = queue = Queue(MemoryRead(cfg), cfg.walk_slots, refuses=False)
            wiring.connect(m, queue.o, wiring.flipped(self.read.request))
            reads, again, shown = queue.i, C(0), C(1)
        self._sort(m, structures, shown)

        expected, structure, kind = structures.expected, self.reads_structure, self.kind
        sizes = [(kind == one, Value.cast(log2)) for one, log2 in STRUCTURE_SIZES.items()]
        m.d.comb += [
            reads.valid.eq(structure | self.reads_entry | again),
            reads.payload.id.eq(Mux(structure, MemoryIds(cfg).structures, self.slot)),
            reads.payload.address.eq(self.address),
            reads.payload.size.eq(Mux(structure, one_of(sizes), 3)),
            expected.valid.eq(structure),
            expected.payload.slot.eq(self.slot),
            expected.payload.kind.eq(kind),
            expected.payload.upper.eq(self.upper),
        ]
        return m

    def _with_lines(self, m):
        m.submodules.lines = lines = LineBuffer(self.cfg)
        wiring.connect(m, lines.request, wiring.flipped(self.read.request))
        wiring.connect(m, wiring.flipped(self.read.data), lines.data)
        wiring.connect(m, lines.hit, wiring.flipped(self.line))
        for name in ("candidate_valid", "candidate", "candidate_second", "wanted", "again", "ahead", "overtaken"):
            m.d.comb += getattr(lines, name).eq(getattr(self, name))
        m.d.comb += [
            lines.flush.eq(self.flush),
            self.line_lookup.eq(lines.looked_up),
            self.line_hit.eq(lines.found),
            self.line_filled.eq(lines.filled),
        ]
        return lines.read, self.again, lines.shown

    def _sort(self, m, structures, shown):
        """Hand on what arrives: a piece of a structure, whose id has bits that no slot's has all of, or an entry."""
        arriving = self.read.data
        piece, structure_id = arriving.payload, C(MemoryIds(self.cfg).structures)
        is_structure = (piece.id & structure_id) == structure_id
        m.d.comb += [
            structures.data.valid.eq(arriving.valid & is_structure),
            structures.data.payload.eq(piece),
            self.structure.valid.eq(structures.complete),
            self.structure.payload.eq(structures.slot),
            self.event.eq(structures.event),
            self.arrives.eq(arriving.valid),
            self.arrives_structure.eq(is_structure),
            self.entry.valid.eq(arriving.valid & ~is_structure),
            self.entry.payload.slot.eq(piece.id),
            self.entry.payload.piece.eq(piece.data),
            self.entry.payload.error.eq(
                (piece.response == AxiResponse.SLVERR) | (piece.response == AxiResponse.DECERR)
            ),
            self.entry.payload.shown.eq(shown),
        ]
