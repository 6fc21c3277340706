"""The walker: many walks over one pair of step datapaths."""

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..bus.memory import MemoryReadSignature
from ..bus.sharing import sharing_port
from ..bus.translation import PageVerdict, RootPointer, TranslationResponse, is_page_request
from ..config import IommuConfig
from ..counters.events import Events
from ..formats.fault import FaultEvent
from ..formats.pasid import TranslationMode
from ..invalidation.command import Invalidation
from ..lookup.configuration import PasidFormat
from ..lookup.guest_caches import guest_shapes
from ..lookup.iotlb import IotlbFill
from ..lookup.merging import WalkStatus
from ..lookup.miss_queue import Miss
from ..lookup.pipeline import optional_fills
from ..lookup.structure_caches import structure_shapes
from .entry_value import EntryValue
from .findings import WalkFindings
from .guests import Guests
from .marks import Marks
from .reads import WalkReads
from .results import WalkResults
from .select import EventSelector
from .slot_memory import SlotMemory
from .slots import WalkSlots
from .start import WalkStart
from .state import Action, does
from .step import WalkStep
from .update import UpdateRequest, UpdateResponse

__all__ = ["Walker"]


class Walker(wiring.Component):
    """Walks for misses, up to ``cfg.walk_slots`` at once.

    ::

                                  select          look, decide
        WalkReads  ── what came ──┐
        Guests ── what is known ──┤                             ┌─> WalkReads
        update_response ──────────┼─> EventSelector ──┐         ├─> Guests
        Marks ────────────────────┤   SlotMemory ─────┼─> WalkStep ──> update_request
        WalkStart <── miss ───────┘   EntryValue ─────┘   │     ├─> WalkResults
                                          ^── new state ──┘     └─> WalkFindings

    A slot has one thing outstanding at any time, so every queue has room for one item of each slot and the step
    pipeline never stalls; a read's data leads to the next read two cycles later at ``read.request``.

    An entry from the line buffer may be older than the last change that needs no invalidation. Where that could make a
    difference it is read again from memory, and decided upon anew (`PageStep.again`).

    A prefetch ends without answer, fault or record, and where an ordinary walk would set bits in an entry.

    An invalidation overtakes a walk that may have read what it covers: the walk finishes and answers, but fills no
    cache. ``overtake`` compares all slots, one a cycle; no walk starts until it falls again.

    Parameters
    ----------
    cfg : IommuConfig

    Attributes
    ----------
    miss : In(stream of Miss)
    root_pointer : In(RootPointer)
        The present one; a miss carries the one that its request was accepted under.
    response : Out(stream of TranslationResponse)
    faults : Out(stream of FaultEvent)
        A faulted request is answered once its event has been taken.
    read : Out(MemoryReadSignature)
    verdict : Out(stream of PageVerdict)
        Taken when it comes; with ``cfg.page_requests``.
    update_request, update_response : Out, In(stream)
        To and from `nestwalk.walk.update.EntryUpdate`.
    iotlb_fill, structure_fill, context_fill, pasid_fill : Out(stream)
        What finds its queue full is not cached.
    overtake : In(1)
        Level: hold back new walks and compare all slots with ``invalidation``; ``overtaken`` answers when all are
        compared. Deassert to let walks start again.
    invalidation : In(Invalidation)
    invalidating : In(1)
        Caches are dropping what ``invalidation`` covers: a walk that starts for it counts as overtaken.
    guest_invalidations : In(stream of Invalidation)
        For the nested TLB and the second stage's paging-structure caches.
    overtaken : Out(1)
    drained : Out(1)
        No walk that an invalidation overtook is still in its slot.
    walks : Out(range)
        Slots in use, for counters.
    started : Out(1)
        Pulse for each walk begun.
    sharing : In(Sharing)
    events : Out(Events)
        Pulses for counters, of those that are told here.
    status : Out(WalkStatus)
        For requests that wait for a walk; not without ``cfg.waiting_misses``.
    """

    def __init__(self, cfg: IommuConfig):
        self.cfg = cfg
        super().__init__(
            {
                "miss": In(stream.Signature(Miss(cfg))),
                "root_pointer": In(RootPointer(cfg)),
                "response": Out(stream.Signature(TranslationResponse(cfg))),
                "faults": Out(stream.Signature(FaultEvent)),
                **(
                    {"verdict": Out(stream.Signature(PageVerdict(cfg), always_ready=True))} if cfg.page_requests else {}
                ),
                "read": Out(MemoryReadSignature(cfg)),
                "update_request": Out(stream.Signature(UpdateRequest(cfg))),
                "update_response": In(stream.Signature(UpdateResponse(cfg))),
                "iotlb_fill": Out(stream.Signature(IotlbFill(cfg))),
                "pasid_fill": Out(stream.Signature(PasidFormat(cfg).entry)),
                **{name: Out(signature) for name, signature in optional_fills(cfg).items()},
                "overtake": In(1),
                "invalidation": In(Invalidation),
                "invalidating": In(1),
                **({"guest_invalidations": In(stream.Signature(Invalidation))} if guest_shapes(cfg) else {}),
                "overtaken": Out(1),
                "drained": Out(1),
                "walks": Out(range(self.cfg.walk_slots + 1)),
                "started": Out(1),
                "sharing": sharing_port(),
                "events": Out(Events()),
                **({"status": Out(WalkStatus(cfg))} if cfg.waiting_misses else {}),
            }
        )

    def elaborate(self, platform):
        m = Module()
        cfg = self.cfg
        m.submodules.slots = self._slots = WalkSlots(cfg)
        m.submodules.start = self._start = WalkStart(cfg)
        m.submodules.marks = self._marks = Marks(cfg.walk_slots)
        m.submodules.reads = self._reads = WalkReads(cfg)
        m.submodules.selector = self._selector = EventSelector(cfg)
        m.submodules.memory = self._memory = SlotMemory(cfg)
        m.submodules.value = self._value = EntryValue(cfg)
        m.submodules.step = self._step = WalkStep(cfg)
        m.submodules.results = self._results = WalkResults(cfg)
        m.submodules.findings = self._findings = WalkFindings(cfg)
        self._guests = None
        if guest_shapes(cfg):
            m.submodules.guests = self._guests = Guests(cfg)
        self._select(m)
        self._begin(m)
        self._look(m)
        self._act(m)
        self._keep(m)
        self._connect(m)
        self._count(m)
        return m

    def _select(self, m):
        """Offer events, and read the state and the entry of the one that is taken."""
        selector, reads, marks = self._selector, self._reads, self._marks
        memory, value = self._memory, self._value
        wiring.connect(m, reads.entry, selector.entry)
        wiring.connect(m, reads.structure, selector.structure)
        wiring.connect(m, marks.slot, selector.mark)
        wiring.connect(m, wiring.flipped(self.update_response), selector.updated)
        m.d.comb += [
            selector.arrives.eq(reads.arrives),
            selector.arrives_structure.eq(reads.arrives_structure),
            selector.invalidating.eq(self.invalidating),
            selector.stale.eq(self._start.stale),
            memory.slot.eq(selector.slot),
            value.has_entry.eq(reads.entry.valid),
            value.entry.eq(reads.entry.payload),
            value.updated.eq(self.update_response.payload),
        ]
        if self._guests is not None:
            answer = self._guests.answer
            wiring.connect(m, answer, selector.guest)
            m.d.comb += [
                value.has_guest.eq(answer.valid),
                value.guest.eq(answer.payload),
                memory.knows_level.eq(answer.valid & answer.ready),
                memory.level.eq(value.guest_level),
            ]
        if self.cfg.line_buffer_lines:
            wiring.connect(m, reads.line, selector.line)
            m.d.comb += [value.has_line.eq(reads.line.valid), value.line.eq(reads.line.payload)]

    def _begin(self, m):
        """Give slots to misses."""
        start, slots, memory, lookup = self._start, self._slots, self._memory, self.miss.payload.lookup
        wiring.connect(m, wiring.flipped(self.miss), start.miss)
        wiring.connect(m, slots.free, start.free)
        wiring.connect(m, start.begin, self._selector.start)
        if self.cfg.prefetch_streams:
            m.d.comb += slots.prefetch.eq(lookup.prefetch)
        m.d.comb += [
            start.overtake.eq(self.overtake),
            start.invalidating.eq(self.invalidating),
            start.belongs.eq(slots.belongs),
            self.started.eq(start.started),
            slots.root_pointer.eq(lookup.root_pointer),
            slots.present.eq(self.root_pointer),
            slots.invalidating.eq(self.invalidating),
            slots.invalidation.eq(self.invalidation),
            memory.starts.eq(start.started),
            memory.start_slot.eq(slots.free.payload),
            memory.request.eq(lookup.request),
        ]

    def _look(self, m):
        """Feed the step; guest caches and line buffer are asked beside it."""
        event, step, slots, reads = self._selector.event, self._step, self._slots, self._reads
        m.d.comb += [
            step.event.eq(event),
            step.state.eq(self._memory.state),
            step.value.eq(self._value.value),
            step.structure.eq(reads.event),
            step.beginning.eq(self._start.beginning),
            step.invalidation.eq(self.invalidation),
            step.space_known.eq(slots.space_known),
            step.asks_memory.eq(slots.is_foreign),
            slots.looked.eq(event.slot),
            slots.marked.eq(self._marks.slot.payload),
        ]
        if self._guests is not None:
            m.d.comb += self._guests.key.eq(step.guest_key)
        if self.cfg.line_buffer_lines:
            m.d.comb += [
                reads.candidate_valid.eq(event.is_table | event.is_page),
                reads.candidate.eq(step.candidate),
                reads.candidate_second.eq(step.candidate_second),
                reads.flush.eq(self.overtake),
                reads.overtaken.eq(slots.overtaken),
            ]

    def _act(self, m):
        """Act on the decision: new state, next read, question or update."""
        step, decision, prefetch = self._step, self._step.decision, self._slots.is_prefetch
        slot, slots, memory, value, reads = step.decided.slot, self._slots, self._memory, self._value, self._reads
        update, parts = self.update_request, [name for name in memory.signature.members if name.startswith("sets_")]
        compared = Signal()
        events = [bit for event in (step.event, step.decided) for bit in (event.invalidating, event.stale)]
        m.d.comb += [
            memory.decided.eq(slot),
            memory.after.eq(step.after),
            *(getattr(memory, name).eq(getattr(step, name)) for name in parts),
            value.decided.eq(slot),
            value.sets_half.eq(step.sets_progress),
            value.upper.eq(decision.address[3]),
            value.sets_root.eq(step.sets_space),
            value.levels.eq(step.after.space.second_levels),
            value.root.eq(step.after.space.second_root),
            slots.decided.eq(slot),
            slots.learns.eq(step.learns),
            # A walk that starts while an invalidation of its page is under way may use what is about to go.
            compared.eq(step.decided.is_mark | step.decided.invalidating),
            slots.overtakes.eq((compared & step.covered) | step.decided.stale),
            slots.doubtful.eq(self._start.doubtful | Cat(events).any()),
            reads.slot.eq(slot),
            reads.address.eq(decision.address),
            reads.reads_structure.eq(does(decision, Action.READ_STRUCTURE)),
            reads.kind.eq(step.kind),
            reads.upper.eq(step.upper),
            reads.reads_entry.eq(does(decision, Action.READ_ENTRY)),
            update.valid.eq(does(decision, Action.UPDATE) & ~prefetch),
            update.payload.slot.eq(slot),
            update.payload.address.eq(decision.address),
            update.payload.expected.eq(step.expected),
            update.payload.mask.eq(step.mask),
        ]
        if self._guests is not None:
            m.d.comb += [self._guests.wanted.eq(does(decision, Action.LOOKUP_GUEST)), self._guests.slot.eq(slot)]
        if self.cfg.line_buffer_lines:
            m.d.comb += [reads.ahead.eq(prefetch), reads.wanted.eq(step.of_line), reads.again.eq(step.again)]

    def _keep(self, m):
        """Hand on the result, and what may be cached."""
        step, results, findings, slots = self._step, self._results, self._findings, self._slots
        decision, prefetch, space, late = step.decision, slots.is_prefetch, step.space, Signal()
        first = (space.mode == TranslationMode.FIRST_STAGE) | (space.mode == TranslationMode.NESTED)
        m.d.comb += [
            late.eq(slots.late | self.overtake),
            results.finish.eq(
                does(decision, Action.GRANT) | does(decision, Action.FAULT) | (does(decision, Action.UPDATE) & prefetch)
            ),
            results.prefetch.eq(prefetch),
            results.slot.eq(step.decided.slot),
            results.request.eq(step.before.request),
            results.decision.eq(decision),
            results.space.domain_id.eq(space.domain_id),
            results.space.pasid.eq(space.pasid),
            results.space.first_stage.eq(first),
            results.mode.eq(space.mode),
            results.late.eq(late),
            results.drop_fills.eq(self.overtake),
            results.finds.eq(findings.finds & bool(structure_shapes(self.cfg))),
            results.table_level.eq(findings.table_level),
            # A page request meets fewer checks than those that the caches vouch for.
            findings.late.eq(late | is_page_request(self.cfg, step.before.request)),
            findings.drop.eq(self.overtake),
            findings.before.eq(step.before),
            findings.is_context.eq(step.is_context),
            findings.context.eq(step.context),
            findings.is_space.eq(step.is_space),
            findings.space.eq(step.after.space),
            findings.page.eq(step.page),
            findings.from_guest.eq(step.decided.is_guest),
            findings.is_foreign.eq(slots.is_foreign),
        ]

    def _connect(self, m):
        slots, marks, results, reads = self._slots, self._marks, self._results, self._reads
        waiting = [results.fills_wait]
        wiring.connect(m, reads.read, wiring.flipped(self.read))
        wiring.connect(m, results.response, wiring.flipped(self.response))
        wiring.connect(m, results.faults, wiring.flipped(self.faults))
        if self.cfg.page_requests:
            wiring.connect(m, results.verdict, wiring.flipped(self.verdict))
        wiring.connect(m, results.iotlb_fill, wiring.flipped(self.iotlb_fill))
        wiring.connect(m, self._findings.pasid_fill, wiring.flipped(self.pasid_fill))
        if self.cfg.context_cache is not None:
            wiring.connect(m, self._findings.context_fill, wiring.flipped(self.context_fill))
        if structure_shapes(self.cfg):
            wiring.connect(m, results.structure_fill, wiring.flipped(self.structure_fill))
        if self._guests is not None:
            wiring.connect(m, wiring.flipped(self.guest_invalidations), self._guests.invalidations)
            wiring.connect(m, self._findings.guest_fill, self._guests.fill)
            m.d.comb += self._guests.drop.eq(self.overtake)
            waiting.append(self._guests.waits)
        if self.cfg.waiting_misses:
            m.d.comb += self.status.slot.eq(slots.free.payload)
            for name in ("freed", "freed_slot", "fills", "filled"):
                m.d.comb += self.status[name].eq(getattr(results, name))
        m.d.comb += [
            marks.overtake.eq(self.overtake),
            marks.fills_wait.eq(Cat(waiting).any()),
            self.overtaken.eq(marks.overtaken),
            slots.freed.eq(results.freed),
            slots.freed_slot.eq(results.freed_slot),
            self.drained.eq(slots.drained),
            self.walks.eq(slots.walks),
        ]

    def _count(self, m):
        """Pulses for counters."""
        events, known, guests, reads = self.events, self.miss.payload.known, self._guests, self._reads
        m.d.comb += [
            events.walks.eq(self.started),
            events.pasid_cache_hits.eq(self.started & known.space_hit),
            events.reads.eq(self.read.request.valid & self.read.request.ready),
            events.faults.eq(self.faults.valid & self.faults.ready),
        ]
        if self.cfg.context_cache is not None:
            m.d.comb += events.context_cache_hits.eq(self.started & known.context_hit & ~known.space_hit)
        if structure_shapes(self.cfg):
            level = Value.cast(self.miss.payload.lookup.hint.level)
            m.d.comb += [
                events.structure_cache_1_hits.eq(self.started & known.hint_hit & ~level),
                events.structure_cache_2_hits.eq(self.started & known.hint_hit & level),
            ]
        if guests is not None:
            m.d.comb += [guests.sharing.eq(self.sharing), events.guest_lookups.eq(guests.looked_up)]
            for level, name in enumerate(("nested_tlb", "second_stage_cache_1", "second_stage_cache_2")):
                m.d.comb += [
                    events[f"{name}_hits"].eq(guests.level_hit[level]),
                    events[f"{name}_fills"].eq(guests.filled[level]),
                    events[f"{name}_evictions"].eq(guests.evicted[level]),
                ]
        if self.cfg.line_buffer_lines:
            m.d.comb += [
                events.line_buffer_lookups.eq(reads.line_lookup),
                events.line_buffer_hits.eq(reads.line_hit),
                events.line_buffer_fills.eq(reads.line_filled),
            ]
