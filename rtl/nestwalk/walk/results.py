"""The end of a walk: its answer, its fault, and what the IOTLB keeps of it."""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..bus.bypass_queue import BypassQueue
from ..bus.queue import Queue
from ..bus.translation import PageSize, TranslationRequest, TranslationResponse
from ..config import IommuConfig
from ..formats.fault import FaultEvent
from ..formats.pasid import TranslationMode
from ..lookup.fill_queue import FillQueue
from ..lookup.iotlb import IotlbFill
from ..lookup.requester_format import page_of
from .gates import INTERRUPT_PAGES
from .state import Action, Decision

__all__ = ["WalkResults"]

FILLS = 16
"""Translations that can wait to be cached; what ends while so many wait is not cached."""


class _Result(data.StructLayout):
    """An answer, its slot, and whether a fault record goes before it."""

    def __init__(self, cfg: IommuConfig):
        super().__init__({"slot": range(cfg.walk_slots), "recorded": 1, "response": TranslationResponse(cfg)})


class WalkResults(wiring.Component):
    """Queues answers and faults of finished walks and offers what may be cached.

    A slot is freed when its answer has been taken, and an answer with a recorded fault waits until the fault log has
    taken its event, so that there is always room for what the walks at work may still produce.

    A page that reaches into FEEx_xxxxh is cached as 4 KiB pages only, because the rest of it must not vouch for the
    interrupt range.

    Parameters
    ----------
    cfg : IommuConfig

    Attributes
    ----------
    finish : In(1)
        A walk ends in this cycle; ``slot``, ``request``, ``decision`` and ``late`` (an invalidation has overtaken it)
        describe it.
    drop_fills : In(1)
        Level: forget what waits to be cached, until ``fills_wait`` is low.
    fills_wait : Out(1)
    response, faults, iotlb_fill : Out(stream)
    freed, freed_slot : Out
        Pulse and number of a slot whose answer has been taken.
    """

    def __init__(self, cfg: IommuConfig):
        self.cfg = cfg
        super().__init__(
            {
                "finish": In(1),
                "slot": In(range(cfg.walk_slots)),
                "request": In(TranslationRequest(cfg)),
                "decision": In(Decision(cfg)),
                "late": In(1),
                "drop_fills": In(1),
                "fills_wait": Out(1),
                "response": Out(stream.Signature(TranslationResponse(cfg))),
                "faults": Out(stream.Signature(FaultEvent)),
                "iotlb_fill": Out(stream.Signature(IotlbFill(cfg))),
                "freed": Out(1),
                "freed_slot": Out(range(cfg.walk_slots)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        cfg = self.cfg
        slots = cfg.walk_slots
        m.submodules.answers = answers = BypassQueue(_Result(cfg), slots)
        m.submodules.events = events = Queue(FaultEvent, slots)
        wiring.connect(m, events.o, wiring.flipped(self.faults))
        finish, late, slot = Signal(), Signal(), Signal(self.slot.shape())
        request, decision = Signal(TranslationRequest(cfg)), Signal(Decision(cfg))
        m.d.sync += [
            finish.eq(self.finish),
            late.eq(self.late),
            slot.eq(self.slot),
            request.eq(self.request),
            decision.eq(self.decision),
        ]
        granted = decision.action == Action.GRANT
        recorded = ~granted & decision.recorded
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
        self._answer_after_record(m, answers)
        self._offer_fill(m, finish & granted & decision.cached & ~late, request, decision)
        return m

    def _answer_after_record(self, m, answers):
        logged = Signal(range(self.cfg.walk_slots + 2))  # events taken whose answers still wait
        waits = answers.o.payload.recorded & (logged == 0)
        m.d.comb += [
            self.response.valid.eq(answers.o.valid & ~waits),
            self.response.payload.eq(answers.o.payload.response),
            answers.o.ready.eq(self.response.ready & ~waits),
            self.freed.eq(self.response.valid & self.response.ready),
            self.freed_slot.eq(answers.o.payload.slot),
        ]
        m.d.sync += logged.eq(
            logged + (self.faults.valid & self.faults.ready) - (self.freed & answers.o.payload.recorded)
        )

    def _offer_fill(self, m, cacheable: Value, request, decision):
        page = decision.address[12:]
        size, space = decision.size, decision.space
        reaches_2m = page[9:] == INTERRUPT_PAGES >> 1
        reaches_1g = page[18:] == INTERRUPT_PAGES >> 10
        reaches = Mux(size == PageSize.SIZE_1G, reaches_1g, (size == PageSize.SIZE_2M) & reaches_2m)
        first = (space.mode == TranslationMode.FIRST_STAGE) | (space.mode == TranslationMode.NESTED)
        m.submodules.fills = fills = FillQueue(IotlbFill(self.cfg), FILLS)
        m.d.comb += [fills.drop.eq(self.drop_fills), self.fills_wait.eq(fills.waits)]
        wiring.connect(m, fills.o, wiring.flipped(self.iotlb_fill))
        entry = fills.i.payload.entry
        m.d.comb += [
            fills.i.valid.eq(cacheable),
            Value.cast(fills.i.payload.class_size).eq(Mux(reaches, PageSize.SIZE_4K, size)),
            entry.source_id.eq(request.source_id),
            entry.pasid_valid.eq(request.pasid_valid),
            entry.pasid.eq(space.pasid),
            entry.page.eq(page_of(request.address)),
            entry.domain_id.eq(space.domain_id),
            entry.first_stage.eq(first),
            entry.permissions.eq(decision.permissions),
            entry.size.eq(size),
            entry.host_page.eq(page),
        ]
