"""Joins several streams into one, fairly."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .queue import Queue

__all__ = ["RoundRobin"]


class RoundRobin(wiring.Component):
    """Passes the items of ``count`` streams to one stream; who passed last yields to all others.

    The output is registered and the inputs' ``ready`` does not depend on ``o.ready`` (latency 1 cycle, one item per
    cycle): an arbiter that feeds a bus is also its register slice.

    Parameters
    ----------
    shape : ShapeLike
        Shape of an item.
    count : int
        Number of input streams, at least 1.

    Members
    -------
    i : array of ``count`` streams of ``shape``
    o : stream of ``shape``

    Raises
    ------
    ValueError
        When ``count`` is less than 1.
    """

    def __init__(self, shape, count: int):
        if count < 1:
            raise ValueError(f"an arbiter joins at least 1 stream, not {count}")
        self.count = count
        self._shape = shape
        super().__init__({"i": In(stream.Signature(shape)).array(count), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.register = self._register = register = Queue(self._shape, 2)
        wiring.connect(m, register.o, wiring.flipped(self.o))

        waiting = Cat(port.valid for port in self.i)
        self._behind = behind = Signal(self.count)  # the inputs after the one that passed last
        preferred = Signal(self.count)
        grant = Signal(self.count)
        everyone = (1 << self.count) - 1
        m.d.comb += [
            preferred.eq(waiting & behind),
            grant.eq(lowest(Mux(preferred.any(), preferred, waiting))),
            register.i.valid.eq(waiting.any()),
        ]
        for index, port in enumerate(self.i):
            m.d.comb += port.ready.eq(grant[index] & register.i.ready)
            with m.If(grant[index]):
                m.d.comb += register.i.payload.eq(port.payload)
                with m.If(register.i.ready):
                    m.d.sync += behind.eq(everyone - ((2 << index) - 1))
        return m


def lowest(bits) -> Value:
    """``bits`` with only its lowest set bit kept."""
    return bits & ~(bits - 1)
