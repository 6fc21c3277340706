"""What the joint of two streams promises."""

from amaranth.hdl import Module, Signal

from nestwalk.bus.merge import Merge

from .lib import free, held_until_taken, implies, past
from .spec import Mode, Spec, Task

__all__ = ["MergeSpec"]

ITEM_BITS = 4
"""An item is never looked at: a few bits stand for any width."""


class MergeSpec(Spec):
    """Every item passes once and unchanged, in the cycle in which it is taken, and neither stream starves the other.

    While an item waits, at most one item of the other stream passes it. An item that was offered stays until it is
    taken. Assumed: so do the items of both inputs.
    """

    TASKS = {
        "prove": Task(Mode.PROVE, 3, "the choice is held from one cycle to the next, and that is an invariant"),
        "cover": Task(Mode.COVER, 8, "three transfers in turn, one of them held up"),
    }

    def specify(self, m: Module):
        dut = Merge(ITEM_BITS)
        self.expose(m, "dut", dut)
        free(m, dut.o.ready, *(signal for port in dut.i for signal in (port.valid, port.payload)))
        for port in dut.i:
            self.assume(m, "An item stays offered, unchanged, until it is taken.", held_until_taken(m, port))

        passed = [port.valid & port.ready for port in dut.i]
        taken = dut.o.valid & dut.o.ready
        self.claim(m, "One item is taken where one passes.", taken == (passed[0] ^ passed[1]))
        self.claim(m, "Two items never pass at once.", ~(passed[0] & passed[1]))
        self.claim(m, "An item is offered as soon as there is one.", dut.o.valid == (dut.i[0].valid | dut.i[1].valid))
        self.claim(m, "An offered item stays unchanged until it is taken.", held_until_taken(m, dut.o))
        for port, goes in zip(dut.i, passed, strict=True):
            self.claim(
                m, "The item that passes is the one that is taken.", implies(goes, dut.o.payload == port.payload)
            )
        for port, goes, other in zip(dut.i, passed, reversed(passed), strict=True):
            overtaken = Signal(2)
            with m.If(~port.valid | goes):
                m.d.sync += overtaken.eq(0)
            with m.Elif(other & (overtaken != 3)):
                m.d.sync += overtaken.eq(overtaken + 1)
            self.claim(m, "A waiting item lets at most one of the other stream pass.", overtaken <= 1)
            my_turn = dut._turn == (port is dut.i[1])
            self.claim(m, "An item that let one pass has the next turn.", implies(overtaken > 0, my_turn))
        both = dut.i[0].valid & dut.i[1].valid
        self.cover(m, "The first stream passes after the second.", passed[0] & past(m, passed[1] & both))
        self.cover(m, "The second stream passes after the first.", passed[1] & past(m, passed[0] & both))
        self.cover(m, "An item waits and passes.", passed[1] & past(m, dut.o.valid & ~dut.o.ready & both, 2))
