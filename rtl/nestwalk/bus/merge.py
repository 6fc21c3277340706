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
        last, held, choice = Signal(), Signal(), Signal()
        self._last, self._held = last, held
        with m.If(held):
            m.d.comb += choice.eq(last)
        with m.Else():
            m.d.comb += choice.eq(second.valid & (~first.valid | ~last))
        payload = Mux(choice, Value.cast(second.p), Value.cast(first.p))
        m.d.comb += [
            self.o.valid.eq(first.valid | second.valid),
            self.o.payload.eq(payload),
            first.ready.eq(self.o.ready & ~choice),
            second.ready.eq(self.o.ready & choice),
        ]
        with m.If(self.o.valid):
            m.d.sync += [last.eq(choice), held.eq(~self.o.ready)]
        return m
