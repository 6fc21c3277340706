"""Tells when everything that entered before a mark has left."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Generations", "Leave"]


class Leave(data.Struct):
    """Something of ``generation`` leaves in this cycle."""

    valid: 1
    generation: 1


class Generations(wiring.Component):
    """Counts what is on its way in two generations.

    What enters belongs to the generation ``current`` and carries it along. A mark asks for a new generation, which
    starts once the one before the current has left; everything that entered before the mark has then left when the
    older of the two is empty. Marks that come meanwhile share the next generation.

    Parameters
    ----------
    most : int
        What can be on its way at once.
    exits : int
        Places where something may leave, each of them in every cycle.

    Attributes
    ----------
    enter : In(1)
    current : Out(1)
        Generation of what enters in this cycle.
    leave : In(Leave), array of ``exits``
    mark : In(1)
    drained : Out(1)
        Everything that entered before the last mark, or with it, has left. Registered, low from the cycle after a mark.
    """

    def __init__(self, *, most: int, exits: int):
        self._most = most
        super().__init__(
            {
                "enter": In(1),
                "current": Out(1),
                "leave": In(Leave).array(exits),
                "mark": In(1),
                "drained": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        waiting = Signal()
        counts = [Signal(range(self._most + 1), name=f"count_{n}") for n in range(2)]
        for n, count in enumerate(counts):
            # Counted one cycle later: a mark is looked at no sooner, and of what leaves it is the safe side.
            entered, left = Signal(name=f"entered_{n}"), Signal(range(len(self.leave) + 1), name=f"left_{n}")
            m.d.sync += [
                entered.eq(self.enter & (self.current == n)),
                left.eq(sum((door.valid & (door.generation == n)).as_unsigned() for door in self.leave)),
                count.eq(count + entered - left),
            ]
        older_gone = Mux(self.current, counts[0] == 0, counts[1] == 0)
        with m.If(self.mark):
            m.d.sync += waiting.eq(1)
        with m.Elif(waiting & older_gone):
            m.d.sync += [waiting.eq(0), self.current.eq(~self.current)]
        m.d.sync += self.drained.eq(~self.mark & ~waiting & older_gone)
        return m
