"""Whether the rest of a line is worth being read with an entry."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["LineWorth"]


class LineWorth(wiring.Component):
    """Weighs the hits in lines against the lines that were brought.

    ::

        found ──> + 4 ─┐
                       ├─> use ──> not 0 ──┬─> brings
        brought ─> - 1 ┘                   │
        looked_up ──> every 16th ──────────┘

    Three quarters of a line's beats are for nothing if its other entries are not asked for. A hit is worth four lines;
    without hits only every 16th look-up may bring one, to find out whether that has changed.

    Attributes
    ----------
    looked_up, found, brought : In(1)
        An entry has been looked up, or found in a line; a line has been asked for.
    brings : Out(1)
        One that is looked up now and not found is to bring its line.
    """

    USE_BITS, WORTH, TRIAL_BITS = 5, 4, 4

    looked_up: In(1)
    found: In(1)
    brought: In(1)
    brings: Out(1)

    def elaborate(self, platform):
        m = Module()
        use, trial = Signal(self.USE_BITS), Signal(self.TRIAL_BITS)
        m.d.comb += self.brings.eq((use != 0) | (trial == 0))
        with m.If(self.looked_up):
            m.d.sync += trial.eq(trial + 1)
        with m.If(self.found):
            m.d.sync += use.eq(Mux(use < (1 << self.USE_BITS) - self.WORTH, use + self.WORTH, use))
        with m.Elif(self.brought & (use != 0)):
            m.d.sync += use.eq(use - 1)
        return m
