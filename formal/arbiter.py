"""What the fair arbiter promises."""

from amaranth.hdl import Cat, Module, Signal

from nestwalk.bus.arbiter import RoundRobin

from .lib import free, held_until_taken, implies, past
from .spec import Mode, Spec, Task

__all__ = ["RoundRobinSpec"]

ITEM_BITS = 4
"""An item is never looked at: a few bits stand for any width."""


class RoundRobinSpec(Spec):
    """Every item passes once and unchanged, as soon as there is room, and nobody is passed twice by the same other.

    Assumed: an item stays offered until it is taken.

    Parameters
    ----------
    count : int
        Number of inputs.
    """

    TASKS = {
        "prove": Task(Mode.PROVE, 2, "whose turn it is, is an invariant"),
        "cover": Task(Mode.COVER, 10, "all inputs in turn"),
    }

    def __init__(self, task: str, count: int):
        self._count = count
        super().__init__(task)

    def specify(self, m: Module):
        self.dut = dut = RoundRobin(ITEM_BITS, self._count)
        self.expose(m, "dut", dut)
        free(m, dut.o.ready, *(signal for port in dut.i for signal in (port.valid, port.payload)))
        for port in dut.i:
            self.assume(m, "An item stays offered, unchanged, until it is taken.", held_until_taken(m, port))

        passes = Cat(port.valid & port.ready for port in dut.i)
        waiting = Cat(port.valid for port in dut.i)
        kept = [dut._kept == 1 << place for place in range(self._count)]
        self.claim(
            m,
            "What is kept was offered and waits.",
            implies(dut._held, Cat(here & port.valid for here, port in zip(kept, dut.i, strict=True)).any()),
        )
        self.claim(m, "At most one item passes in a cycle.", (passes & (passes - 1)) == 0)
        self.claim(m, "An item is offered whenever one waits.", dut.o.valid == waiting.any())
        self.claim(m, "The item that is taken passes.", passes.any() == (dut.o.valid & dut.o.ready))
        self.claim(m, "An offered item stays unchanged until it is taken.", held_until_taken(m, dut.o))
        for port in dut.i:
            same = dut.o.payload == port.payload
            self.claim(m, "The item that is offered is the one that passes.", implies(port.valid & port.ready, same))
        self._fair(m, passes)
        for place in range(self._count):
            before = (place - 1) % self._count
            self.cover(
                m, "Everybody waits and the next one passes.", waiting.all() & passes[place] & past(m, passes[before])
            )
        self.cover(m, "An item waits while another comes.", dut._held & (waiting != past(m, waiting)))

    def _fair(self, m, passes):
        """While an item waits, each other input passes at most once."""
        dut, places = self.dut, range(self._count)
        behind = [((1 << self._count) - 1) & ~((2 << place) - 1) for place in places]
        turns = [dut._turns._behind == mask for mask in behind]
        self.claim(m, "The turn is somebody's.", Cat(turns).any())
        for place in places:
            for other in places:
                if other == place:
                    continue
                passed = Signal(2, name=f"passed_{place}_by_{other}")
                with m.If(~dut.i[place].valid | passes[place]):
                    m.d.sync += passed.eq(0)
                with m.Elif(passes[other] & (passed != 3)):
                    m.d.sync += passed.eq(passed + 1)
                steps = range(1, (place - other) % self._count + 1)
                nearer = Cat(dut._kept[(other + step) % self._count] for step in steps).any()
                chosen = implies((passed > 0) & dut._held, nearer)
                self.claim(m, "Whoever is chosen next comes after who passed, and not after who waits.", chosen)
                self.claim(m, "A waiting item is passed at most once by each other input.", passed <= 1)
                # Who passed last lies between ``other`` and ``place``, going round upwards.
                between = [turns[(other + step) % self._count] for step in range((place - other) % self._count)]
                self.claim(m, "Whoever passed waits for those behind.", implies(passed > 0, Cat(between).any()))
