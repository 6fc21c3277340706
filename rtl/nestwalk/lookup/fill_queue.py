"""Entries on their way into a cache, which an invalidation may overtake."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..bus.counting import stepped

__all__ = ["FillQueue"]


class FillQueue(wiring.Component):
    """Queue in front of a cache's ``fill`` that can be emptied, but for the entry that it offers.

    ::

        i --> LUT RAM (or one register) --> o      drop: all behind the offered entry are gone

    A cache writes the entry that it has begun with, and discards one that it has not when an invalidation is offered
    to it; with those behind dropped, no entry of before an invalidation is written after it.

    Parameters
    ----------
    shape : ShapeLike
        Shape of an entry.
    depth : int
        Entries held, a power of two.

    Attributes
    ----------
    i, o : stream of ``shape``
        An entry that ``i`` refuses is not cached; nothing is lost but time.
    drop : In(1)
        Level: take nothing, and forget what waits behind the entry that is offered.
    waits : Out(1)
        Something waits behind the entry that is offered.
    level : Out
        Entries held, the offered one included.
    """

    def __init__(self, shape, depth: int):
        self._shape = shape
        self._depth = depth
        super().__init__(
            {
                "i": In(stream.Signature(shape)),
                "o": Out(stream.Signature(shape)),
                "drop": In(1),
                "waits": Out(1),
                "level": Out(range(depth + 1)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        level, put, take, room = self.level, Signal(), Signal(), Signal(init=1)
        m.d.comb += [
            self.i.ready.eq(room & ~self.drop),
            put.eq(self.i.valid & self.i.ready),
            take.eq(self.o.valid & self.o.ready),
        ]
        with m.If(put ^ take):
            m.d.sync += level.eq(stepped(level, put))
        m.d.sync += [
            self.o.valid.eq(put | (self.o.valid & ~(take & (level == 1)))),
            room.eq(take | (room & ~(put & (level == self._depth - 1)))),
        ]
        if self._depth == 1:
            held = Signal(self._shape, reset_less=True)
            m.d.comb += self.o.payload.eq(held)
            with m.If(put):
                m.d.sync += held.eq(self.i.payload)
        else:
            self._store(m, put, take)
            m.d.comb += self.waits.eq(level > 1)
            with m.If(self.drop & self.o.valid):
                m.d.sync += [level.eq(~take), self.o.valid.eq(~take), room.eq(1)]
        return m

    def _store(self, m, put, take):
        m.submodules.storage = storage = Memory(shape=self._shape, depth=self._depth, init=[])
        write, read = storage.write_port(), storage.read_port(domain="comb")
        head, tail = Signal(exact_log2(self._depth)), Signal(exact_log2(self._depth))
        m.d.comb += [
            write.addr.eq(tail),
            write.data.eq(self.i.payload),
            write.en.eq(put),
            read.addr.eq(head),
            self.o.payload.eq(read.data),
        ]
        with m.If(take):
            m.d.sync += head.eq(head + 1)
        with m.If(put):
            m.d.sync += tail.eq(tail + 1)
        with m.If(self.drop & self.o.valid):
            m.d.sync += tail.eq(head + 1)
