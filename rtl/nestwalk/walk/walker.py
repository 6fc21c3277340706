"""The walker: many walks over one pair of step datapaths."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..bus.axi import AxiResponse
from ..bus.memory import MemoryIds, MemoryRead, MemoryReadSignature
from ..bus.queue import Queue
from ..bus.sharing import sharing_port
from ..bus.translation import RootPointer, TranslationRequest, TranslationResponse
from ..config import IommuConfig
from ..counters.events import Events
from ..formats.fault import FaultEvent
from ..formats.pasid import TranslationMode
from ..invalidation.command import Invalidation
from ..lookup.configuration import AddressSpace, PasidFormat
from ..lookup.fill_queue import FillQueue
from ..lookup.guest_caches import guest_shapes
from ..lookup.iotlb import IotlbFill
from ..lookup.merging import WalkStatus
from ..lookup.miss_queue import Miss
from ..lookup.pipeline import optional_fills
from ..lookup.structure_caches import structure_shapes
from .address import above_top_level, one_of
from .guests import GuestAnswer, Guests, guest_fill
from .line_buffer import LineBuffer
from .overtake import Overtake
from .owner import RootOwner
from .pages import PageStep
from .results import WalkResults
from .state import Action, Beginning, Decision, Identity, Phase, Progress, StructureKind, does
from .structures import STRUCTURE_SIZES, StructureReader
from .tables import TableStep
from .update import UpdateRequest, UpdateResponse

__all__ = ["Walker"]

COMMON = ("action", "address", "fault", "recorded", "permissions", "size", "cached", "progress")


class _Event(data.StructLayout):
    """What enters the step pipeline: an arrival for a slot, or a slot to compare with an invalidation."""

    def __init__(self, cfg: IommuConfig):
        super().__init__(
            {
                "slot": range(cfg.walk_slots),
                "is_table": 1,
                "is_page": 1,
                "is_mark": 1,
                "begins": 1,
                "error": 1,
                "update_failed": 1,
                "invalidating": 1,
                "is_guest": 1,  # the guest caches stand in for a second-stage entry
                "buffered": 1,  # the entry came with a line, some time ago
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
                "sharing": sharing_port(cfg),
                "events": Out(Events()),
                **({"status": Out(WalkStatus(cfg))} if cfg.waiting_misses else {}),
            }
        )

    def elaborate(self, platform):
        m = Module()
        cfg = self.cfg
        m.submodules.structures = self._structures = StructureReader(cfg)
        self._lines = self._wait_for_memory(m)
        m.submodules.tables = self._tables = TableStep(cfg)
        m.submodules.pages = self._pages = PageStep(cfg)
        m.submodules.results = self._results = WalkResults(cfg)
        self._guests = None
        if guest_shapes(cfg):
            m.submodules.guests = self._guests = Guests(cfg)
            wiring.connect(m, wiring.flipped(self.guest_invalidations), self._guests.invalidations)
        self._space_known = Signal()  # of a slot to compare, sampled with the space, so that the two belong together
        self._in_use, self._known, self._overtaken, self._foreign, self._prefetches = (
            Signal(self.cfg.walk_slots, name=n) for n in ("in_use", "known", "late", "foreign", "prefetches")
        )
        self._fills = {}
        for name in ("pasid_fill", "context_fill"):
            if name in self.signature.members:
                port = wiring.flipped(getattr(self, name))
                m.submodules[name] = self._fills[name] = queue = FillQueue(port.payload.shape(), 1)
                m.d.comb += queue.drop.eq(self.overtake)
                wiring.connect(m, queue.o, port)

        chosen = self._select(m)
        self._remember(m, chosen)
        self._look(m)
        self._decide(m)
        self._connect(m)
        self._count(m)
        m.d.sync += self.drained.eq(~(self._in_use & self._overtaken).any())
        return m

    def _wait_for_memory(self, m) -> LineBuffer | None:
        """Reads wait in a queue, or in the line buffer if there is one."""
        if not self.cfg.line_buffer_lines:
            m.submodules.reads = queue = Queue(MemoryRead(self.cfg), self.cfg.walk_slots)
            self._read_queue = queue.i
            wiring.connect(m, queue.o, wiring.flipped(self.read.request))
            return None
        m.submodules.lines = lines = LineBuffer(self.cfg)
        self._read_queue = lines.read
        wiring.connect(m, lines.request, wiring.flipped(self.read.request))
        wiring.connect(m, wiring.flipped(self.read.data), lines.data)
        return lines

    def _select(self, m) -> data.View:
        """Choose this cycle's event: an arrival first, since it cannot wait, then what can."""
        cfg = self.cfg
        self._event, chosen = Signal(_Event(cfg)), Signal(_Event(cfg))
        arriving, structures, updated, miss = self.read.data, self._structures, self.update_response, self.miss
        # Its id has bits that no slot's has all of.
        structure_id = C(MemoryIds(cfg).structures)
        is_structure = (arriving.payload.id & structure_id) == structure_id
        m.d.comb += [
            structures.data.valid.eq(arriving.valid & is_structure),
            structures.data.payload.eq(arriving.payload),
        ]
        failed = (arriving.payload.response == AxiResponse.SLVERR) | (arriving.payload.response == AxiResponse.DECERR)
        # The next slot to take is looked for beforehand, which takes a cycle after each start.
        self._free, free_known = Signal(range(self.cfg.walk_slots)), Signal()
        free = self._free
        with m.If(self.started):
            m.d.sync += free_known.eq(0)
        with m.Elif(~free_known):
            m.d.sync += free_known.eq(~self._in_use.all())
            for slot in reversed(range(self.cfg.walk_slots)):
                with m.If(~self._in_use[slot]):
                    m.d.sync += free.eq(slot)
        mark_wanted, mark_slot = self._elaborate_marks(m)
        # What arrives is known late in the cycle, and the guest caches' answer: the others choose without them.
        others = {"updated": updated.valid, "mark": mark_wanted, "start": miss.valid & free_known & ~self.overtake}
        first, earlier = {}, Value.cast(0)
        for name, valid in others.items():
            first[name] = Signal(name=f"first_{name}")
            m.d.comb += first[name].eq(valid & ~earlier)
            earlier = earlier | valid
        # If there is nothing at all, what is looked at does not matter: nobody waits for it to be known.
        slot = Mux(updated.valid, updated.payload.slot, Mux(mark_wanted, mark_slot, free))
        if self._guests is not None:
            answer = self._guests.answer
            first = {name: value & ~answer.valid for name, value in first.items()} | {"guest": answer.valid}
            slot = Mux(answer.valid, answer.payload.slot, slot)
        shown = C(1)
        if self._lines is not None:
            hit, shown = self._lines.hit, self._lines.shown
            first = {name: value & ~hit.valid for name, value in first.items()} | {"line": hit.valid}
            slot = Mux(hit.valid, hit.payload.slot, slot)
        self._is_entry = is_entry = Signal()
        m.d.comb += is_entry.eq(arriving.valid & ~is_structure)
        self._takes = takes = {"entry": is_entry, "structure": structures.complete}
        for name, value in first.items():
            takes[name] = Signal(name=f"takes_{name}")
            m.d.comb += takes[name].eq(value & ~is_entry & ~structures.complete)
        is_guest = takes.get("guest", Value.cast(0))
        self._nothing_else = ~(is_entry | structures.complete | updated.valid | mark_wanted)
        if self._guests is not None:
            m.d.comb += self._guests.answer.ready.eq(takes["guest"])
            self._nothing_else = self._nothing_else & ~self._guests.answer.valid
        is_line = takes.get("line", C(0))
        if self._lines is not None:
            m.d.comb += self._lines.hit.ready.eq(is_line)
            self._nothing_else = self._nothing_else & ~self._lines.hit.valid
        m.d.comb += [
            updated.ready.eq(takes["updated"]),
            self._mark_taken.eq(takes["mark"]),
            miss.ready.eq(takes["start"]),
            self.started.eq(takes["start"]),
            chosen.slot.eq(
                Mux(is_entry, arriving.payload.id[: len(free)], Mux(structures.complete, structures.slot, slot))
            ),
            chosen.is_table.eq(takes["structure"] | takes["start"]),
            chosen.is_page.eq((takes["entry"] & shown) | is_line | takes["updated"] | is_guest),
            chosen.is_mark.eq(takes["mark"]),
            chosen.begins.eq(takes["start"]),
            chosen.error.eq(takes["entry"] & failed),
            chosen.update_failed.eq(takes["updated"] & updated.payload.failed),
            chosen.invalidating.eq(takes["start"] & self.invalidating),
            chosen.is_guest.eq(is_guest),
            chosen.buffered.eq(is_line),
        ]
        m.d.sync += self._event.eq(chosen)
        self._begin(m, free)
        return chosen

    def _begin(self, m, free):
        """Take a slot for a miss; what is known of its requester is the walk's first event."""
        cfg, lookup, known = self.cfg, self.miss.payload.lookup, self.miss.payload.known
        self._beginning = beginning = Signal(Beginning(cfg), reset_less=True)
        entered = Mux(lookup.configuration.space.legacy, StructureKind.LEGACY_CONTEXT, StructureKind.PASID)
        start = Value.cast(StructureKind.START)
        if cfg.context_cache is not None:
            start = Mux(known.context_hit, StructureKind.CONTEXT, StructureKind.START)
        m.d.sync += [
            Value.cast(beginning.kind).eq(Mux(known.space_hit, entered, start)),
            beginning.root_pointer.eq(lookup.root_pointer),
            beginning.configuration.eq(lookup.configuration),
        ]
        belongs = self._own(m, lookup.root_pointer)
        if structure_shapes(cfg):
            m.d.sync += [beginning.hint_hit.eq(known.hint_hit & belongs), beginning.hint.eq(lookup.hint)]
        with m.If(self.started):
            m.d.sync += [
                self._in_use.bit_select(free, 1).eq(1),
                self._known.bit_select(free, 1).eq(0),
                # A walk under a root pointer that has been replaced since must not fill either.
                self._overtaken.bit_select(free, 1).eq(lookup.root_pointer != self.root_pointer),
            ]
            if cfg.prefetch_streams:
                m.d.sync += self._prefetches.bit_select(free, 1).eq(lookup.prefetch)

    def _own(self, m, root_pointer) -> Value:
        """Whether the walk that begins may use the caches of tables, and note it for its slot."""
        if not (structure_shapes(self.cfg) or self._guests):
            return Value.cast(0)
        m.submodules.owner = owner = RootOwner(self.cfg)
        m.d.comb += [
            owner.started.eq(self.started),
            owner.root_pointer.eq(root_pointer),
            owner.present.eq(self.root_pointer),
            owner.invalidating.eq(self.invalidating),
            owner.invalidation.eq(self.invalidation),
        ]
        with m.If(self.started):
            m.d.sync += self._foreign.bit_select(self._free, 1).eq(~owner.belongs)
        with m.If(owner.adopts):
            m.d.sync += self._foreign.eq(-1)
        return owner.belongs

    def _remember(self, m, chosen):
        """State of the chosen slot, and its entry: the half of the piece, or what stands in for it."""
        cfg = self.cfg
        shapes = {
            "request": TranslationRequest(cfg),
            "identity": Identity,
            "space": AddressSpace(cfg),
            "progress": Progress,
            "entry": cfg.haw - 3,
            "address": cfg.haw,
            "leaf": 64,
        }
        self._state, self._writes = {}, {}
        for name, shape in shapes.items():
            m.submodules[f"{name}_ram"] = memory = Memory(shape=shape, depth=cfg.walk_slots, init=[])
            read = memory.read_port(domain="comb")
            self._writes[name] = memory.write_port()
            self._state[name] = Signal(shape, name=name, reset_less=True)
            m.d.comb += read.addr.eq(chosen.slot)
            m.d.sync += self._state[name].eq(read.data)
        request, writes = self.miss.payload.lookup.request, self._writes["request"]
        m.d.comb += [writes.addr.eq(self._free), writes.data.eq(request), writes.en.eq(self.started)]
        with m.If(self._nothing_else):
            m.d.sync += self._state["request"].eq(request)

        self._value = Signal(64, reset_less=True)
        others = Value.cast(self.update_response.payload.data)
        if self._guests is not None:
            others = self._elaborate_guest(m, self._guests, others)
        if self._lines is not None:
            others = Mux(self._lines.hit.valid, self._lines.hit.payload.value, others)
        piece = self.read.data.payload.data
        arrived = Mux(self._elaborate_halves(m), piece[64:], piece[:64])
        m.d.sync += self._value.eq(Mux(self._is_entry, arrived, others))

    def _elaborate_guest(self, m, guests: Guests, others) -> Value:
        """The second-stage entry that the guest caches' answer stands for, if there is one, else ``others``."""
        answer = guests.answer
        # Of the slot that is answered, whether it is the one chosen or not.
        shape = data.StructLayout({"levels": 3, "root": self.cfg.page_bits})
        m.submodules.root_ram = memory = Memory(shape=shape, depth=self.cfg.walk_slots, init=[])
        read, self._writes_root = memory.read_port(domain="comb"), memory.write_port()
        m.d.comb += read.addr.eq(answer.payload.slot)
        with m.If(self._takes["guest"]):
            level = Mux(answer.payload.hit, answer.payload.level, above_top_level(read.data.levels))
            m.d.sync += self._state["progress"].second_level.eq(level)
        root = Cat(C(0, 12), read.data.root & (~answer.payload.hit).replicate(self.cfg.page_bits))
        return Mux(answer.valid, GuestAnswer(self.cfg).entry(answer.payload) | root, others)

    def _elaborate_halves(self, m) -> Value:
        """Remember, apart from the rest since it is asked for first, which half of its 16 bytes an entry is in."""
        m.submodules.half_ram = memory = Memory(shape=1, depth=self.cfg.walk_slots, init=[])
        read, self._writes_half = memory.read_port(domain="comb"), memory.write_port()
        m.d.comb += read.addr.eq(self.read.data.payload.id)
        return read.data

    def _elaborate_marks(self, m):
        """Count through the slots while an invalidation asks for it."""
        slot, finished, settle, wanted = Signal(range(self.cfg.walk_slots)), Signal(), Signal(2), Signal()
        self._mark_taken = Signal()
        m.d.sync += self._space_known.eq(self._known.bit_select(slot, 1))
        m.d.comb += wanted.eq(self.overtake & ~finished)
        with m.If(self._mark_taken):
            m.d.sync += slot.eq(slot + 1)
            with m.If(slot == self.cfg.walk_slots - 1):
                m.d.sync += [slot.eq(0), finished.eq(1), settle.eq(3)]
        with m.If(settle.any()):
            m.d.sync += settle.eq(settle - 1)
        with m.If(~self.overtake):
            m.d.sync += finished.eq(0)
        waiting = [self._results.fills_wait] + ([self._guests.waits] if self._guests is not None else [])
        m.d.comb += self.overtaken.eq(self.overtake & finished & (settle == 0) & ~Cat(waiting).any())
        return wanted, slot

    def _look(self, m):
        """Feed both steps; they register what they see."""
        event, tables, pages, state = self._event, self._tables, self._pages, self._state
        m.d.comb += [
            tables.valid.eq(event.is_table),
            tables.request.eq(state["request"]),
            tables.begins.eq(event.begins),
            tables.beginning.eq(self._beginning),
            tables.event.eq(self._structures.event),
            tables.identity.eq(state["identity"]),
            pages.valid.eq(event.is_page),
            pages.request.eq(state["request"]),
            pages.space.eq(state["space"]),
            pages.progress.eq(state["progress"]),
            pages.entry.eq(state["entry"]),
            pages.address.eq(state["address"]),
            pages.leaf.eq(state["leaf"]),
            pages.value.eq(self._value),
            pages.buffered.eq(event.buffered),
            pages.error.eq(event.error),
            pages.update_failed.eq(event.update_failed),
        ]
        self._second = second = Signal(_Event(self.cfg))
        self._second_request = Signal(TranslationRequest(self.cfg), reset_less=True)
        self._second_space = Signal(AddressSpace(self.cfg), reset_less=True)
        self._before = Signal(Progress, reset_less=True)
        self._second_address, self._is_prefetch = Signal(self.cfg.haw, reset_less=True), Signal()
        if self._guests is not None:
            first_root, domain = tables.now_space.first_root, tables.now_space.domain_id
            m.d.comb += [
                self._guests.key.domain_id.eq(Mux(event.is_table, domain, state["space"].domain_id)),
                self._guests.key.page.eq(Mux(event.is_table, first_root, pages.guest_page)),
            ]
        if self._lines is not None:
            self._look_for_line(m, self._lines)
        self._is_foreign = Signal()
        m.d.sync += self._is_foreign.eq(self._foreign.bit_select(event.slot, 1))
        # A walk that begins without its address space may turn out to be of any domain.
        m.submodules.compares = compares = Overtake(self.cfg)
        self._covered, begun = compares.covered, self._beginning
        m.d.comb += [
            compares.invalidation.eq(self.invalidation),
            compares.request.eq(state["request"]),
            compares.space.eq(Mux(event.begins, begun.configuration.space.as_value(), state["space"].as_value())),
            compares.known.eq(Mux(event.begins, tables.now_known, self._space_known)),
        ]
        m.d.sync += [
            second.eq(event),
            self._second_request.eq(state["request"]),
            self._second_space.eq(state["space"]),
            self._is_prefetch.eq(self._prefetches.bit_select(event.slot, 1)),
            self._second_address.eq(state["address"]),
            self._before.eq(state["progress"]),
        ]

    def _look_for_line(self, m, lines: LineBuffer):
        """Look up the entry that follows if that is one of level 1, from a table's entry or from the known table."""
        event, pages, tables = self._event, self._pages, self._tables
        table, second = C(0, 0), tables.now_space.mode == TranslationMode.SECOND_STAGE
        if structure_shapes(self.cfg):
            table = self._beginning.hint.table
        known = Cat(C(0, 3), self._state["request"].address[12:21], table)
        m.d.comb += [
            lines.candidate.eq(Mux(event.is_table, known, pages.target)),
            lines.candidate_second.eq(Mux(event.is_table, second, pages.target_second)),
            lines.flush.eq(self.overtake),
        ]

    def _read_lines(self, m, lines: LineBuffer, progress, reads_entry):
        """Entries of level 1 may come from lines, except one that changed while its bits were to be set."""
        first = progress.phase == Phase.FIRST_STAGE
        lowest = Mux(first, progress.first_level, progress.second_level) == 1
        changed = self._second.is_page & (self._before.phase == Phase.UPDATE)
        m.d.comb += [
            lines.wanted.eq(reads_entry & lowest & ~changed),
            lines.again.eq(self._pages.again),
        ]

    def _decide(self, m):
        """Act on the decision: new state, next read, update or result."""
        cfg, second, tables, pages = self.cfg, self._second, self._tables, self._pages
        decision, is_table = Signal(Decision(cfg)), self._second.is_table
        m.d.comb += [
            decision.eq(Mux(is_table, tables.decision.as_value(), pages.decision.as_value())),
            # Of a step without an event it is none.
            Value.cast(decision.action).eq(Value.cast(tables.decision.action) | Value.cast(pages.decision.action)),
        ]
        acts = is_table | (second.is_page & ~pages.again)
        asks_guest, reads_entry = does(decision, Action.LOOKUP_GUEST), does(decision, Action.READ_ENTRY)
        if self._guests is not None:
            reads_entry = reads_entry | (asks_guest & self._is_foreign)
            asks_guest = asks_guest & ~self._is_foreign
            m.d.comb += [self._guests.wanted.eq(asks_guest), self._guests.slot.eq(second.slot)]
        else:
            reads_entry = reads_entry | asks_guest
        self._write_state(m, decision, acts, reads_entry)
        if self._lines is not None:
            self._read_lines(m, self._lines, decision.progress, reads_entry)

        with m.If(tables.known):
            m.d.sync += self._known.bit_select(second.slot, 1).eq(1)
        # A walk that starts while an invalidation of its page is under way may use what is about to go.
        with m.If((second.is_mark | second.invalidating) & self._covered):
            m.d.sync += self._overtaken.bit_select(second.slot, 1).eq(1)

        reads, expected, update = self._read_queue, self._structures.expected, self.update_request
        prefetch = self._is_prefetch
        structure = does(decision, Action.READ_STRUCTURE)
        sizes = [(tables.kind == kind, Value.cast(log2)) for kind, log2 in STRUCTURE_SIZES.items()]
        m.d.comb += [
            reads.valid.eq(structure | reads_entry | pages.again),
            reads.payload.id.eq(Mux(structure, MemoryIds(cfg).structures, second.slot)),
            reads.payload.address.eq(decision.address),
            reads.payload.size.eq(Mux(structure, one_of(sizes), 3)),
            expected.valid.eq(structure),
            expected.payload.slot.eq(second.slot),
            expected.payload.kind.eq(tables.kind),
            expected.payload.upper.eq(
                Mux(tables.kind == StructureKind.DIRECTORY, decision.address[3], self._upper_half())
            ),
            update.valid.eq(does(decision, Action.UPDATE) & ~prefetch),
            update.payload.slot.eq(second.slot),
            update.payload.address.eq(decision.address),
            update.payload.expected.eq(pages.expected),
            update.payload.mask.eq(pages.mask),
        ]
        ends = does(decision, Action.GRANT) | does(decision, Action.FAULT) | (does(decision, Action.UPDATE) & prefetch)
        self._finish(m, decision, ends, prefetch)

    def _write_state(self, m, decision, acts, reads_entry):
        """The slot's new state, of which each part is written only where it changes."""
        tables, pages, is_table, is_page = self._tables, self._pages, self._second.is_table, self._second.is_page
        progress, half = decision.progress, self._writes_half
        m.d.comb += [
            half.addr.eq(self._second.slot),
            half.data.eq(decision.address[3]),
            half.en.eq(acts),
        ]
        writes = {
            "identity": (is_table, tables.next_identity),
            "space": (is_table, tables.space),
            "progress": (acts, progress),
            "entry": (reads_entry & (progress.phase == Phase.FIRST_STAGE), decision.address[3:]),
            "address": (
                is_table | (is_page & pages.sets_address),
                Mux(is_table, tables.input_address, pages.next_address),
            ),
            "leaf": (is_page & pages.sets_leaf, pages.expected),
        }
        if self._guests is not None:
            self._writes["root"] = self._writes_root
            writes["root"] = (is_table, Cat(tables.space.second_levels, tables.space.second_root))
        for name, (enable, value) in writes.items():
            port = self._writes[name]
            m.d.comb += [port.addr.eq(self._second.slot), port.data.eq(value), port.en.eq(enable)]

    def _upper_half(self):
        """A scalable-mode root entry's upper half is for devices 16 to 31."""
        return self._second_request.source_id[7]

    def _finish(self, m, decision, ends, prefetch):
        """Hand results and what may be cached on."""
        second, results, tables, pages = self._second, self._results, self._tables, self._pages
        request = self._second_request
        late = self._overtaken.bit_select(second.slot, 1) | self.overtake
        space = Signal(AddressSpace(self.cfg))
        m.d.comb += space.eq(Mux(second.is_table, tables.space.as_value(), self._second_space.as_value()))
        first = (space.mode == TranslationMode.FIRST_STAGE) | (space.mode == TranslationMode.NESTED)
        m.d.comb += [
            results.finish.eq(ends),
            results.prefetch.eq(prefetch),
            results.slot.eq(second.slot),
            results.request.eq(request),
            results.decision.eq(decision),
            results.space.domain_id.eq(space.domain_id),
            results.space.pasid.eq(space.pasid),
            results.space.first_stage.eq(first),
            results.late.eq(late),
            results.drop_fills.eq(self.overtake),
        ]
        reads_page = does(pages.decision, Action.READ_ENTRY)
        if structure_shapes(self.cfg):
            self._keep_structure(m, decision, reads_page)
        if self._guests is not None:
            guests, page_space = self._guests, self._second_space
            fill = guests.fill
            found = guest_fill(m, fill.payload, self._before, self._second_address, pages.decision, page_space)
            m.d.comb += [
                fill.valid.eq(reads_page & found & ~late & ~self._is_foreign & ~second.is_guest),
                guests.drop.eq(self.overtake),
            ]
        fresh = tables.fresh & ~late & ~does(tables.decision, Action.FAULT)
        if "context_fill" in self._fills:
            context = self._fills["context_fill"].i
            m.d.comb += [
                context.valid.eq(second.is_table & tables.is_context & fresh),
                context.payload.source_id.eq(request.source_id),
                context.payload.fields.eq(tables.context),
            ]
        pasid = self._fills["pasid_fill"].i
        m.d.comb += [
            pasid.valid.eq(tables.known & fresh),
            pasid.payload.source_id.eq(request.source_id),
            pasid.payload.pasid_valid.eq(request.pasid_valid),
            pasid.payload.space.eq(tables.space),
        ]

    def _keep_structure(self, m, decision, reads_page):
        """Keep the table of level 1 or 2 that is read next, if everything is allowed down to it."""
        progress, space, results = decision.progress, self._second_space, self._results
        first = progress.phase == Phase.FIRST_STAGE
        second = (progress.phase == Phase.SECOND_STAGE_FINAL) & (space.mode == TranslationMode.SECOND_STAGE)
        level = Mux(first, progress.first_level, progress.second_level)
        first_open = progress.first_write & progress.first_user & progress.table_write
        all_open = Mux(first, first_open, progress.second_read & progress.second_write)
        m.d.comb += [
            results.finds.eq(reads_page & (first | second) & all_open & ((level == 1) | (level == 2))),
            results.table_level.eq(level),
        ]

    def _connect(self, m):
        wiring.connect(m, self._results.response, wiring.flipped(self.response))
        wiring.connect(m, self._results.faults, wiring.flipped(self.faults))
        wiring.connect(m, self._results.iotlb_fill, wiring.flipped(self.iotlb_fill))
        if structure_shapes(self.cfg):
            wiring.connect(m, self._results.structure_fill, wiring.flipped(self.structure_fill))
        if self.cfg.waiting_misses:
            m.d.comb += self.status.slot.eq(self._free)
            for name in ("freed", "freed_slot", "fills", "filled"):
                m.d.comb += self.status[name].eq(getattr(self._results, name))
        with m.If(self._results.freed):
            m.d.sync += self._in_use.bit_select(self._results.freed_slot, 1).eq(0)
        m.d.sync += self.walks.eq(self.walks + self.started - self._results.freed)

    def _count(self, m):
        """Pulses for counters."""
        events, known, guests, lines = self.events, self.miss.payload.known, self._guests, self._lines
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
        if lines is not None:
            m.d.comb += [
                events.line_buffer_lookups.eq(lines.looked_up),
                events.line_buffer_hits.eq(lines.found),
                events.line_buffer_fills.eq(lines.filled),
            ]
