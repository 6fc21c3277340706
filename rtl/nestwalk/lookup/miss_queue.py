"""Requests that the look-up could not answer, on their way to a walk slot."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..bus.translation import RootPointer, TranslationRequest
from ..config import IommuConfig
from .configuration import AddressSpace, ContextFields
from .structure_caches import StructureHint

__all__ = ["Miss", "MissQueue"]


class Miss(data.StructLayout):
    """A request to walk for, and what the caches knew about its requester and its address when it was looked up."""

    def __init__(self, cfg: IommuConfig):
        super().__init__(
            {
                "request": TranslationRequest(cfg),
                "root_pointer": RootPointer(cfg),
                "context_hit": 1,
                "context": ContextFields(cfg),
                "space_hit": 1,
                "space": AddressSpace(cfg),
                "hint_hit": 1,
                "hint": StructureHint(cfg),
            }
        )


class MissQueue(wiring.Component):
    """FIFO of misses in LUT RAM, of which what the caches knew can be disowned at once.

    Parameters
    ----------
    cfg : IommuConfig
        Widths.
    depth : int
        Entries, a power of two.

    Attributes
    ----------
    i, o : stream of Miss
        ``i`` is never refused while ``level`` < ``depth``; while none waits, an item passes in the
        cycle in which it comes.
    forget_configuration, forget_structures : In(1)
        Clear ``context_hit`` and ``space_hit``, or ``hint_hit``, of all entries, of one that arrives in this cycle too.
    level : Out
        Entries held.
    """

    def __init__(self, cfg: IommuConfig, depth: int):
        self.depth = depth
        super().__init__(
            {
                "i": In(stream.Signature(Miss(cfg), always_ready=True)),
                "o": Out(stream.Signature(Miss(cfg))),
                "forget_configuration": In(1),
                "forget_structures": In(1),
                "level": Out(range(depth + 1)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.storage = storage = Memory(shape=self.o.payload.shape(), depth=self.depth, init=[])
        write, read = storage.write_port(), storage.read_port(domain="comb")
        head, tail = Signal(ceil_log2(self.depth)), Signal(ceil_log2(self.depth))
        contexts, spaces, hints = Signal(self.depth), Signal(self.depth), Signal(self.depth)
        hits = {"context_hit": contexts, "space_hit": spaces, "hint_hit": hints}
        passes, put, take = Signal(), Signal(), Signal()
        stored = Signal.like(self.o.payload)
        m.d.comb += [
            passes.eq(self.i.valid & (self.level == 0)),
            put.eq(self.i.valid & ~(passes & self.o.ready)),
            take.eq((self.level != 0) & self.o.ready),
            write.addr.eq(tail),
            write.data.eq(self.i.payload),
            write.en.eq(put),
            read.addr.eq(head),
            stored.eq(read.data),
            self.o.valid.eq(passes | (self.level != 0)),
            self.o.payload.eq(Mux(passes, self.i.payload.as_value(), stored.as_value())),
        ]
        for name, known in hits.items():
            m.d.comb += stored[name].eq(known.bit_select(head, 1))
            with m.If(put):
                m.d.sync += known.bit_select(tail, 1).eq(self.i.payload[name])
        with m.If(put):
            m.d.sync += tail.eq(tail + 1)
        with m.If(take):
            m.d.sync += head.eq(head + 1)
        m.d.sync += self.level.eq(self.level + put - take)
        with m.If(self.forget_configuration):
            m.d.sync += [contexts.eq(0), spaces.eq(0)]
        with m.If(self.forget_structures):
            m.d.sync += hints.eq(0)
        return m
