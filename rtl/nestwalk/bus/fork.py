"""One stream item for several takers."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Fork"]


class Fork(wiring.Component):
    """Offers each item to every output until each has taken it once; the input's transfer follows in the next cycle, so
    that no path leads from an output to the input.

    Parameters
    ----------
    shape : ShapeLike
        Shape of an item.
    count : int
        Number of outputs.

    Attributes
    ----------
    i : In(stream)
    o : Out(stream), array of ``count``
    """

    def __init__(self, shape, count: int):
        self.count = count
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape)).array(count)})

    def elaborate(self, platform):
        m = Module()
        self._taken = taken = Signal(self.count)
        for n, out in enumerate(self.o):
            m.d.comb += [out.valid.eq(self.i.valid & ~taken[n]), out.payload.eq(self.i.payload)]
            with m.If(out.valid & out.ready):
                m.d.sync += taken[n].eq(1)
        m.d.comb += self.i.ready.eq(taken.all())
        with m.If(self.i.ready):
            m.d.sync += taken.eq(0)
        return m
