"""Misses of before a new root pointer, which their walks will answer from the old tables."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..bus.translation import RootPointer
from ..config import IommuConfig

__all__ = ["ReplacedRoot"]


class ReplacedRoot(wiring.Component):
    """Tells whether a miss that was accepted under a replaced root pointer may still wait for its walk.

    ::

        root_pointer ──changes──> REPLACED ──mark──> MARKED ──drained──> AHEAD ──as many have left──> BEGUN ──> PRESENT

    Such a miss is answered from the old tables, so that the invalidation which follows the replacement is not drained
    before. Walks that have begun are the walker's to count.

    Parameters
    ----------
    cfg : IommuConfig
    depth : int
        Misses that can wait at once.

    Attributes
    ----------
    root_pointer : In(RootPointer)
        The present one.
    mark : In(1)
        The invalidation that is to be drained begins.
    drained : In(1)
        What was accepted before the mark has been looked up.
    level, leaves : In(range), In(1)
        Misses that wait, and that one of them begins its walk.
    awaited : Out(1)
    """

    SETTLE = 3
    """Cycles until the walker counts a walk that has begun."""

    def __init__(self, cfg: IommuConfig, depth: int):
        self.cfg, self.depth = cfg, depth
        super().__init__(
            {
                "root_pointer": In(RootPointer(cfg)),
                "mark": In(1),
                "drained": In(1),
                "level": In(range(depth + 1)),
                "leaves": In(1),
                "awaited": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        present, changes = Signal(RootPointer(self.cfg)), Signal()
        ahead, settle = Signal(range(self.depth + 1)), Signal(range(self.SETTLE + 1))
        m.d.sync += present.eq(self.root_pointer)
        m.d.comb += [changes.eq(present != self.root_pointer), self.awaited.eq(1)]
        with m.FSM():
            with m.State("PRESENT"):
                m.d.comb += self.awaited.eq(changes)
                with m.If(changes):
                    m.next = "REPLACED"
            with m.State("REPLACED"):
                with m.If(self.mark & ~changes):
                    m.next = "MARKED"
            with m.State("MARKED"):
                with m.If(self.drained):
                    m.d.sync += ahead.eq(self.level - self.leaves)
                    m.next = "AHEAD"
                with m.If(changes):
                    m.next = "REPLACED"
            with m.State("AHEAD"):
                m.d.sync += [ahead.eq(ahead - (self.leaves & (ahead != 0))), settle.eq(self.SETTLE)]
                with m.If(ahead == 0):
                    m.next = "BEGUN"
                with m.If(changes):
                    m.next = "REPLACED"
            with m.State("BEGUN"):
                m.d.sync += settle.eq(settle - 1)
                with m.If(settle == 0):
                    m.next = "PRESENT"
                with m.If(changes):
                    m.next = "REPLACED"
        return m
