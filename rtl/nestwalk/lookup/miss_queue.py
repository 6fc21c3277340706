"""Requests that the look-up could not answer, on their way to a walk slot."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..bus.translation import RootPointer, TranslationRequest
from ..config import IommuConfig
from .configuration import AddressSpace, ContextFields

__all__ = ["Miss", "MissQueue"]


class Miss(data.StructLayout):
    """A request to walk for, and what the configuration caches knew about its requester when it was looked up."""

    def __init__(self, cfg: IommuConfig):
        super().__init__(
            {
                "request": TranslationRequest(cfg),
                "root_pointer": RootPointer(cfg),
                "context_hit": 1,
                "context": ContextFields(cfg),
                "space_hit": 1,
                "space": AddressSpace(cfg),
            }
        )


class MissQueue(wiring.Component):
    """FIFO of misses in LUT RAM whose cached configuration can be disowned at once.

    Parameters
    ----------
    cfg : IommuConfig
        Widths.
    depth : int
        Entries, a power of two.

    Attributes
    ----------
    i, o : stream of Miss
        ``i`` is never refused while ``level`` < ``depth``; ``o`` comes one cycle later.
    forget : In(1)
        Clears ``context_hit`` and ``space_hit`` of all entries, of one that arrives in this cycle too.
    level : Out
        Entries held.
    """

    def __init__(self, cfg: IommuConfig, depth: int):
        self.depth = depth
        super().__init__(
            {
                "i": In(stream.Signature(Miss(cfg), always_ready=True)),
                "o": Out(stream.Signature(Miss(cfg))),
                "forget": In(1),
                "level": Out(range(depth + 1)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.storage = storage = Memory(shape=self.o.payload.shape(), depth=self.depth, init=[])
        write, read = storage.write_port(), storage.read_port(domain="comb")
        head, tail = Signal(ceil_log2(self.depth)), Signal(ceil_log2(self.depth))
        known = Signal(2 * self.depth)  # a pair for each entry: context, space
        put, take = Signal(), Signal()
        m.d.comb += [
            put.eq(self.i.valid),
            take.eq(self.o.valid & self.o.ready),
            write.addr.eq(tail),
            write.data.eq(self.i.payload),
            write.en.eq(put),
            read.addr.eq(head),
            self.o.valid.eq(self.level != 0),
            self.o.payload.eq(read.data),
            Cat(self.o.payload.context_hit, self.o.payload.space_hit).eq(known.word_select(head, 2)),
        ]
        with m.If(put):
            m.d.sync += tail.eq(tail + 1)
            m.d.sync += known.word_select(tail, 2).eq(Cat(self.i.payload.context_hit, self.i.payload.space_hit))
        with m.If(take):
            m.d.sync += head.eq(head + 1)
        m.d.sync += self.level.eq(self.level + put - take)
        with m.If(self.forget):
            m.d.sync += known.eq(0)
        return m
