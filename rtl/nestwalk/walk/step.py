"""One step of a walk: what follows from an event and the state of its slot."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..config import IommuConfig
from ..formats.pasid import TranslationMode
from ..invalidation.command import Invalidation
from ..lookup.configuration import AddressSpace, ContextFields
from ..lookup.guest_caches import GuestKey, guest_shapes
from ..lookup.structure_caches import structure_shapes
from .overtake import Overtake
from .pages import PageStep
from .select import WalkEvent
from .slot_memory import SlotState
from .state import Action, Beginning, Decision, Phase, StructureKind, TableEvent, does, is_at
from .tables import TableStep

__all__ = ["WalkStep"]


class WalkStep(wiring.Component):
    """Both step datapaths and the comparison with an invalidation, side by side. Two cycles, one event in each.

    ::

        look                                decide
        event ────────────────┐
        state, value ─────────┼─> PageStep ──┬─> decision, after
        structure, beginning ─┼─> TableStep ─┘
        invalidation ─────────┴─> Overtake ────> covered
                              └─> guest_key, candidate: for the caches that are looked up meanwhile

    Parameters
    ----------
    cfg : IommuConfig

    Attributes
    ----------
    event : In(WalkEvent)
    state : In(SlotState)
        The slot's.
    value : In(64)
        The paging entry of a page event.
    structure, beginning : In(TableEvent), In(Beginning)
        What a table event brings: a structure, or what is known as the walk begins.
    invalidation, space_known : In(Invalidation), In(1)
        For a slot to compare: with what, and whether its address space is known.
    guest_key : Out(GuestKey)
        In the same cycle: the guest-physical page that the guest caches are asked for, if they are.
    candidate, candidate_second : Out(haw), Out(1)
        In the same cycle: the paging entry that is read next if one of level 1 is, and that it is a second-stage one.
    decided : Out(WalkEvent)
        One cycle later, as the others below: the event.
    asks_memory : In(1)
        The guest caches are not to be asked.
    decision : Out(Decision)
        Of its actions, `Action.LOOKUP_GUEST` is only what the guest caches are asked for.
    page : Out(Decision)
        The page step's own, without action if it had no event.
    expected, mask : Out(64), Out(64)
        Of `Action.UPDATE`.
    kind, upper : Out(StructureKind), Out(1)
        Of `Action.READ_STRUCTURE`; a scalable-mode root entry's upper half is for devices 16 to 31.
    of_line, again : Out(1), Out(1)
        The entry read may come from a line; the last one that did is to be read again.
    before : Out(SlotState)
        The state that the step began with.
    after, sets_PART : Out(SlotState), Out(1)
        The slot's new state, part by part where it changes.
    space : Out(AddressSpace)
        The walk's, after the step.
    is_context, context, is_space : Out(1), Out(ContextFields), Out(1)
        Memory said this of a context entry; it said ``after.space``.
    learns : Out(1)
        The address space is known from here on.
    covered : Out(1)
        The walk may have read what ``invalidation`` covers.
    """

    def __init__(self, cfg: IommuConfig):
        self.cfg = cfg
        parts = [name for name, _field in SlotState(cfg) if name != "request"]
        super().__init__(
            {
                "event": In(WalkEvent(cfg)),
                "state": In(SlotState(cfg)),
                "value": In(64),
                "structure": In(TableEvent(cfg)),
                "beginning": In(Beginning(cfg)),
                "invalidation": In(Invalidation),
                "space_known": In(1),
                "guest_key": Out(GuestKey(cfg, 0)),
                "candidate": Out(cfg.haw),
                "candidate_second": Out(1),
                "decided": Out(WalkEvent(cfg)),
                "asks_memory": In(1),
                "decision": Out(Decision(cfg)),
                "page": Out(Decision(cfg)),
                "expected": Out(64),
                "mask": Out(64),
                "kind": Out(StructureKind),
                "upper": Out(1),
                "of_line": Out(1),
                "again": Out(1),
                "before": Out(SlotState(cfg)),
                "after": Out(SlotState(cfg)),
                **{f"sets_{name}": Out(1) for name in parts},
                "space": Out(AddressSpace(cfg)),
                "is_context": Out(1),
                "context": Out(ContextFields(cfg)),
                "is_space": Out(1),
                "learns": Out(1),
                "covered": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.tables = self._tables = TableStep(self.cfg)
        m.submodules.pages = self._pages = PageStep(self.cfg)
        before = Signal(SlotState(self.cfg), reset_less=True)
        m.d.sync += [self.decided.eq(self.event), before.eq(self.state)]
        m.d.comb += self.before.eq(before)
        self._look(m)
        self._compare(m)
        self._decide(m)
        self._tell(m)
        return m

    def _look(self, m):
        """First cycle: both steps register what they see, and the caches are asked for what may come next."""
        event, state, tables, pages = self.event, self.state, self._tables, self._pages
        m.d.comb += [
            tables.valid.eq(event.is_table),
            tables.request.eq(state.request),
            tables.begins.eq(event.begins),
            tables.beginning.eq(self.beginning),
            tables.event.eq(self.structure),
            tables.identity.eq(state.identity),
            pages.valid.eq(event.is_page),
            *(
                getattr(pages, name).eq(state[name])
                for name in ("request", "space", "progress", "entry", "address", "leaf")
            ),
            pages.value.eq(self.value),
            pages.buffered.eq(event.buffered),
            pages.error.eq(event.error),
            pages.update_failed.eq(event.update_failed),
        ]
        now, table = tables.now_space, C(0, 0)
        # Nested is what memory says of a PASID-table entry, or what the PASID cache knew.
        begins, structure, known = event.begins, self.structure.space, self.beginning.configuration.space

        def of_guest(begun, read, paged):
            return Mux(event.is_page, paged, Mux(begins, begun, read))

        if structure_shapes(self.cfg):
            table = self.beginning.hint.table
        of_table = Cat(C(0, 3), state.request.address[12:21], table)
        m.d.comb += [
            self.guest_key.domain_id.eq(of_guest(known.domain_id, structure.domain_id, state.space.domain_id)),
            self.guest_key.page.eq(of_guest(known.first_root, structure.first_root, pages.guest_page)),
            self.candidate.eq(Mux(event.is_table, of_table, pages.target)),
            self.candidate_second.eq(
                Mux(event.is_table, now.mode == TranslationMode.SECOND_STAGE, pages.target_second)
            ),
        ]

    def _compare(self, m):
        """A walk that begins without its address space may turn out to be of any domain."""
        m.submodules.overtake = overtake = Overtake(self.cfg)
        begins, begun = self.event.begins, self.beginning.configuration.space
        m.d.comb += [
            overtake.invalidation.eq(self.invalidation),
            overtake.request.eq(self.state.request),
            overtake.space.eq(Mux(begins, begun.as_value(), self.state.space.as_value())),
            overtake.known.eq(Mux(begins, self._tables.now_known, self.space_known)),
            self.covered.eq(overtake.covered),
        ]

    def _decide(self, m):
        """Second cycle: the decision of the step that has an event."""
        tables, pages, decision = self._tables, self._pages, self.decision
        of_tables, of_pages, progress = tables.decision, pages.decision, decision.progress
        actions = Value.cast(of_tables.action) | Value.cast(of_pages.action)  # of a step without an event it is none
        guest, memory = does(decision, Action.LOOKUP_GUEST), does(decision, Action.READ_ENTRY)
        asked = does(of_tables, Action.LOOKUP_GUEST) | does(of_pages, Action.LOOKUP_GUEST)
        read = does(of_tables, Action.READ_ENTRY) | does(of_pages, Action.READ_ENTRY)
        asks_memory = self.asks_memory if guest_shapes(self.cfg) else C(1)
        m.d.comb += [
            decision.eq(Mux(self.decided.is_table, of_tables.as_value(), of_pages.as_value())),
            Value.cast(decision.action).eq(actions),
            guest.eq(asked & ~asks_memory),
            memory.eq(read | (asked & asks_memory)),
            self.page.eq(of_pages),
            self.expected.eq(pages.expected),
            self.mask.eq(pages.mask),
            self.kind.eq(tables.kind),
            self.upper.eq(
                Mux(tables.kind == StructureKind.DIRECTORY, decision.address[3], self.before.request.source_id[7])
            ),
            self.again.eq(pages.again),
        ]
        # Entries of level 1 may come from lines, except one that changed while its bits were to be set.
        level = Mux(is_at(progress, Phase.FIRST_STAGE), progress.first_level, progress.second_level)
        changed = self.decided.is_page & is_at(self.before.progress, Phase.UPDATE)
        m.d.comb += self.of_line.eq(memory & (level == 1) & ~changed)

    def _tell(self, m):
        """Second cycle: the new state, and what the walk now knows."""
        tables, pages, decision, after = self._tables, self._pages, self.decision, self.after
        is_table, is_page, progress = self.decided.is_table, self.decided.is_page, decision.progress
        fresh = tables.fresh & ~does(tables.decision, Action.FAULT)
        m.d.comb += [
            self.sets_identity.eq(is_table),
            after.identity.eq(tables.next_identity),
            self.sets_space.eq(is_table),
            after.space.eq(tables.space),
            self.sets_progress.eq(is_table | (is_page & ~pages.again)),
            after.progress.eq(progress),
            self.sets_entry.eq(does(decision, Action.READ_ENTRY) & is_at(progress, Phase.FIRST_STAGE)),
            after.entry.eq(decision.address[3:]),
            self.sets_address.eq(is_table | (is_page & pages.sets_address)),
            after.address.eq(Mux(is_table, tables.input_address, pages.next_address)),
            self.sets_leaf.eq(is_page & pages.sets_leaf),
            after.leaf.eq(pages.expected),
            self.space.eq(Mux(is_table, tables.space.as_value(), self.before.space.as_value())),
            self.is_context.eq(is_table & tables.is_context & fresh),
            self.context.eq(tables.context),
            self.is_space.eq(tables.known & fresh),
            self.learns.eq(tables.known),
        ]
