"""A first-in first-out queue of stream items that keeps their shape."""

from amaranth.hdl import C, Module, Mux, Signal, Value
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from .counting import stepped

__all__ = ["Queue"]


class Queue(wiring.Component):
    """Holds up to ``depth`` items between two streams.

    ::

        i --+--> register --+--> output register --> o    up to 2 items
            `-- when empty -'
        i -----> LUT RAM ------------------------> o      more
        i --+--> LUT RAM --+--> output register -> o      more, ``registered``
            `-- if empty --'

    An item accepted in one cycle is on ``o`` in the next, and one item passes per cycle. No path leads from
    ``o.ready`` to ``i.ready`` or from ``i`` to ``o``, so that a queue of depth 2 is also the register slice of a
    bus. (Depth 1 passes an item every other cycle.) ``i.ready`` and ``o.valid`` are registers.

    Parameters
    ----------
    shape : ShapeLike
        Shape of an item.
    depth : int
        Number of items, at least 1.
    registered : bool
        The payload comes from a register, though there are more than 2 items.
    refuses : bool
        Without it whoever puts items knows that there is room: ``i.ready`` is always 1.
    cleared : bool
        The payload is 0 while the queue is empty. Not for more than 2 items.

    Members
    -------
    i, o : stream of ``shape``
    level : range(depth + 1), out
        Number of items held.

    Raises
    ------
    ValueError
        When ``depth`` is less than 1, or more than 2 with ``cleared``.
    """

    def __init__(self, shape, depth: int, *, refuses: bool = True, cleared: bool = False, registered: bool = False):
        if depth < 1:
            raise ValueError(f"a queue holds at least 1 item, not {depth}")
        if cleared and depth > 2:
            raise ValueError(f"a queue that is cleared holds at most 2 items, not {depth}")
        self.depth = depth
        self._refuses, self._cleared, self._registered = refuses, cleared, registered
        self._shape = shape
        super().__init__(
            {"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape)), "level": Out(range(depth + 1))}
        )

    def elaborate(self, platform):
        m = Module()
        put = Signal()
        take = Signal()
        # Of two registers it also says which one is the next.
        knows_room = self._refuses or self.depth == 2
        room = Signal(init=1) if knows_room else C(1)
        m.d.comb += [
            self.i.ready.eq(room),
            put.eq(self.i.valid & room),
            take.eq(self.o.valid & self.o.ready),
        ]
        with m.If(put ^ take):
            m.d.sync += self.level.eq(stepped(self.level, put))
        m.d.sync += self.o.valid.eq(put | (self.o.valid & ~(take & (self.level == 1))))
        if knows_room:
            m.d.sync += room.eq(take | (room & ~(put & (self.level == self.depth - 1))))
        if self.depth > 2:
            self._store(m, put=put, take=take)
        else:
            self._register(m, room=room)
        return m

    def _register(self, m: Module, *, room):
        """The output register, and behind it what came last if there was no room there."""
        oldest = Signal(self._shape, reset_less=True)
        m.d.comb += self.o.payload.eq(oldest)
        following = self.i.payload
        if self.depth == 2:
            self._held = held = Signal(self._shape, reset_less=True)
            following = Mux(room, Value.cast(self.i.payload), Value.cast(held))
            with m.If(room):
                m.d.sync += held.eq(self.i.payload)
        with m.If(~self.o.valid | self.o.ready):
            m.d.sync += oldest.eq(following)
            if self._cleared:
                with m.If(room & ~self.i.valid):
                    m.d.sync += Value.cast(oldest).eq(0)

    def _store(self, m: Module, *, put, take):
        m.submodules.ram = self._ram = ram = memory.Memory(shape=self._shape, depth=self.depth, init=[])
        write = ram.write_port()
        read = ram.read_port(domain="comb")

        def advance(pointer):
            m.d.sync += pointer.eq(pointer + 1)
            if self.depth & (self.depth - 1):
                with m.If(pointer == self.depth - 1):
                    m.d.sync += pointer.eq(0)

        self._tail = tail = Signal(range(self.depth))
        self._head = head = Signal(range(self.depth))
        stored, fetched = put, take
        if self._registered:
            last = self.level <= 1  # of what is held, none is in the RAM
            follows = ~self.o.valid | self.o.ready
            stored, fetched = put & ~(last & follows), take & ~last
            oldest = Signal(self._shape, reset_less=True)
            m.d.comb += self.o.payload.eq(oldest)
            with m.If(follows):
                m.d.sync += Value.cast(oldest).eq(Mux(last, Value.cast(self.i.payload), Value.cast(read.data)))
        else:
            m.d.comb += self.o.payload.eq(read.data)
        m.d.comb += [
            write.en.eq(stored),
            write.addr.eq(tail),
            write.data.eq(self.i.payload),
            read.addr.eq(head),
        ]
        with m.If(stored):
            advance(tail)
        with m.If(fetched):
            advance(head)
