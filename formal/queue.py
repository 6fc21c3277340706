"""What the queue of stream items promises."""

from amaranth.hdl import Array, Module, Mux, Signal, Value

from nestwalk.bus.queue import Queue

from .lib import free, held_until_taken, implies, past, since
from .spec import Mode, Spec, Task

__all__ = ["QueueSpec", "knows_its_level"]

ITEM_BITS = 4
"""The queue never looks at an item: a few bits stand for any width."""


class QueueSpec(Spec):
    """Items come out in the order in which they went in; none is lost, doubled, changed or made up.

    The level is the number of items that went in and did not come out; an item is offered whenever there is one and
    stays until it is taken; one is accepted whenever there is room. An arbitrary item is followed from the moment it
    is accepted, by the number of items ahead of it: when there are none left, it is the one offered. Nothing is
    assumed.

    Parameters
    ----------
    depth, cleared
        Of the queue.
    """

    TASKS = {
        "prove": Task(Mode.PROVE, 2, "the storage behind each place is an invariant"),
        "cover": Task(Mode.COVER, 16, "fill the queue, empty it, and let its pointers wrap"),
    }

    def __init__(self, task: str, depth: int, *, cleared: bool = False):
        self._depth = depth
        self._cleared = cleared
        super().__init__(task)

    def specify(self, m: Module):
        self.dut = dut = Queue(ITEM_BITS, self._depth, cleared=self._cleared)
        self.expose(m, "dut", dut)
        free(m, dut.i.valid, dut.i.payload, dut.o.ready)
        put, take = dut.i.valid & dut.i.ready, dut.o.valid & dut.o.ready

        level = Signal(range(self._depth + 2))
        m.d.sync += level.eq(level + put - take)
        self.claim(m, "The level is the number of items that went in and did not come out.", dut.level == level)
        self.claim(m, "The queue never holds more items than its depth.", level <= self._depth)
        self.claim(m, "An item is offered exactly while the queue holds one.", dut.o.valid == (level != 0))
        self.claim(m, "An item is accepted exactly while there is room.", dut.i.ready == (level != self._depth))
        self.claim(m, "An offered item stays unchanged until it is taken.", held_until_taken(m, dut.o))
        if self._cleared:
            self.claim(m, "An empty queue shows zeros.", implies(~dut.o.valid, dut.o.payload == 0))
        self._follow(m, put, take)

        full = past(m, dut.level == self._depth)
        self.cover(m, "The queue fills up.", dut.level == self._depth)
        self.cover(m, "A full queue becomes empty.", (dut.level == 0) & since(m, full))
        self.cover(m, "An item passes a queue that is never empty.", take & put & (dut.level == 1))

    def _follow(self, m, put, take):
        """Follows one arbitrary item."""
        dut = self.dut
        begin, following, ahead = Signal(), Signal(), Signal(range(self._depth + 1))
        item = Signal(ITEM_BITS)
        free(m, begin)
        with m.If(~following & put & begin):
            m.d.sync += [following.eq(1), item.eq(dut.i.payload), ahead.eq(dut.level - take)]
        with m.Elif(following & take):
            m.d.sync += [following.eq(ahead != 0), ahead.eq(ahead - 1)]
        first = following & (ahead == 0)
        self.claim(
            m,
            "The followed item is offered when nothing is left ahead of it.",
            implies(first, dut.o.valid & (dut.o.payload == item)),
        )
        self.claim(m, "The followed item has its place in the queue.", implies(following, ahead < dut.level))
        if self._depth == 2:
            behind = dut._held
        elif self._depth > 2:
            behind = self._stored(m, ahead)
        else:
            return
        here = following if self._depth > 2 else following & ~first
        self.claim(m, "The followed item is stored behind those ahead of it.", implies(here, behind == item))
        self.cover(m, "An item goes in behind others and comes out.", past(m, following & (ahead != 0)) & first & take)

    def _stored(self, m, ahead):
        """The stored item with ``ahead`` items ahead of it."""
        dut, rows = self.dut, self._depth

        def row(distance):
            """The row so far behind the head, going round."""
            place = Signal(range(2 * rows))
            m.d.comb += place.eq(dut._head + distance)
            return Mux(place >= rows, place - rows, place)

        self.claim(m, "The pointers name rows.", (dut._head < rows) & (dut._tail < rows))
        self.claim(
            m,
            "The tail is as many rows behind the head as are stored.",
            dut._tail == row(dut.level)[: len(dut._tail)],
        )
        self.cover(m, "The pointers wrap.", (dut._tail == 0) & past(m, dut._tail == rows - 1))
        return Array(self.platform.rows(dut._ram))[row(ahead)]


def knows_its_level(queue: Queue) -> Value:
    """What specifications of blocks around a queue claim, and `QueueSpec` proves: its registers agree."""
    level = queue.level <= queue.depth
    return level & (queue.o.valid == (queue.level != 0)) & (queue.i.ready == (queue.level != queue.depth))
