"""What the fork of a stream promises."""

from amaranth.hdl import Cat, Module, Signal

from nestwalk.bus.fork import Fork

from .lib import free, held_until_taken, implies, past
from .spec import Mode, Spec, Task

__all__ = ["ForkSpec"]

ITEM_BITS = 4
"""An item is never looked at: a few bits stand for any width."""


class ForkSpec(Spec):
    """Every taker takes every item exactly once, and the item passes when the last one does.

    What was offered to a taker stays until it is taken, and is offered at once. Assumed: an item stays offered.

    Parameters
    ----------
    count : int
        Number of takers.
    """

    TASKS = {
        "prove": Task(Mode.PROVE, 2, "who has taken the item is an invariant"),
        "cover": Task(Mode.COVER, 8, "two items, the takers one after the other"),
    }

    def __init__(self, task: str, count: int):
        self._count = count
        super().__init__(task)

    def specify(self, m: Module):
        dut = Fork(ITEM_BITS, self._count)
        self.expose(m, "dut", dut)
        free(m, dut.i.valid, dut.i.payload, *(port.ready for port in dut.o))
        self.assume(m, "An item stays offered, unchanged, until it is taken.", held_until_taken(m, dut.i))

        passes = dut.i.valid & dut.i.ready
        all_have = []
        for place, port in enumerate(dut.o):
            takes = port.valid & port.ready
            has = Signal(name=f"has_{place}")
            m.d.sync += has.eq((has | takes) & ~passes)
            self.claim(m, "No taker takes an item twice.", ~(takes & has))
            self.claim(m, "Each taker is offered the item until it has it.", port.valid == (dut.i.valid & ~has))
            self.claim(m, "Each taker takes the item unchanged.", implies(port.valid, port.payload == dut.i.payload))
            self.claim(m, "What a taker is offered stays until it is taken.", held_until_taken(m, port))
            self.claim(m, "The fork knows who has the item.", dut._taken[place] == has)
            self.claim(m, "Nobody has an item that is not there.", implies(has, dut.i.valid))
            all_have.append(has)
        self.claim(m, "The item passes when all takers have it.", passes == Cat(all_have).all())
        self.cover(m, "All take the item at once.", passes & ~past(m, dut._taken).any())
        self.cover(m, "The takers take the item one after the other.", dut._taken[1] & past(m, dut._taken == 1))
        self.cover(m, "Two items pass one after the other.", passes & past(m, passes, 2))
