"""Which root pointer the tables in the caches were found under."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..bus.translation import RootPointer
from ..config import IommuConfig
from ..invalidation.command import Invalidation, Scope

__all__ = ["RootOwner"]


class RootOwner(wiring.Component):
    """Tells walks under another root pointer to leave nested TLB and paging-structure caches alone.

    Their tags, domain and PASID, mean nothing beyond one root table, and from the latching of a new root pointer to the
    end of the global invalidation that goes with it the old one's entries are still there: a walk that met some of them
    would mix the tables of both. An entry of IOTLB, context or PASID cache is harmless, because all that follows from
    it is of one root table.

    The caches belong to the root pointer of the first walk, and then to the one in force when an invalidation has
    emptied all of them. Walks that began before that never belong.

    Parameters
    ----------
    cfg : IommuConfig

    Attributes
    ----------
    started, root_pointer : In
        A walk begins under this root pointer.
    belongs : Out(1)
        In the same cycle: it may use the caches.
    present : In(RootPointer)
        The one in force.
    invalidating, invalidation : In
        Level while caches drop what ``invalidation`` covers, which holds for one cycle longer.
    adopts : Out(1)
        Pulse: the caches, empty, belong to ``present``.
    """

    def __init__(self, cfg: IommuConfig):
        self.cfg = cfg
        super().__init__(
            {
                "started": In(1),
                "root_pointer": In(RootPointer(cfg)),
                "belongs": Out(1),
                "present": In(RootPointer(cfg)),
                "invalidating": In(1),
                "invalidation": In(Invalidation),
                "adopts": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        owner, owned, before = Signal(RootPointer(self.cfg)), Signal(), Signal()
        covers = self.invalidation
        empties = covers.context & covers.pasid_cache & covers.iotlb & (covers.scope == Scope.GLOBAL)
        m.d.sync += before.eq(self.invalidating)
        m.d.comb += [
            self.adopts.eq(before & ~self.invalidating & empties),
            self.belongs.eq(~owned | (owner.as_value() == self.root_pointer.as_value())),
        ]
        with m.If(self.adopts):
            m.d.sync += [owner.eq(self.present), owned.eq(1)]
        with m.Elif(self.started & ~owned):
            m.d.sync += [owner.eq(self.root_pointer), owned.eq(1)]
        return m
