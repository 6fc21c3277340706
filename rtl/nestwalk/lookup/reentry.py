"""What enters the look-up besides requests: misses once more, and pages that nobody has asked for yet."""

from amaranth.hdl import C, Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..bus.sharing import sharing_port
from ..bus.translation import TranslationRequest
from ..config import IommuConfig
from .merging import MissMerger, WaitingMiss, WalkStatus
from .miss_queue import Miss
from .prefetcher import PageAccess, Prefetcher
from .waiting_misses import WaitingMisses

__all__ = ["Entrant", "Reentry"]


class Entrant(data.StructLayout):
    """A request to look up; ``merged`` says that it has waited for another one's walk, ``prefetch`` that nobody waits
    for it."""

    def __init__(self, cfg: IommuConfig):
        fields = {"request": TranslationRequest(cfg), "merged": 1}
        super().__init__(fields | ({"prefetch": 1} if cfg.prefetch_streams else {}))


class Reentry(wiring.Component):
    """Keeps misses that wait aside, and chooses what enters the look-up in a request's place.

    ::

        miss ──> MissMerger ──> walk
                     └── parked ──┐
        spilled ──────────────────┴──> WaitingMisses ──┬─> register ──> o
        page_request ──────────────────────────────────┤
        valid, access, missed ───────> Prefetcher ─────┘

    Prefetches in flight are at most half of the walk slots, and none starts unless a quarter of the slots is free.

    Parameters
    ----------
    cfg : IommuConfig

    Attributes
    ----------
    miss, walk : In, Out(stream of Miss)
    status : In(WalkStatus)
    spilled : In(stream of WaitingMiss)
        Misses for which the miss queue has no room; never refused.
    precedes : Out(1)
        Such a miss waits at the front: what misses now is to wait behind it.
    level : Out
        Misses that wait aside.
    room : In(1)
        There is room for what enters and misses again.
    page_request : In(stream of TranslationRequest)
        Enters first of all; with ``cfg.page_requests``.
    o : Out(stream of Entrant)
    valid, access, missed : In
        A request has been looked up, as for `Prefetcher`; they and ``vanished`` only with ``cfg.prefetch_streams``.
    vanished : In(1)
        A prefetch has been looked up and needs no walk.
    sharing : In(Sharing)
    merged, began, dropped : Out(1)
        Pulses for counters: a miss waits for another's walk, a page is to be looked up ahead, a prefetch is given up
        before its walk. The latter two only with ``cfg.prefetch_streams``.
    """

    def __init__(self, cfg: IommuConfig):
        self.cfg = cfg
        prefetching = {"valid": In(1), "access": In(PageAccess), "missed": In(1), "vanished": In(1)}
        prefetching |= {"began": Out(1), "dropped": Out(1)}
        super().__init__(
            {
                "miss": In(stream.Signature(Miss(cfg))),
                "walk": Out(stream.Signature(Miss(cfg))),
                "status": In(WalkStatus(cfg)),
                "spilled": In(stream.Signature(WaitingMiss(cfg), always_ready=True)),
                "precedes": Out(1),
                "level": Out(range(cfg.waiting_misses + 1)),
                "room": In(1),
                **({"page_request": In(stream.Signature(TranslationRequest(cfg)))} if cfg.page_requests else {}),
                "o": Out(stream.Signature(Entrant(cfg))),
                "sharing": sharing_port(),
                "merged": Out(1),
                **(prefetching if cfg.prefetch_streams else {}),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.merger = merger = MissMerger(self.cfg)
        m.submodules.waiting = waiting = WaitingMisses(self.cfg)
        wiring.connect(m, wiring.flipped(self.miss), merger.miss)
        wiring.connect(m, merger.walk, wiring.flipped(self.walk))
        wiring.connect(m, merger.parked, waiting.parked)
        wiring.connect(m, wiring.flipped(self.spilled), waiting.spilled)
        entrant, may_load, first = Signal(Entrant(self.cfg), reset_less=True), Signal(), Signal()
        if self.cfg.walk_slot_limit:
            m.d.comb += merger.limit.eq(self.sharing.walk_limit)
        m.d.comb += [
            self.merged.eq(merger.parked.valid & merger.parked.ready),
            merger.status.eq(self.status),
            waiting.status.eq(self.status),
            waiting.active.eq(merger.active),
            waiting.turns.eq(merger.turns),
            self.precedes.eq(waiting.precedes),
            self.level.eq(waiting.level),
            self.o.payload.eq(entrant),
            may_load.eq((~self.o.valid | self.o.ready) & self.room),
            waiting.o.ready.eq(may_load & ~first),
        ]
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        if self.cfg.page_requests:
            m.d.comb += [first.eq(self.page_request.valid), self.page_request.ready.eq(may_load)]
        with m.If(may_load & first):
            m.d.sync += [self.o.valid.eq(1), entrant.eq(0)]
            if self.cfg.page_requests:
                m.d.sync += entrant.request.eq(self.page_request.payload)
        with m.Elif(may_load & waiting.o.valid):
            m.d.sync += self.o.valid.eq(1)
            m.d.sync += [entrant[name].eq(waiting.o.payload[name]) for name in ("request", "merged")]
            if self.cfg.prefetch_streams:
                m.d.sync += entrant.prefetch.eq(0)
        if self.cfg.prefetch_streams:
            self._prefetch(m, merger, entrant, may_load & ~waiting.o.valid & ~first)
        return m

    def _prefetch(self, m, merger, entrant, may_load):
        m.submodules.prefetcher = prefetcher = Prefetcher(self.cfg)
        access, under_way, begins = prefetcher.o.payload, Signal(range(self.cfg.walk_slots + 2)), Signal()
        m.d.comb += [
            prefetcher.valid.eq(self.valid & self.sharing.prefetch),
            prefetcher.access.eq(self.access),
            prefetcher.missed.eq(self.missed),
            prefetcher.o.ready.eq(may_load),
            begins.eq(prefetcher.o.valid & may_load),
            self.began.eq(begins),
            self.dropped.eq(merger.dropped),
        ]
        begun, ended = Signal(), Signal(2)
        m.d.sync += [
            begun.eq(begins),
            ended.eq(self.vanished.as_unsigned() + merger.dropped + merger.ended),
            under_way.eq(under_way + begun - ended),
            prefetcher.spare.eq(under_way < self.cfg.walk_slots // 2),
        ]
        with m.If(begins):
            request = entrant.request
            m.d.sync += [
                self.o.valid.eq(1),
                entrant.eq(0),
                entrant.prefetch.eq(1),
                request.address.eq(Cat(C(0, 12), access.page[:-1], access.page[-1].replicate(7))),
                *(request[name].eq(access[name]) for name in ("source_id", "pasid_valid", "pasid", "privileged")),
            ]
