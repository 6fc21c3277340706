"""Joins two streams without a register."""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Merge"]


class Merge(wiring.Component):
    """Passes the items of two streams in the cycle in which they come, in turn when both come.

    An item that was offered on ``o`` stays until it is taken.

    Parameters
    ----------
    shape : ShapeLike
        Shape of an item.

    Attributes
    ----------
    i : array of 2 streams, in
    o : stream, out
    """

    def __init__(self, shape):
        super().__init__({"i": In(stream.Signature(shape)).array(2), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform):
        m = Module()
        first, second = self.i
        self._turn = turn = Signal()  # of the second; of whoever waits on ``o``
        choice = Signal()
        m.d.comb += [
            choice.eq(second.valid & (turn | ~first.valid)),
            self.o.valid.eq(first.valid | second.valid),
            self.o.payload.eq(Mux(choice, Value.cast(second.p), Value.cast(first.p))),
            first.ready.eq(self.o.ready & ~choice),
            second.ready.eq(self.o.ready & choice),
        ]
        with m.If(self.o.valid):
            m.d.sync += turn.eq(choice ^ self.o.ready)
        return m
