"""Brings every walk slot before an invalidation."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Marks"]

SETTLE = 3
"""Cycles from the last slot's transfer until what it was compared for has counted, and walks then at work ended."""


class Marks(wiring.Component):
    """Counts through the slots while an invalidation asks for it.

    ::

        overtake ──> slot 0, 1, ... ──> settle ──> fills gone ──> overtaken

    Parameters
    ----------
    slots : int

    Attributes
    ----------
    overtake : In(1)
        Level: compare all slots, once.
    slot : Out(stream of range)
        The next to compare.
    fills_wait : In(1)
        Something found before may still be cached.
    overtaken : Out(1)
        All are compared and nothing found before waits; until ``overtake`` falls.
    """

    def __init__(self, slots: int):
        self._slots = slots
        super().__init__(
            {
                "overtake": In(1),
                "slot": Out(stream.Signature(range(slots))),
                "fills_wait": In(1),
                "overtaken": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        slot, finished, settle = self.slot.payload, Signal(), Signal(range(SETTLE + 1))
        m.d.comb += [
            self.slot.valid.eq(self.overtake & ~finished),
            self.overtaken.eq(self.overtake & finished & (settle == 0) & ~self.fills_wait),
        ]
        with m.If(self.slot.valid & self.slot.ready):
            m.d.sync += slot.eq(slot + 1)
            with m.If(slot == self._slots - 1):
                m.d.sync += [slot.eq(0), finished.eq(1), settle.eq(SETTLE)]
        with m.If(settle.any()):
            m.d.sync += settle.eq(settle - 1)
        with m.If(~self.overtake):
            m.d.sync += finished.eq(0)
        return m
