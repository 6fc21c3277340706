"""How a walk begins."""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import IommuConfig
from ..lookup.miss_queue import Miss
from ..lookup.structure_caches import structure_shapes
from .state import Beginning, StructureKind

__all__ = ["WalkStart"]


class WalkStart(wiring.Component):
    """Gives a slot to a miss, and then waits until the step pipeline has time for the walk's first event.

    ::

        miss, free ──(neither overtake nor a beginning that waits)──> started
                                        └─> beginning ──> begin

    So what arrives from memory, late in a cycle, does not decide whether a miss is taken.

    Parameters
    ----------
    cfg : IommuConfig

    Attributes
    ----------
    miss : In(stream of Miss)
    free : In(stream of range)
        The slot that the walk takes.
    overtake : In(1)
        No walk starts.
    invalidating : In(1)
        Caches are dropping what an invalidation covers.
    belongs : In(1)
        The walk that starts may use the caches of tables.
    started : Out(1)
        Pulse: ``miss`` and ``free`` are taken.
    begin : Out(stream of range)
        The walk's first event, one cycle later or when it is taken.
    beginning : Out(Beginning)
        What the event brings, until the end of the cycle after the transfer.
    stale : Out(1)
        The walk that begins started while caches were being invalidated, and the invalidation is over: it may use what
        has gone, and it is too late to compare.
    doubtful : Out(1)
        One that started then has not begun.
    """

    def __init__(self, cfg: IommuConfig):
        self.cfg = cfg
        slot = range(cfg.walk_slots)
        super().__init__(
            {
                "miss": In(stream.Signature(Miss(cfg))),
                "free": In(stream.Signature(slot)),
                "overtake": In(1),
                "invalidating": In(1),
                "belongs": In(1),
                "started": Out(1),
                "begin": Out(stream.Signature(slot)),
                "beginning": Out(Beginning(cfg)),
                "stale": Out(1),
                "doubtful": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        cfg, lookup, known = self.cfg, self.miss.payload.lookup, self.miss.payload.known
        beginning, meanwhile, ready = Signal(Beginning(cfg), reset_less=True), Signal(), Signal()
        entered = Mux(lookup.configuration.space.legacy, StructureKind.LEGACY_CONTEXT, StructureKind.PASID)
        start = Value.cast(StructureKind.START)
        if cfg.context_cache is not None:
            start = Mux(known.context_hit, StructureKind.CONTEXT, StructureKind.START)
        m.d.comb += [
            ready.eq(self.free.valid & ~self.begin.valid & ~self.overtake),
            self.miss.ready.eq(ready),
            self.started.eq(self.miss.valid & ready),
            self.free.ready.eq(self.started),
            self.beginning.eq(beginning),
            self.doubtful.eq(self.begin.valid & meanwhile),
            self.stale.eq(meanwhile & ~self.invalidating),
        ]
        with m.If(self.begin.ready):
            m.d.sync += self.begin.valid.eq(0)
        with m.If(self.started):
            m.d.sync += self.begin.valid.eq(1)
        with m.If(~self.begin.valid):
            m.d.sync += [
                self.begin.payload.eq(self.free.payload),
                meanwhile.eq(self.invalidating),
                Value.cast(beginning.kind).eq(Mux(known.space_hit, entered, start)),
                beginning.root_pointer.eq(lookup.root_pointer),
                beginning.configuration.eq(lookup.configuration),
            ]
            if structure_shapes(cfg):
                m.d.sync += [beginning.hint_hit.eq(known.hint_hit & self.belongs), beginning.hint.eq(lookup.hint)]
        return m
