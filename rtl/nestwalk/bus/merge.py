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
    claimed : bool
        The first stream's ``valid`` is late: ``claims`` says earlier in the cycle that it may come, and the second then
        waits, for one cycle at most if the first does not.

    Attributes
    ----------
    i : array of 2 streams, in
    o : stream, out
    claims : In(1)
        Only if ``claimed``; high whenever ``i[0].valid`` is.
    """

    def __init__(self, shape, *, claimed: bool = False):
        self._claimed = claimed
        streams = {"i": In(stream.Signature(shape)).array(2), "o": Out(stream.Signature(shape))}
        super().__init__(streams | ({"claims": In(1)} if claimed else {}))

    def elaborate(self, platform):
        m = Module()
        first, second = self.i
        self._turn = turn = Signal()  # of the second; of whoever waits on ``o``
        choice = Signal()
        m.d.comb += [
            choice.eq(second.valid & (turn | ~(self.claims if self._claimed else first.valid))),
            self.o.valid.eq(first.valid | choice),
            self.o.payload.eq(Mux(choice, Value.cast(second.p), Value.cast(first.p))),
            first.ready.eq(self.o.ready & ~choice),
            second.ready.eq(self.o.ready & choice),
        ]
        with m.If(self.o.valid):
            m.d.sync += turn.eq(choice ^ self.o.ready)
        with m.Elif(second.valid):
            m.d.sync += turn.eq(1)
        return m
