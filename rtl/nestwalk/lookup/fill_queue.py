"""Entries on their way into a cache, which an invalidation may overtake."""

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..bus.queue import Queue

__all__ = ["FillQueue"]


class FillQueue(wiring.Component):
    """Queue in front of a cache's ``fill`` that can be emptied, but for the entry that it offers.

    ::

        i --> Queue --+--> Queue of one --> o
                      `--> nowhere, while dropping

    A cache writes the entry that it has begun with, and discards one that it has not when an invalidation is offered
    to it; with those behind dropped, no entry of before an invalidation is written after it.

    Parameters
    ----------
    shape : ShapeLike
        Shape of an entry.
    depth : int
        Entries that can wait.

    Attributes
    ----------
    i, o : stream of ``shape``
        An entry that ``i`` refuses is not cached; nothing is lost but time.
    drop : In(1)
        Level: take what waits, one a cycle, and forget it.
    waits : Out(1)
        Something waits behind the entry that is offered.
    """

    def __init__(self, shape, depth: int):
        self._shape = shape
        self._depth = depth
        super().__init__(
            {"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape)), "drop": In(1), "waits": Out(1)}
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.waiting = waiting = Queue(self._shape, self._depth)
        m.submodules.offered = offered = Queue(self._shape, 1)
        wiring.connect(m, wiring.flipped(self.i), waiting.i)
        wiring.connect(m, offered.o, wiring.flipped(self.o))
        m.d.comb += [
            offered.i.payload.eq(waiting.o.payload),
            offered.i.valid.eq(waiting.o.valid & ~self.drop),
            waiting.o.ready.eq(offered.i.ready | self.drop),
            self.waits.eq(waiting.level != 0),
        ]
        return m
