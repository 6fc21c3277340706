"""The walker: many walks over one pair of step datapaths."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..bus.axi import AxiResponse
from ..bus.bypass_queue import BypassQueue
from ..bus.memory import MemoryIds, MemoryRead, MemoryReadSignature
from ..bus.translation import RootPointer, TranslationRequest, TranslationResponse
from ..config import IommuConfig
from ..formats.fault import FaultEvent
from ..formats.pasid import TranslationMode
from ..invalidation.command import Invalidation
from ..lookup.configuration import AddressSpace, PasidFormat
from ..lookup.fill_queue import FillQueue
from ..lookup.guest_caches import GuestCaches, guest_shapes
from ..lookup.iotlb import IotlbFill
from ..lookup.miss_queue import Miss
from ..lookup.pipeline import optional_fills
from ..lookup.requester_format import page_of
from ..lookup.structure_caches import StructureHint
from .address import leaf_size
from .overtake import overtakes
from .pages import PageStep
from .results import WalkResults
from .state import Action, Decision, Leaf, Phase, Progress, StructureKind, TableEvent
from .structures import STRUCTURE_SIZES, StructureReader
from .tables import TableStep, enter_pages
from .update import UpdateRequest, UpdateResponse

__all__ = ["Walker"]

FILLS = 4
"""Entries that can wait for each cache but the IOTLB."""


class _Event(data.StructLayout):
    """What enters the step pipeline: an arrival for a slot, or a slot to compare with an invalidation."""

    def __init__(self, cfg: IommuConfig):
        super().__init__(
            {
                "slot": range(cfg.walk_slots),
                "is_table": 1,
                "is_page": 1,
                "is_mark": 1,
                "from_cache": 1,
                "error": 1,
                "update_failed": 1,
                "table": TableEvent(cfg),
                "root_pointer": RootPointer(cfg),
                "hint_hit": 1,
                "hint": StructureHint(cfg),
                "invalidating": 1,
                "guest_level": 3,  # of the second-stage entry that the guest caches stand in for; 0: a real entry
            }
        )


class _GuestAnswer(data.StructLayout):
    """What the guest caches know, for a slot."""

    def __init__(self, cfg: IommuConfig):
        super().__init__(
            {
                "slot": range(cfg.walk_slots),
                "hit": 1,
                "leaf": 1,
                "level": 3,
                "target": cfg.page_bits,
                "read": 1,
                "write": 1,
            }
        )


class Walker(wiring.Component):
    """Walks for misses, up to ``cfg.walk_slots`` at once.

    ::

        miss ──────────────────────┐
        read.data ─┬> structures ──┤   slot state (LUT RAM)
                   └> entries ─────┼─> select ──> look ──> decide ─┬─> read.request (queue)
        update.response ───────────┤      │   TableStep, PageStep   ├─> update.request
        overtake ──────────────────┘      └── new state <───────────┼─> results: response, fault, fill
                                                                    └─> context_fill, pasid_fill

    A slot has one thing outstanding at any time, so every queue has room for one item of each slot and the step
    pipeline never stalls; a read's data leads to the next read two cycles later at ``read.request``.

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
    """

    def __init__(self, cfg: IommuConfig):
        self.cfg = cfg
        super().__init__(
            {
                "miss": In(stream.Signature(Miss(cfg))),
                "root_pointer": In(RootPointer(cfg)),
                "response": Out(stream.Signature(TranslationResponse(cfg))),
                "faults": Out(stream.Signature(FaultEvent)),
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
            }
        )

    def elaborate(self, platform):
        m = Module()
        cfg = self.cfg
        m.submodules.structures = self._structures = StructureReader(cfg)
        m.submodules.reads = self._reads = BypassQueue(MemoryRead(cfg), self.cfg.walk_slots)
        m.submodules.tables = self._tables = TableStep(cfg)
        m.submodules.pages = self._pages = PageStep(cfg)
        m.submodules.results = self._results = WalkResults(cfg)
        self._guest_caches = self._guests = None
        if guest_shapes(cfg):
            m.submodules.guest_caches = self._guest_caches = GuestCaches(cfg)
            m.submodules.guests = self._guests = BypassQueue(_GuestAnswer(cfg), cfg.walk_slots)
            wiring.connect(m, wiring.flipped(self.guest_invalidations), self._guest_caches.invalidations)
        self._in_use, self._known, self._overtaken = (
            Signal(self.cfg.walk_slots, name=n) for n in ("in_use", "known", "late")
        )
        self._requests = self._ram(m, "requests", TranslationRequest(cfg))
        self._spaces = self._ram(m, "spaces", AddressSpace(cfg))
        self._progress = self._ram(m, "progress", Progress(cfg))
        self._leaves = self._ram(m, "leaves", Leaf(cfg))

        # What finds its queue full is not cached.
        targets = {name: wiring.flipped(getattr(self, name)) for name in ("pasid_fill", *optional_fills(cfg))}
        if self._guest_caches is not None:
            targets["guest_fill"] = self._guest_caches.fill
        self._fills, self._fill_queues = {}, []
        for name, target in targets.items():
            queue = FillQueue(target.payload.shape(), FILLS)
            m.submodules[name] = queue
            self._fill_queues.append(queue)
            m.d.comb += queue.drop.eq(self.overtake)
            wiring.connect(m, queue.o, target)
            self._fills[name] = queue.i

        self._select(m)
        self._look(m)
        self._decide(m)
        self._connect(m)
        m.d.sync += self.drained.eq(~(self._in_use & self._overtaken).any())
        return m

    def _ram(self, m, name, shape):
        """One word for each slot: a write port and an asynchronous read port."""
        memory = Memory(shape=shape, depth=self.cfg.walk_slots, init=[])
        m.submodules[name] = memory
        return memory.write_port(), memory.read_port(domain="comb")

    def _select(self, m):
        """Choose this cycle's event: an arriving entry first, since it cannot wait, then what can."""
        cfg = self.cfg
        self._event = event = Signal(_Event(cfg))
        chosen, pair = Signal(_Event(cfg)), Signal(128)
        arriving, structures, updated, miss = self.read.data, self._structures, self.update_response, self.miss
        is_structure = arriving.payload.id == MemoryIds(cfg).structures
        m.d.comb += [
            structures.data.valid.eq(arriving.valid & is_structure),
            structures.data.payload.eq(arriving.payload),
        ]
        failed = (arriving.payload.response == AxiResponse.SLVERR) | (arriving.payload.response == AxiResponse.DECERR)
        free = Signal(range(self.cfg.walk_slots))
        for slot in reversed(range(self.cfg.walk_slots)):
            with m.If(~self._in_use[slot]):
                m.d.comb += free.eq(slot)
        marking, mark_slot = self._elaborate_marks(m)
        may_start = miss.valid & ~self._in_use.all() & ~self.overtake

        with m.If(arriving.valid & ~is_structure):
            m.d.comb += [
                chosen.slot.eq(arriving.payload.id),
                chosen.is_page.eq(1),
                chosen.error.eq(failed),
                pair.eq(arriving.payload.data),
            ]
        with m.Elif(updated.valid):
            m.d.comb += [
                updated.ready.eq(1),
                chosen.slot.eq(updated.payload.slot),
                chosen.is_page.eq(1),
                chosen.update_failed.eq(updated.payload.failed),
                pair.eq(updated.payload.data.replicate(2)),
            ]
        if self._guests is not None:
            guest, second_levels = self._guests.o.payload, self._spaces[1].data.second_levels
            with m.Elif(self._guests.o.valid):
                m.d.comb += [
                    self._guests.o.ready.eq(1),
                    chosen.slot.eq(guest.slot),
                    chosen.is_page.eq(1),
                    chosen.guest_level.eq(Mux(guest.hit, guest.level, second_levels + 3)),
                ]
        with m.Elif(structures.o.valid):
            m.d.comb += [
                structures.o.ready.eq(1),
                chosen.slot.eq(structures.o.payload.slot),
                chosen.is_table.eq(1),
                chosen.table.eq(structures.o.payload.table),
            ]
        with m.Elif(marking["wanted"]):
            m.d.comb += [marking["granted"].eq(1), chosen.slot.eq(mark_slot), chosen.is_mark.eq(1)]
        with m.Elif(may_start):
            m.d.comb += [
                miss.ready.eq(1),
                self.started.eq(1),
                chosen.slot.eq(free),
                chosen.is_table.eq(1),
                chosen.from_cache.eq(1),
                chosen.root_pointer.eq(miss.payload.root_pointer),
                chosen.table.eq(self._from_cache(miss.payload)),
                chosen.hint_hit.eq(miss.payload.hint_hit),
                chosen.hint.eq(miss.payload.hint),
                chosen.invalidating.eq(self.invalidating),
            ]
            m.d.sync += [
                self._in_use.bit_select(free, 1).eq(1),
                self._known.bit_select(free, 1).eq(0),
                # A walk under a root pointer that has been replaced since must not fill either.
                self._overtaken.bit_select(free, 1).eq(miss.payload.root_pointer != self.root_pointer),
            ]
        m.d.sync += event.eq(chosen)

        # State of the chosen slot, and the half of the piece that its entry lies in.
        self._request, self._space = Signal(TranslationRequest(cfg)), Signal(AddressSpace(cfg))
        self._now, self._leaf, self._value = Signal(Progress(cfg)), Signal(Leaf(cfg)), Signal(64)
        self._space_known = Signal()  # sampled with the space, so that the two belong together
        writes = self._requests[0]
        m.d.comb += [writes.addr.eq(free), writes.data.eq(miss.payload.request), writes.en.eq(self.started)]
        for _, read in (self._requests, self._spaces, self._progress, self._leaves):
            m.d.comb += read.addr.eq(chosen.slot)
        m.d.sync += [
            self._request.eq(Mux(self.started, miss.payload.request.as_value(), self._requests[1].data.as_value())),
            self._space.eq(self._spaces[1].data),
            self._space_known.eq(self._known.bit_select(chosen.slot, 1)),
            self._now.eq(self._progress[1].data),
            self._leaf.eq(self._leaves[1].data),
            self._value.eq(pair.word_select(self._progress[1].data.entry[0], 64)),
        ]
        if self._guests is not None:
            self._stand_in(m, chosen.guest_level, self._guests.o.payload)

    def _stand_in(self, m, level, guest):
        """What the guest caches know, as the second-stage entry that would lead to it; else one to the root table."""
        with m.If(level != 0):
            target = Mux(guest.hit, guest.target, self._spaces[1].data.second_root)
            m.d.sync += self._now.second_level.eq(level)
            large = guest.hit & guest.leaf & (guest.level != 1)
            permissions = Cat(~guest.hit | guest.read, ~guest.hit | guest.write)
            m.d.sync += self._value.eq(Cat(permissions, C(0, 5), large, C(0, 4), target))

    def _from_cache(self, miss):
        """The first event of a walk: what the caches knew, or the start at the root table."""
        event = Signal(TableEvent(self.cfg))
        kind = Mux(
            miss.space_hit,
            Mux(miss.space.legacy, StructureKind.LEGACY_CONTEXT, StructureKind.PASID),
            Mux(miss.context_hit, StructureKind.CONTEXT, StructureKind.START),
        )
        fields = {"present": C(1, 1), "context": miss.context, "space": miss.space, "kind": kind}
        fields["fpd"] = Mux(miss.space_hit, miss.space.fpd, miss.context.fpd)
        values = {name: Value.cast(fields.get(name, C(0, 0))) for name, _ in event.shape()}
        return Cat(Cat(value, C(0, len(Value.cast(event[name])) - len(value))) for name, value in values.items())

    def _elaborate_marks(self, m):
        """Count through the slots while an invalidation asks for it."""
        slot, finished, settle = Signal(range(self.cfg.walk_slots)), Signal(), Signal(2)
        marking = {"wanted": Signal(name="mark_wanted"), "granted": Signal(name="mark_granted")}
        m.d.comb += marking["wanted"].eq(self.overtake & ~finished)
        with m.If(marking["granted"]):
            m.d.sync += slot.eq(slot + 1)
            with m.If(slot == self.cfg.walk_slots - 1):
                m.d.sync += [slot.eq(0), finished.eq(1), settle.eq(3)]
        with m.If(settle.any()):
            m.d.sync += settle.eq(settle - 1)
        with m.If(~self.overtake):
            m.d.sync += finished.eq(0)
        dropped = ~Cat(self._results.fills_wait, *(queue.waits for queue in self._fill_queues)).any()
        m.d.comb += self.overtaken.eq(self.overtake & finished & (settle == 0) & dropped)
        return marking, slot

    def _look(self, m):
        """Feed both steps; they register what they see."""
        event = self._event
        tables, pages = self._tables, self._pages
        m.d.comb += [
            tables.request.eq(self._request),
            tables.root_pointer.eq(event.root_pointer),
            tables.event.eq(event.table),
            tables.from_cache.eq(event.from_cache),
            tables.space.eq(self._space),
            tables.hint_hit.eq(event.hint_hit),
            tables.hint.eq(event.hint),
            pages.request.eq(self._request),
            pages.space.eq(self._space),
            pages.progress.eq(self._now),
            pages.leaf.eq(self._leaf),
            pages.value.eq(self._value),
            pages.error.eq(event.error),
            pages.update_failed.eq(event.update_failed),
        ]
        self._second = second = Signal(_Event(self.cfg))
        self._second_request, self._covered = Signal(TranslationRequest(self.cfg)), Signal()
        self._before = Signal(Progress(self.cfg))
        space = Signal(AddressSpace(self.cfg))
        if self._guest_caches is not None:
            key = self._guest_caches.key
            m.d.comb += [
                key.domain_id.eq(space.domain_id),
                key.page.eq(Mux(event.is_table, event.table.space.first_root, pages.guest_page)),
            ]
        m.d.comb += space.eq(Mux(event.is_table, event.table.space.as_value(), self._space.as_value()))
        # A walk that begins without its address space may turn out to be of any domain.
        kind = event.table.kind
        enters = (kind == StructureKind.PASID) | (kind == StructureKind.LEGACY_CONTEXT)
        known = Mux(event.is_table, enters, self._space_known)
        m.d.sync += [
            second.eq(event),
            self._second_request.eq(self._request),
            self._before.eq(self._now),
            self._covered.eq(overtakes(self.cfg, self.invalidation, self._request, space, known)),
        ]

    def _decide(self, m):
        """Act on the decision: new state, next read, update or result."""
        cfg, second = self.cfg, self._second
        decision = Signal(Decision(cfg))
        table, page = self._tables.decision, self._pages.decision
        m.d.comb += decision.eq(Mux(second.is_table, table.as_value(), page.as_value()))
        acts = second.is_table | second.is_page
        action = decision.action
        restart = Signal(Progress(cfg))
        restart_entry = enter_pages(m, cfg, self._second_request, decision.space, restart)
        restarts = action == Action.RESTART
        address = Mux(restarts, restart_entry, decision.address)

        for (write, _), data_ in ((self._spaces, decision.space), (self._leaves, decision.leaf)):
            m.d.comb += [write.addr.eq(second.slot), write.data.eq(data_)]
        m.d.comb += [
            self._spaces[0].en.eq(second.is_table),
            self._leaves[0].en.eq(second.is_page),
            self._progress[0].addr.eq(second.slot),
            self._progress[0].data.eq(Mux(restarts, restart.as_value(), decision.progress.as_value())),
            self._progress[0].en.eq(acts),
        ]
        with m.If(second.is_table & self._tables.known):
            m.d.sync += self._known.bit_select(second.slot, 1).eq(1)
        # A walk that starts while an invalidation of its page is under way may use what is about to go.
        with m.If((second.is_mark | second.invalidating) & self._covered):
            m.d.sync += self._overtaken.bit_select(second.slot, 1).eq(1)

        reads, expected = self._reads.i, self._structures.expected
        asks_guest = action == Action.LOOKUP_GUEST
        reads_entry = (action == Action.READ_ENTRY) | restarts
        if self._guest_caches is None:
            reads_entry = reads_entry | asks_guest
        structure = action == Action.READ_STRUCTURE
        size = Signal(3)
        with m.Switch(decision.kind):
            for kind, log2 in STRUCTURE_SIZES.items():
                with m.Case(kind):
                    m.d.comb += size.eq(log2)
        m.d.comb += [
            reads.valid.eq(acts & (structure | reads_entry)),
            reads.payload.id.eq(Mux(structure, MemoryIds(cfg).structures, second.slot)),
            reads.payload.address.eq(address),
            reads.payload.size.eq(Mux(structure, size, 3)),
            expected.valid.eq(acts & structure),
            expected.payload.slot.eq(second.slot),
            expected.payload.kind.eq(decision.kind),
            expected.payload.upper.eq(Mux(decision.kind == StructureKind.DIRECTORY, address[3], self._upper_half())),
            self.update_request.valid.eq(acts & (action == Action.UPDATE)),
            self.update_request.payload.slot.eq(second.slot),
            self.update_request.payload.address.eq(decision.address),
            self.update_request.payload.expected.eq(decision.expected),
            self.update_request.payload.mask.eq(decision.mask),
        ]
        if self._guest_caches is not None and self._guests is not None:
            self._look_up_guest(m, self._guest_caches, self._guests.i, acts & asks_guest)
        self._finish(m, decision, acts)

    def _look_up_guest(self, m, caches, answer, wanted):
        """The guest caches were given the key one cycle ago; queue their answer for the slot if it is wanted."""
        slot = self._second.slot
        for stage in range(GuestCaches.LATENCY):
            later = Signal(name=f"wanted_{stage}"), Signal.like(slot, name=f"wanted_slot_{stage}")
            m.d.sync += [later[0].eq(wanted), later[1].eq(slot)]
            wanted, slot = later
        m.d.comb += [answer.valid.eq(wanted), answer.payload.slot.eq(slot)]
        for name in ("hit", "leaf", "level", "target", "read", "write"):
            m.d.sync += answer.payload[name].eq(getattr(caches, name))

    def _keep_guest(self, m, decision, late):
        """Keep what a second-stage walk under nesting found: the leaf of a first-stage table, or its lower tables."""
        before, after, space = self._before, decision.progress, decision.space
        into_table = before.phase == Phase.SECOND_STAGE_TABLE
        second = into_table | (before.phase == Phase.SECOND_STAGE_FINAL)
        leaf = into_table & (after.phase == Phase.FIRST_STAGE)
        low = (after.second_level == 1) | (after.second_level == 2)
        keeps = self._second.is_page & ~late & (self._second.guest_level == 0)
        keeps = keeps & (decision.action == Action.READ_ENTRY) & second & (space.mode == TranslationMode.NESTED)
        fill = self._fills["guest_fill"]
        size = leaf_size(before.second_level)
        small, large = decision.address[12:21], decision.address[21:30]
        aligned = Cat(small & (size == 0).replicate(9), large & ~size[1].replicate(9), decision.address[30:])
        m.d.comb += [
            fill.valid.eq(keeps & (leaf | (low & after.second_read & after.second_write))),
            fill.payload.level.eq(Mux(leaf, 0, after.second_level)),
            fill.payload.domain_id.eq(space.domain_id),
            fill.payload.page.eq(before.address[12:]),
            fill.payload.read.eq(after.second_read),
            fill.payload.write.eq(after.second_write),
            Value.cast(fill.payload.size).eq(size),
            fill.payload.target.eq(Mux(leaf, aligned, decision.address[12:])),
        ]

    def _upper_half(self):
        """A scalable-mode root entry's upper half is for devices 16 to 31."""
        return self._second_request.source_id[7]

    def _finish(self, m, decision, acts):
        """Hand results and cacheable table entries on."""
        second, results = self._second, self._results
        late = self._overtaken.bit_select(second.slot, 1) | self.overtake
        finishes = acts & ((decision.action == Action.GRANT) | (decision.action == Action.FAULT))
        m.d.comb += [
            results.finish.eq(finishes),
            results.slot.eq(second.slot),
            results.request.eq(self._second_request),
            results.decision.eq(decision),
            results.late.eq(late),
            results.drop_fills.eq(self.overtake),
        ]
        if "structure_fill" in self._fills:
            self._keep_structure(m, decision, late)
        if "guest_fill" in self._fills:
            self._keep_guest(m, decision, late)
        fresh = second.is_table & ~second.from_cache & ~late & (decision.action != Action.FAULT)
        event, request = second.table, self._second_request
        if "context_fill" in self._fills:
            context = self._fills["context_fill"]
            m.d.comb += [
                context.valid.eq(fresh & (event.kind == StructureKind.CONTEXT)),
                context.payload.source_id.eq(request.source_id),
                context.payload.fields.eq(event.context),
            ]
        space = self._fills["pasid_fill"]
        m.d.comb += [
            space.valid.eq(fresh & self._tables.known),
            space.payload.source_id.eq(request.source_id),
            space.payload.pasid_valid.eq(request.pasid_valid),
            space.payload.space.eq(decision.space),
        ]

    def _keep_structure(self, m, decision, late):
        """Keep the table of level 1 or 2 that is read next, if everything is allowed down to it."""
        progress, space, request = decision.progress, decision.space, self._second_request
        first = progress.phase == Phase.FIRST_STAGE
        second = (progress.phase == Phase.SECOND_STAGE_FINAL) & (space.mode == TranslationMode.SECOND_STAGE)
        level = Mux(first, progress.first_level, progress.second_level)
        first_open = progress.first_write & progress.first_user & progress.table_write
        all_open = Mux(first, first_open, progress.second_read & progress.second_write)
        keeps = self._second.is_page & ~late & (decision.action == Action.READ_ENTRY)
        fill = self._fills["structure_fill"]
        entry = fill.payload.entry
        m.d.comb += [
            fill.valid.eq(keeps & (first | second) & all_open & ((level == 1) | (level == 2))),
            Value.cast(fill.payload.level).eq(level[1]),
            entry.source_id.eq(request.source_id),
            entry.pasid_valid.eq(request.pasid_valid),
            entry.pasid.eq(space.pasid),
            entry.page.eq(page_of(request.address)),
            entry.domain_id.eq(space.domain_id),
            entry.first_stage.eq(first),
            entry.table.eq(decision.address[12:]),
        ]

    def _connect(self, m):
        wiring.connect(m, self._reads.o, wiring.flipped(self.read.request))
        wiring.connect(m, self._results.response, wiring.flipped(self.response))
        wiring.connect(m, self._results.faults, wiring.flipped(self.faults))
        wiring.connect(m, self._results.iotlb_fill, wiring.flipped(self.iotlb_fill))
        with m.If(self._results.freed):
            m.d.sync += self._in_use.bit_select(self._results.freed_slot, 1).eq(0)
        m.d.sync += self.walks.eq(self.walks + self.started - self._results.freed)
