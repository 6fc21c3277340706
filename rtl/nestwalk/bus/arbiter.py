"""Joins several streams into one, fairly."""

import operator
from collections.abc import Iterable
from functools import reduce

from amaranth.hdl import Cat, Module, Mux, Signal, Value, ValueCastable
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .queue import Queue

__all__ = ["RoundRobin", "Turns", "lowest", "selected"]


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
        m.submodules.turns = self._turns = turns = Turns(self.count)
        wiring.connect(m, register.o, wiring.flipped(self.o))
        m.d.comb += [
            turns.waiting.eq(Cat(port.valid for port in self.i)),
            turns.passes.eq(register.i.ready),
            register.i.valid.eq(turns.waiting.any()),
            Value.cast(register.i.payload).eq(selected(turns.grant, (port.payload for port in self.i))),
        ]
        for index, port in enumerate(self.i):
            m.d.comb += port.ready.eq(turns.grant[index] & register.i.ready)
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
    passes : In(1)
        Whoever has the turn passes.
    """

    def __init__(self, count: int):
        self._count = count
        self._behind = Signal(count)  # the places after the one that passed last
        super().__init__({"waiting": In(count), "grant": Out(count), "passes": In(1)})

    def elaborate(self, platform):
        m = Module()
        preferred = self.waiting & self._behind
        m.d.comb += self.grant.eq(lowest(Mux(preferred.any(), preferred, self.waiting)))
        with m.If(self.passes & self.waiting.any()):
            m.d.sync += self._behind.eq(Cat(self.grant[:place].any() for place in range(self._count)))
        return m


def lowest(bits) -> Value:
    """``bits`` with only its lowest set bit kept."""
    return bits & ~(bits - 1)


def selected(grant: Iterable[Value], items: Iterable[Value | ValueCastable]) -> Value:
    """The bits of the item whose bit of ``grant`` is set; at most one is. 0 if none is."""
    values = [Value.cast(item) for item in items]
    return reduce(operator.or_, (value & bit.replicate(len(value)) for bit, value in zip(grant, values, strict=True)))
