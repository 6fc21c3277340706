"""A first-in first-out queue of stream items that keeps their shape."""

from amaranth.hdl import Module, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Queue"]


class Queue(wiring.Component):
    """Holds up to ``depth`` items between two streams.

    ::

        i --+--> LUT RAM (depth - 1) --+--> output register --> o
            `------- when empty -------'

    An item accepted in one cycle is on ``o`` in the next, and one item passes per cycle. No path leads from
    ``o.ready`` to ``i.ready`` or from ``i`` to ``o``, so that a queue of depth 2 is also the register slice of a
    bus. (Depth 1 passes an item every other cycle.)

    Parameters
    ----------
    shape : ShapeLike
        Shape of an item.
    depth : int
        Number of items, at least 1.

    Members
    -------
    i, o : stream of ``shape``
    level : range(depth + 1), out
        Number of items held.

    Raises
    ------
    ValueError
        When ``depth`` is less than 1.
    """

    def __init__(self, shape, depth: int):
        if depth < 1:
            raise ValueError(f"a queue holds at least 1 item, not {depth}")
        self.depth = depth
        self._shape = shape
        super().__init__(
            {"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape)), "level": Out(range(depth + 1))}
        )

    def elaborate(self, platform):
        m = Module()
        put = Signal()
        take = Signal()
        advance = Signal()
        m.d.comb += [
            self.i.ready.eq(self.level != self.depth),
            put.eq(self.i.valid & self.i.ready),
            take.eq(self.o.valid & self.o.ready),
            advance.eq(~self.o.valid | self.o.ready),
        ]
        m.d.sync += self.level.eq(self.level + put - take)

        stored = Signal()
        oldest = Signal.like(self.i.payload)
        with m.If(advance):
            m.d.sync += self.o.valid.eq(stored | put)
            with m.If(stored):
                m.d.sync += self.o.payload.eq(oldest)
            with m.Else():
                m.d.sync += self.o.payload.eq(self.i.payload)
        if self.depth > 1:  # else a comparison that linters object to
            m.d.comb += stored.eq(self.level > 1)
        push, pop = put & (stored | ~advance), stored & advance
        if self.depth == 2:
            # A RAM of one row would have an address of no bits.
            self._held = held = Signal.like(self.i.payload)
            m.d.comb += oldest.eq(held)
            with m.If(push):
                m.d.sync += held.eq(self.i.payload)
        elif self.depth > 2:
            self._store(m, push=push, pop=pop, oldest=oldest)
        return m

    def _store(self, m: Module, *, push, pop, oldest):
        """The items behind the output register."""
        rows = self.depth - 1
        m.submodules.ram = self._ram = ram = memory.Memory(shape=self._shape, depth=rows, init=[])
        write = ram.write_port()
        read = ram.read_port(domain="comb")

        def advance(pointer):
            m.d.sync += pointer.eq(pointer + 1)
            if rows & (rows - 1):
                with m.If(pointer == rows - 1):
                    m.d.sync += pointer.eq(0)

        m.d.comb += [
            write.en.eq(push),
            write.data.eq(self.i.payload),
            oldest.eq(read.data),
        ]
        self._tail = tail = Signal(range(rows))
        self._head = head = Signal(range(rows))
        m.d.comb += [write.addr.eq(tail), read.addr.eq(head)]
        with m.If(push):
            advance(tail)
        with m.If(pop):
            advance(head)
