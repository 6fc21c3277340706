"""What comes of a walk: its answer, its fault, and what the look-up caches keep of it."""

from amaranth.hdl import C, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..bus.queue import Queue
from ..bus.translation import PageSize, PageVerdict, TranslationRequest, TranslationResponse, is_page_request
from ..config import IommuConfig
from ..formats.fault import FaultEvent
from ..formats.pasid import TranslationMode
from ..lookup.fill_queue import FillQueue
from ..lookup.iotlb import IotlbFill
from ..lookup.requester_format import page_of
from ..lookup.structure_caches import SpaceTags, StructureFill, structure_shapes
from .gates import INTERRUPT_PAGES
from .state import Action, Decision, does

__all__ = ["WalkResults"]

FILLS = 16
"""Translations and tables that can wait to be cached; what comes while so many wait is not cached.

Two slots, with a memory latency between what they find, share a place."""


class _Fill(data.StructLayout):
    """A translation, or a table of ``table_level``."""

    def __init__(self, cfg: IommuConfig):
        super().__init__({"translation": IotlbFill(cfg), "table_level": 2})


class _Result(data.StructLayout):
    """An answer, its slot, whether a fault record goes before it, and whether nobody waits for it."""

    def __init__(self, cfg: IommuConfig):
        fields = {"slot": range(cfg.walk_slots), "recorded": 1, "response": TranslationResponse(cfg)}
        super().__init__(fields | ({"silent": 1} if _has_silent(cfg) else {}))


def _has_silent(cfg: IommuConfig) -> bool:
    """Whether there are walks that end without a response."""
    return bool(cfg.prefetch_streams) or cfg.page_requests


class WalkResults(wiring.Component):
    """Queues answers and faults of finished walks and offers what may be cached.

    A slot is freed when its answer has been taken, and an answer with a recorded fault waits until the fault log has
    taken its event, so that there is always room for what the walks at work may still produce. A prefetch ends without
    an answer and without a record, the walk of a page request with ``verdict`` instead of an answer.

    A page that reaches into FEEx_xxxxh is cached as 4 KiB pages only, because the rest of it must not vouch for the
    interrupt range.

    Parameters
    ----------
    cfg : IommuConfig

    Attributes
    ----------
    finish, finds : In(1)
        In this cycle a walk ends, or knows a table of ``table_level`` to be kept. ``slot``, ``request``, ``decision``,
        ``space``, ``mode``, ``late`` (an invalidation has overtaken it) and ``prefetch`` describe it.
    drop_fills : In(1)
        Level: forget what waits to be cached, until ``fills_wait`` is low.
    fills_wait : Out(1)
    response, faults, iotlb_fill, structure_fill : Out(stream)
        Without paging-structure caches there is no ``structure_fill``.
    verdict : Out(stream of PageVerdict)
        Taken when it comes; with ``cfg.page_requests``.
    freed, freed_slot : Out
        Pulse and number of a slot whose answer has been taken.
    fills, filled : Out
        How many entries wait to be cached, and a pulse when one of them is (or is given up).
    """

    def __init__(self, cfg: IommuConfig):
        self.cfg = cfg
        super().__init__(
            {
                "finish": In(1),
                "finds": In(1),
                "table_level": In(2),
                "slot": In(range(cfg.walk_slots)),
                "request": In(TranslationRequest(cfg)),
                "decision": In(Decision(cfg)),
                "space": In(SpaceTags(cfg)),
                "mode": In(TranslationMode, init=TranslationMode.FIRST_STAGE),
                "late": In(1),
                "prefetch": In(1),
                "drop_fills": In(1),
                "fills_wait": Out(1),
                "response": Out(stream.Signature(TranslationResponse(cfg))),
                "faults": Out(stream.Signature(FaultEvent)),
                "iotlb_fill": Out(stream.Signature(IotlbFill(cfg))),
                **({"structure_fill": Out(stream.Signature(StructureFill(cfg)))} if structure_shapes(cfg) else {}),
                **(
                    {"verdict": Out(stream.Signature(PageVerdict(cfg), always_ready=True))} if cfg.page_requests else {}
                ),
                "freed": Out(1),
                "freed_slot": Out(range(cfg.walk_slots)),
                "fills": Out(range(FILLS + 1)),
                "filled": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        cfg = self.cfg
        slots = cfg.walk_slots
        m.submodules.answers = answers = Queue(_Result(cfg), slots)
        m.submodules.events = events = Queue(FaultEvent, slots)
        wiring.connect(m, events.o, wiring.flipped(self.faults))
        finish, finds, late, slot = Signal(), Signal(), Signal(), Signal(self.slot.shape())
        self._prefetch = prefetch = Signal()
        request = Signal(TranslationRequest(cfg), reset_less=True)
        decision = Signal(Decision(cfg), reset_less=True)
        self._space, self._table_level = Signal(SpaceTags(cfg), reset_less=True), Signal(2)
        m.d.sync += [
            finish.eq(self.finish),
            finds.eq(self.finds),
            late.eq(self.late),
            prefetch.eq(self.prefetch),
            slot.eq(self.slot),
            request.eq(self.request),
            decision.eq(self.decision),
            self._space.eq(self.space),
            self._table_level.eq(Mux(self.finds, self.table_level, 0)),
        ]
        granted, page_request = does(decision, Action.GRANT), is_page_request(cfg, request)
        recorded = ~granted & decision.recorded & ~prefetch
        answer = answers.i.payload
        m.d.comb += [
            answers.i.valid.eq(finish),
            answer.slot.eq(slot),
            answer.recorded.eq(recorded),
            answer.response.tag.eq(request.tag),
            answer.response.granted.eq(granted),
            answer.response.fault.eq(decision.fault),
            answer.response.address.eq(decision.address),
            answer.response.page_size.eq(decision.size),
            events.i.valid.eq(finish & recorded),
            events.i.payload.source_id.eq(request.source_id),
            events.i.payload.pasid_valid.eq(request.pasid_valid),
            events.i.payload.pasid.eq(request.pasid),
            events.i.payload.privileged.eq(request.privileged),
            events.i.payload.execute.eq(request.execute),
            events.i.payload.address_type.eq(request.address_type),
            events.i.payload.access.eq(request.access),
            events.i.payload.page.eq(request.address[12:]),
            events.i.payload.reason.eq(decision.fault),
        ]
        if _has_silent(cfg):
            m.d.comb += answer.silent.eq(prefetch | page_request)
        if cfg.page_requests:
            self._pronounce(m, finish & page_request, granted)
        self._answer_after_record(m, answers)
        self._offer_fill(m, ((finish & granted & decision.cached) | finds) & ~late, request, decision)
        return m

    def _pronounce(self, m, finish, accepted):
        """The verdict on a page request."""
        mode, verdict = Signal.like(self.mode), self.verdict.payload
        m.d.sync += mode.eq(self.mode)
        m.d.comb += [
            self.verdict.valid.eq(finish),
            verdict.accepted.eq(accepted),
            verdict.domain_id.eq(self._space.domain_id),
            verdict.pasid.eq(self._space.pasid),
            verdict.mode.eq(mode),
        ]

    def _answer_after_record(self, m, answers):
        logged = Signal(range(self.cfg.walk_slots + 2))  # events taken whose answers still wait
        waits = answers.o.payload.recorded & (logged == 0)
        # Behind the answer that leaves are all of the unit's hits: it comes from registers.
        m.submodules.leaving = leaving = Queue(_Result(self.cfg), 1)
        silent = leaving.o.payload.silent if _has_silent(self.cfg) else C(0)
        m.d.comb += [
            leaving.i.valid.eq(answers.o.valid & ~waits),
            leaving.i.payload.eq(answers.o.payload),
            answers.o.ready.eq(leaving.i.ready & ~waits),
            self.response.valid.eq(leaving.o.valid & ~silent),
            self.response.payload.eq(leaving.o.payload.response),
            leaving.o.ready.eq(self.response.ready | silent),
            self.freed.eq(leaving.o.valid & leaving.o.ready),
            self.freed_slot.eq(leaving.o.payload.slot),
        ]
        passed = leaving.i.valid & leaving.i.ready & answers.o.payload.recorded
        m.d.sync += logged.eq(logged + (self.faults.valid & self.faults.ready) - passed)

    def _offer_fill(self, m, cacheable: Value, request, decision):
        page = decision.address[12:]
        size, space = decision.size, self._space
        reaches_2m = page[9:] == INTERRUPT_PAGES >> 1
        reaches_1g = page[18:] == INTERRUPT_PAGES >> 10
        reaches = Mux(size == PageSize.SIZE_1G, reaches_1g, (size == PageSize.SIZE_2M) & reaches_2m)
        m.submodules.fills = fills = FillQueue(_Fill(self.cfg), FILLS if self.cfg.walk_slots > 2 else 1)
        m.d.comb += [
            fills.drop.eq(self.drop_fills),
            self.fills_wait.eq(fills.waits),
            self.fills.eq(fills.level),
            self.filled.eq(fills.o.valid & fills.o.ready),
        ]
        self._dispatch(m, fills.o)
        translation = fills.i.payload.translation
        entry = translation.entry
        m.d.comb += [
            fills.i.valid.eq(cacheable),
            fills.i.payload.table_level.eq(self._table_level),
            Value.cast(translation.class_size).eq(Mux(reaches, PageSize.SIZE_4K, size)),
            entry.source_id.eq(request.source_id),
            entry.pasid_valid.eq(request.pasid_valid),
            entry.pasid.eq(space.pasid),
            entry.page.eq(page_of(request.address)),
            entry.domain_id.eq(space.domain_id),
            entry.first_stage.eq(space.first_stage),
            entry.permissions.eq(decision.permissions),
            entry.size.eq(size),
            entry.host_page.eq(page),
        ]
        if self.cfg.prefetch_streams:
            m.d.comb += translation.prefetched.eq(self._prefetch)

    def _dispatch(self, m, fill):
        """To the IOTLB, or to the paging-structure caches."""
        translation = fill.payload.translation
        is_table = fill.payload.table_level != 0
        m.d.comb += [
            self.iotlb_fill.valid.eq(fill.valid & ~is_table),
            self.iotlb_fill.payload.eq(translation),
            fill.ready.eq(self.iotlb_fill.ready),
        ]
        if not structure_shapes(self.cfg):
            return
        entry = self.structure_fill.payload.entry
        m.d.comb += [
            self.structure_fill.valid.eq(fill.valid & is_table),
            Value.cast(self.structure_fill.payload.level).eq(fill.payload.table_level[1]),
            entry.table.eq(translation.entry.host_page),
        ]
        for name in ("source_id", "pasid_valid", "pasid", "page", "domain_id", "first_stage"):
            m.d.comb += entry[name].eq(translation.entry[name])
        with m.If(is_table):
            m.d.comb += fill.ready.eq(self.structure_fill.ready)
