"""A queue that passes items through while it is empty."""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .queue import Queue

__all__ = ["BypassQueue"]


class BypassQueue(wiring.Component):
    """Offers an item in the cycle in which it comes, and keeps it if it is not taken then.

    ::

        i --+-------- when empty --------+--> o
            `--> Queue, if not taken ----'

    Parameters
    ----------
    shape : ShapeLike
        Shape of an item.
    depth : int
        Items that can wait.
    refuses : bool
        As of a `Queue`.

    Attributes
    ----------
    i, o : stream of ``shape``
        ``i.ready`` does not depend on ``o.ready``.
    level : Out(range(depth + 1))
        Items that wait.
    """

    def __init__(self, shape, depth: int, *, refuses: bool = True):
        self.depth = depth
        self._refuses = refuses
        self._shape = shape
        super().__init__(
            {"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape)), "level": Out(range(depth + 1))}
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.waiting = waiting = Queue(self._shape, self.depth, refuses=self._refuses)
        passes = Signal()
        stored = waiting.o.payload
        m.d.comb += [
            passes.eq(self.i.valid & ~waiting.o.valid),
            self.i.ready.eq(waiting.i.ready),
            waiting.i.valid.eq(self.i.valid & ~(passes & self.o.ready)),
            waiting.i.payload.eq(self.i.payload),
            self.o.valid.eq(waiting.o.valid | passes),
            self.o.payload.eq(Mux(waiting.o.valid, Value.cast(stored), Value.cast(self.i.payload))),
            waiting.o.ready.eq(self.o.ready),
            self.level.eq(waiting.level),
        ]
        return m
