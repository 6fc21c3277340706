"""The paging entry that an event is about."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..config import IommuConfig
from ..lookup.guest_caches import guest_shapes
from .address import above_top_level
from .guests import GuestAnswer
from .line_layouts import BufferedEntry
from .reads import ArrivedEntry
from .update import UpdateResponse

__all__ = ["EntryValue"]


class EntryValue(wiring.Component):
    """Takes the entry from where it comes.

    ::

        entry (16 bytes) ── half of its slot ──────────┐
        line ──────────────────────────────────────────┼──> value
        guest ── or the root of the second stage ──────┤
        updated ───────────────────────────────────────┘

    The first that is valid counts, whether it is taken or not: an event that has no entry does not look.

    Parameters
    ----------
    cfg : IommuConfig

    Attributes
    ----------
    has_entry, entry : In(1), In(ArrivedEntry)
    has_line, line : In(1), In(BufferedEntry)
    has_guest, guest : In(1), In(GuestAnswer)
        The guest caches' answer stands for a second-stage entry that would lead there, or to the root.
    updated : In(UpdateResponse)
    value : Out(64)
        One cycle later.
    guest_level : Out(3)
        In the same cycle: the level of that second-stage entry.
    decided : In(range)
        The slot to remember something for.
    sets_half, upper : In(1), In(1)
        Which half of its 16 bytes the entry that follows is in, apart from the rest since it is asked for first.
    sets_root, levels, root : In(1), In(3), In(page_bits)
        SSPTPTR and levels of the second stage.
    """

    def __init__(self, cfg: IommuConfig):
        self.cfg = cfg
        super().__init__(
            {
                "has_entry": In(1),
                "entry": In(ArrivedEntry(cfg)),
                "has_line": In(1),
                "line": In(BufferedEntry(cfg)),
                "has_guest": In(1),
                "guest": In(GuestAnswer(cfg)),
                "updated": In(UpdateResponse(cfg)),
                "value": Out(64),
                "guest_level": Out(3),
                "decided": In(range(cfg.walk_slots)),
                "sets_half": In(1),
                "upper": In(1),
                "sets_root": In(1),
                "levels": In(3),
                "root": In(cfg.page_bits),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.halves = halves = Memory(shape=1, depth=self.cfg.walk_slots, init=[])
        read, write = halves.read_port(domain="comb"), halves.write_port()
        m.d.comb += [
            read.addr.eq(self.entry.slot),
            write.addr.eq(self.decided),
            write.data.eq(self.upper),
            write.en.eq(self.sets_half),
        ]
        others = Value.cast(self.updated.data)
        if guest_shapes(self.cfg):
            others = Mux(self.has_guest, self._guest(m), others)
        if self.cfg.line_buffer_lines:
            others = Mux(self.has_line, self.line.value, others)
        value = Signal(64, reset_less=True)
        m.d.sync += value.eq(Mux(self.has_entry, Mux(read.data, self.entry.piece[64:], self.entry.piece[:64]), others))
        m.d.comb += self.value.eq(value)
        return m

    def _guest(self, m) -> Value:
        """The second-stage entry that the guest caches' answer stands for."""
        answer, bits = self.guest, self.cfg.page_bits
        shape = data.StructLayout({"levels": 3, "root": bits})
        m.submodules.roots = roots = Memory(shape=shape, depth=self.cfg.walk_slots, init=[])
        read, write = roots.read_port(domain="comb"), roots.write_port()
        m.d.comb += [
            read.addr.eq(answer.slot),
            write.addr.eq(self.decided),
            write.data.levels.eq(self.levels),
            write.data.root.eq(self.root),
            write.en.eq(self.sets_root),
            self.guest_level.eq(Mux(answer.hit, answer.level, above_top_level(read.data.levels))),
        ]
        root = read.data.root & (~answer.hit).replicate(bits)
        return GuestAnswer(self.cfg).entry(answer) | Cat(C(0, 12), root)
