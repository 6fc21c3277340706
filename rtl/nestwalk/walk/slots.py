"""Which walk slots are in use, and what the walker knows of each walk as a whole."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..bus.translation import RootPointer
from ..config import IommuConfig
from ..invalidation.command import Invalidation
from ..lookup.guest_caches import guest_shapes
from ..lookup.structure_caches import structure_shapes
from .owner import RootOwner

__all__ = ["WalkSlots"]


class WalkSlots(wiring.Component):
    """Gives slots to walks, and keeps a few bits of each.

    ::

                 set                                        read for
        in use   free taken ... freed                       free, drained
        known    learns: the walk's address space is known  a slot to compare with an invalidation
        late     overtakes, or begun under an old pointer   what the walk may still fill
        foreign  begun under a root pointer that the caches of tables do not belong to (`RootOwner`)
        prefetch nobody waits for its answer

    Parameters
    ----------
    cfg : IommuConfig

    Attributes
    ----------
    free : Out(stream of range)
        The slot for the next walk, looked for beforehand, which takes a cycle after each start. Its transfer begins a
        walk ``root_pointer``, ``prefetch`` tell of.
    present : In(RootPointer)
        The root pointer in force.
    belongs : Out(1)
        The walk that begins may use the caches of tables.
    invalidating, invalidation : In
        Of the `RootOwner`.
    marked, space_known : In(range), Out(1)
        One cycle later: whether that slot's address space is known.
    looked, is_foreign, is_prefetch : In(range), Out(1), Out(1)
        One cycle later, of that slot.
    decided, learns, overtakes, late : In(range), In(1), In(1), Out(1)
        Set bits of that slot, and in the same cycle whether it was overtaken before.
    freed, freed_slot : In(1), In(range)
        A walk's answer has been taken.
    doubtful : In(1)
        A walk may turn out to have been overtaken as it started.
    overtaken : Out(walk_slots)
        Slots whose walk was overtaken before.
    drained : Out(1)
        No walk that an invalidation overtook is still in its slot, one cycle later.
    walks : Out(range)
        Slots in use, for counters.
    """

    def __init__(self, cfg: IommuConfig):
        self.cfg = cfg
        slot = range(cfg.walk_slots)
        super().__init__(
            {
                "free": Out(stream.Signature(slot)),
                "root_pointer": In(RootPointer(cfg)),
                "prefetch": In(1),
                "present": In(RootPointer(cfg)),
                "belongs": Out(1),
                "invalidating": In(1),
                "invalidation": In(Invalidation),
                "marked": In(slot),
                "space_known": Out(1),
                "looked": In(slot),
                "is_foreign": Out(1),
                "is_prefetch": Out(1),
                "decided": In(slot),
                "learns": In(1),
                "overtakes": In(1),
                "late": Out(1),
                "freed": In(1),
                "freed_slot": In(slot),
                "doubtful": In(1),
                "overtaken": Out(cfg.walk_slots),
                "drained": Out(1),
                "walks": Out(range(cfg.walk_slots + 1)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        in_use, known, late, foreign, prefetches = (
            Signal(self.cfg.walk_slots, name=name) for name in ("in_use", "known", "late", "foreign", "prefetches")
        )
        started, free = Signal(), self.free.payload
        m.d.comb += started.eq(self.free.valid & self.free.ready)
        self._find_free(m, started, in_use)
        self._own(m, started, foreign)
        with m.If(started):
            m.d.sync += [
                in_use.bit_select(free, 1).eq(1),
                known.bit_select(free, 1).eq(0),
                late.bit_select(free, 1).eq(0),
            ]
            if self.cfg.prefetch_streams:
                m.d.sync += prefetches.bit_select(free, 1).eq(self.prefetch)
        # A walk under a root pointer that has been replaced since must not fill either.
        begun, slot, root_pointer = Signal(), Signal.like(free), Signal(RootPointer(self.cfg), reset_less=True)
        m.d.sync += [begun.eq(started), slot.eq(free), root_pointer.eq(self.root_pointer)]
        with m.If(begun & (root_pointer != self.present)):
            m.d.sync += late.bit_select(slot, 1).eq(1)
        with m.If(self.learns):
            m.d.sync += known.bit_select(self.decided, 1).eq(1)
        with m.If(self.overtakes):
            m.d.sync += late.bit_select(self.decided, 1).eq(1)
        with m.If(self.freed):
            m.d.sync += in_use.bit_select(self.freed_slot, 1).eq(0)
        m.d.comb += [self.late.eq(late.bit_select(self.decided, 1)), self.overtaken.eq(late)]
        m.d.sync += [
            self.space_known.eq(known.bit_select(self.marked, 1)),
            self.is_foreign.eq(foreign.bit_select(self.looked, 1)),
            self.is_prefetch.eq(prefetches.bit_select(self.looked, 1)),
            self.drained.eq(~(in_use & late).any() & ~self.doubtful & ~begun),
            self.walks.eq(self.walks + started - self.freed),
        ]
        return m

    def _find_free(self, m, started, in_use):
        with m.If(started):
            m.d.sync += self.free.valid.eq(0)
        with m.Elif(~self.free.valid):
            m.d.sync += self.free.valid.eq(~in_use.all())
            for slot in reversed(range(self.cfg.walk_slots)):
                with m.If(~in_use[slot]):
                    m.d.sync += self.free.payload.eq(slot)

    def _own(self, m, started, foreign):
        """Whether the walk that begins may use the caches of tables, and note it for its slot."""
        if not (structure_shapes(self.cfg) or guest_shapes(self.cfg)):
            return
        m.submodules.owner = owner = RootOwner(self.cfg)
        m.d.comb += [
            owner.started.eq(started),
            owner.root_pointer.eq(self.root_pointer),
            owner.present.eq(self.present),
            owner.invalidating.eq(self.invalidating),
            owner.invalidation.eq(self.invalidation),
            self.belongs.eq(owner.belongs),
        ]
        with m.If(started):
            m.d.sync += foreign.bit_select(self.free.payload, 1).eq(~owner.belongs)
        with m.If(owner.adopts):
            m.d.sync += foreign.eq(-1)
