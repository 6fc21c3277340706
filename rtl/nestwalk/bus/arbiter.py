"""Joins several streams into one, fairly."""

import operator
from collections.abc import Iterable
from functools import reduce

from amaranth.hdl import Cat, Module, Mux, Signal, Value, ValueCastable
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["RoundRobin", "Turns", "lowest", "selected"]


class RoundRobin(wiring.Component):
    """Passes the items of ``count`` streams to one stream; who passed last yields to all others.

    An item passes in the cycle in which it comes (latency 0), and one that was offered on ``o`` stays until it is
    taken. ``i`` should come from registers where ``o`` is a bus.

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
        super().__init__({"i": In(stream.Signature(shape)).array(count), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.turns = self._turns = turns = Turns(self.count)
        self._held, self._kept, grant = Signal(), Signal(self.count), Signal(self.count)
        m.d.comb += [
            turns.waiting.eq(Cat(port.valid for port in self.i)),
            grant.eq(Mux(self._held, self._kept, turns.grant)),
            turns.passes.eq(grant & self.o.ready.replicate(self.count)),
            self.o.valid.eq(turns.waiting.any()),
            Value.cast(self.o.payload).eq(selected(grant, (port.payload for port in self.i))),
        ]
        m.d.sync += [self._held.eq(self.o.valid & ~self.o.ready), self._kept.eq(grant)]
        for index, port in enumerate(self.i):
            m.d.comb += port.ready.eq(grant[index] & self.o.ready)
        return m


class Turns(wiring.Component):
    """Says whose turn it is, of those who wait: the next one after whoever passed last, going round.

    Parameters
    ----------
    count : int

    Members
    -------
    waiting : In(count)
    grant : Out(count)
        One of those who wait, or nobody.
    passes : In(count)
        Who passes in this cycle: one, or nobody.
    """

    def __init__(self, count: int):
        self._count = count
        self._behind = Signal(count)  # the places after the one that passed last
        super().__init__({"waiting": In(count), "grant": Out(count), "passes": In(count)})

    def elaborate(self, platform):
        m = Module()
        preferred = self.waiting & self._behind
        m.d.comb += self.grant.eq(lowest(Mux(preferred.any(), preferred, self.waiting)))
        with m.If(self.passes.any()):
            m.d.sync += self._behind.eq(Cat(self.passes[:place].any() for place in range(self._count)))
        return m


def lowest(bits) -> Value:
    """``bits`` with only its lowest set bit kept: of a few by looking at those below each, else by a carry."""
    if len(bits) > 16:
        return bits & ~(bits - 1)
    return Cat(bits[place] & ~bits[:place].any() for place in range(len(bits)))


def selected(grant: Iterable[Value], items: Iterable[Value | ValueCastable]) -> Value:
    """The bits of the item whose bit of ``grant`` is set; at most one is. 0 if none is."""
    values = [Value.cast(item) for item in items]
    return reduce(operator.or_, (value & bit.replicate(len(value)) for bit, value in zip(grant, values, strict=True)))
