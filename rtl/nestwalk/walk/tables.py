"""The table step: from the root table to the address space of a request (§3.3, §3.4)."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..bus.translation import PageSize, TranslationRequest, is_page_request
from ..config import IommuConfig
from ..formats.fault import FaultReason as R
from ..formats.pasid import TranslationMode
from ..lookup.configuration import AddressSpace, ContextFields
from ..lookup.structure_caches import TableLevel, structure_shapes
from .address import index, one_of, top_level
from .first_fault import first_fault
from .gates import Gates, check_gates
from .state import Action, Beginning, Decision, Identity, Phase, StructureKind, TableEvent, does

__all__ = ["TableStep"]


ROOTS = (StructureKind.ROOT, StructureKind.LEGACY_ROOT)


class _Seen(data.StructLayout):
    """What the first cycle finds out, for the second: ``base`` is the page that is read next."""

    def __init__(self, cfg: IommuConfig):
        super().__init__(
            {
                "is_kind": data.ArrayLayout(1, len(StructureKind)),
                "from_cache": 1,
                "error": 1,
                "absent": 1,
                "reserved": 1,
                "invalid": 1,
                "gates": Gates,
                "hinted": 1,
                "enters_first": 1,
                "enters_second": 1,
                "enters_nested": 1,
                "hint_index": 9,
                "first_index": 9,
                "second_index": 9,
                "nested_index": 9,
                "hint_level_2": 1,
                "pass_through": 1,
                "page_request": 1,
                "base": cfg.page_bits,
                "identity": Identity,
            }
        )


class TableStep(wiring.Component):
    """Decides what follows from a table entry. Two cycles: what the entry says is registered, then the decision is
    combinational.

    The order of the checks is that of §3.3: access error, not present, reserved, invalid programming, then the gates
    for the request. The last table entry leads to the first paging entry, or grants (pass-through, page requests).

    Parameters
    ----------
    cfg : IommuConfig

    Attributes
    ----------
    valid : In(1)
        There is an event; without one ``known`` is low and ``identity`` and ``decision`` mean nothing.
    request : In(TranslationRequest)
    begins, beginning : In(1), In(Beginning)
        The event is the walk's first and this is all that is known, checked when it was cached.
    event : In(TableEvent)
        Otherwise: what arrived.
    identity : In(Identity)
        What the slot knows so far.
    decision : Out(Decision)
        One cycle later, as the others below.
    kind : Out(StructureKind)
        What `Action.READ_STRUCTURE` reads.
    next_identity : Out(Identity)
        The slot's new state.
    known, space : Out(1), Out(AddressSpace)
        The whole address space is known from here on, and the slot's.
    now_known, now_space : Out(1), Out(AddressSpace)
        In the cycle of the event: it brings the whole address space, this one.
    input_address : Out
        Address of the first first-stage entry, which a nested walk begins with translating.
    fresh, is_context, context : Out
        The event came from memory; it is a context entry, which says this.
    """

    def __init__(self, cfg: IommuConfig):
        self.cfg = cfg
        super().__init__(
            {
                "valid": In(1),
                "request": In(TranslationRequest(cfg)),
                "begins": In(1),
                "beginning": In(Beginning(cfg)),
                "event": In(TableEvent(cfg)),
                "identity": In(Identity),
                "decision": Out(Decision(cfg)),
                "kind": Out(StructureKind),
                "next_identity": Out(Identity),
                "known": Out(1),
                "space": Out(AddressSpace(cfg)),
                "now_known": Out(1),
                "now_space": Out(AddressSpace(cfg)),
                "input_address": Out(cfg.haw),
                "fresh": Out(1),
                "is_context": Out(1),
                "context": Out(ContextFields(cfg)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        cfg, decision = self.cfg, self.decision
        self._seen = seen = Signal(_Seen(cfg), reset_less=True)
        self._request = request = Signal(TranslationRequest(cfg), reset_less=True)
        context, space = Signal(ContextFields(cfg), reset_less=True), Signal(AddressSpace(cfg), reset_less=True)
        m.d.sync += request.eq(self.request)
        self._see(m, context, space)

        is_kind = {kind: seen.is_kind[kind.value] for kind in StructureKind}
        enters = is_kind[StructureKind.PASID] | is_kind[StructureKind.LEGACY_CONTEXT]
        faulty = self._elaborate_fault(m, is_kind)
        self._choose_kind(m, is_kind)
        self._enter_pages(m, space)
        interrupt = is_kind[StructureKind.START] & seen.gates.interrupt_request
        grants = interrupt | seen.pass_through | (enters & seen.page_request)
        # FPD says nothing about what comes before any entry that has it, nor about one that cannot be read (§4).
        unqualified = Cat(is_kind[kind] for kind in (StructureKind.START, *ROOTS)).any() | seen.error
        unrecorded = is_kind[StructureKind.START] & seen.gates.unsupported_type
        self._choose_address(m, is_kind, grants)

        m.d.comb += [
            self.known.eq(enters),
            self.fresh.eq(~seen.from_cache),
            self.is_context.eq(is_kind[StructureKind.CONTEXT]),
            self.context.eq(context),
            self.next_identity.eq(seen.identity),
            self.space.eq(space),
            self.space.pasid.eq(seen.identity.pasid),
            self.space.fpd.eq(seen.identity.fpd),
            decision.recorded.eq((unqualified | ~seen.identity.fpd) & ~unrecorded),
        ]
        leads = Cat(is_kind[kind] for kind in StructureKind).any() & ~enters & ~interrupt
        actions = {
            Action.FAULT: faulty,
            Action.GRANT: grants & ~faulty,
            Action.LOOKUP_GUEST: seen.enters_nested & ~faulty,
            Action.READ_ENTRY: enters & ~grants & ~seen.enters_nested & ~faulty,
            Action.READ_STRUCTURE: leads & ~faulty,
        }
        m.d.comb += [does(decision, action).eq(value) for action, value in actions.items()]
        allowed = decision.permissions
        m.d.comb += [
            # Stored with the 2 MiB pages; whoever asks learns no size from pass-through.
            decision.size.eq(PageSize.SIZE_2M),
            decision.cached.eq(seen.pass_through),
            allowed.user_read.eq(1),
            allowed.user_write.eq(1),
            allowed.privileged_read.eq(space.sre),
            allowed.privileged_write.eq(space.sre),
        ]
        return m

    def _see(self, m, context, space):
        """First cycle: choose between memory's event and the beginning, and check the gates."""
        cfg, seen, event, request = self.cfg, self._seen, self.event, self.request
        begins, beginning = self.begins, self.beginning
        known = beginning.configuration
        kind = Mux(begins, Value.cast(beginning.kind), Value.cast(event.kind))
        is_kind = {one: kind == one.value for one in StructureKind}
        now_space, now_context = self.now_space, Signal(ContextFields(cfg))
        m.d.comb += Value.cast(now_space).eq(Mux(begins, Value.cast(known.space), Value.cast(event.space)))
        cached_context = known.context if cfg.context_cache is not None else event.context
        m.d.comb += Value.cast(now_context).eq(Mux(begins, Value.cast(cached_context), Value.cast(event.context)))
        gates = Signal(Gates)
        checked = check_gates(cfg, request, beginning.root_pointer, now_context, now_space)
        m.d.comb += [gates[name].eq(value) for name, value in checked.items()]

        enters = is_kind[StructureKind.PASID] | is_kind[StructureKind.LEGACY_CONTEXT]
        m.d.comb += self.now_known.eq(enters)
        page_request = is_page_request(cfg, request)
        pass_through = enters & (now_space.mode == TranslationMode.PASS_THROUGH) & ~page_request
        hinted = C(0)
        bases = []
        if structure_shapes(cfg):
            hinted = enters & begins & beginning.hint_hit & ~pass_through
            bases.append((hinted, beginning.hint.table))
            m.d.sync += seen.hint_level_2.eq(beginning.hint.level == TableLevel.LEVEL_2)
            m.d.sync += seen.hint_index.eq(
                Mux(beginning.hint.level == TableLevel.LEVEL_2, request.address[21:30], request.address[12:21])
            )
        first = enters & ~hinted & (now_space.mode == TranslationMode.FIRST_STAGE)
        second = enters & ~hinted & (now_space.mode != TranslationMode.FIRST_STAGE)
        leads = [*ROOTS, StructureKind.DIRECTORY]
        bases += [
            (is_kind[StructureKind.START], beginning.root_pointer.root_table),
            (Cat(is_kind[kind] for kind in leads).any(), event.page),
            (is_kind[StructureKind.CONTEXT], now_context.directory),
            (first, now_space.first_root),
            (second, now_space.second_root),
        ]
        self._index_pages(m, enters & ~hinted & ~page_request)
        arrives = self.valid & ~begins
        m.d.sync += [
            context.eq(now_context),
            space.eq(now_space),
            *(seen.is_kind[one.value].eq(self.valid & there) for one, there in is_kind.items()),
            seen.from_cache.eq(begins),
            seen.error.eq(event.error & arrives),
            seen.absent.eq(~event.present & arrives),
            seen.reserved.eq(event.reserved & arrives),
            seen.invalid.eq(event.invalid & arrives),
            seen.gates.eq(gates),
            seen.hinted.eq(hinted & self.valid),
            seen.pass_through.eq(pass_through & self.valid),
            seen.page_request.eq(page_request),
            seen.base.eq(one_of(bases)),
        ]
        self._identify(m, is_kind, now_context, known)

    def _index_pages(self, m, enters):
        """Which entry is first in the table that a page walk begins with, for every kind of walk."""
        seen, space, address = self._seen, self.now_space, self.request.address
        enters = enters & self.valid
        top = top_level(space.second_levels)
        first_index = Mux(space.first_5_level, address[48:57], address[39:48])
        first_entry = Cat(C(0, 3), first_index, space.first_root)
        m.d.sync += [
            seen.first_index.eq(first_index),
            seen.second_index.eq(one_of([(top == n, address[3 + 9 * n : 12 + 9 * n]) for n in (3, 4, 5)])),
            seen.nested_index.eq(one_of([(top == n, first_entry[3 + 9 * n : 12 + 9 * n]) for n in (3, 4, 5)])),
            seen.enters_first.eq(enters & (space.mode == TranslationMode.FIRST_STAGE)),
            seen.enters_second.eq(enters & (space.mode == TranslationMode.SECOND_STAGE)),
            seen.enters_nested.eq(enters & (space.mode == TranslationMode.NESTED)),
        ]

    def _identify(self, m, is_kind, context, known):
        """The effective PASID: of the request or the context entry, and from then on the slot's."""
        request, begins, identity = self.request, self.begins, self._seen.identity
        reads_directory = is_kind[StructureKind.DIRECTORY] | (is_kind[StructureKind.PASID] & ~begins)
        by_context = is_kind[StructureKind.CONTEXT]
        cached = begins & (is_kind[StructureKind.PASID] | is_kind[StructureKind.LEGACY_CONTEXT])
        fpd = [(~begins, self.event.fpd | self.identity.fpd), (cached, known.space.fpd)]
        if self.cfg.context_cache is not None:
            fpd.append((begins & by_context, known.context.fpd))
        m.d.sync += [
            identity.pasid.eq(
                one_of(
                    [
                        (by_context & request.pasid_valid, request.pasid),
                        (by_context & ~request.pasid_valid, context.rid_pasid),
                        (reads_directory, self.identity.pasid),
                        (cached, known.space.pasid),
                    ]
                )
            ),
            identity.fpd.eq(one_of(fpd)),
        ]

    def _enter_pages(self, m, space):
        """Set the decision's progress to the beginning of a page walk.

        A first stage begins at FSPTPTR, which under nesting is itself an address for the second stage; a second stage
        at SSPTPTR; either at the table that the paging-structure caches know.
        """
        seen, progress, address = self._seen, self.decision.progress, self._request.address
        second_only = space.mode == TranslationMode.SECOND_STAGE
        first_level = Mux(space.first_5_level, C(5, 3), C(4, 3))
        second_level = top_level(space.second_levels)
        hint_level = Mux(seen.hint_level_2, C(2, 3), C(1, 3))
        first_entry = Cat(C(0, 3), index(address, first_level), space.first_root)
        first_phase = Mux(seen.enters_nested, Phase.SECOND_STAGE_TABLE, Phase.FIRST_STAGE)
        phase = Mux(second_only, Phase.SECOND_STAGE_FINAL, first_phase)
        m.d.comb += [
            self.input_address.eq(first_entry),
            Value.cast(progress.phase).eq(phase),
            progress.first_level.eq(Mux(seen.hinted, hint_level, first_level)),
            progress.second_level.eq(Mux(seen.hinted, hint_level, second_level)),
            progress.first_size.eq(PageSize.SIZE_1G),
            progress.first_write.eq(1),
            progress.first_user.eq(1),
            progress.second_read.eq(1),
            progress.second_write.eq(1),
            progress.table_write.eq(1),
        ]

    def _choose_address(self, m, is_kind, grants):
        """Where the entry lies in the page, or page and a bit more, that the first cycle chose; or what is granted."""
        cfg, seen, source = self.cfg, self._seen, self._request.source_id
        pasid = seen.identity.pasid
        offset = one_of(
            [
                (is_kind[StructureKind.START], Cat(C(0, 4), source[8:])),
                (is_kind[StructureKind.ROOT], Cat(C(0, 5), source[:7])),
                (is_kind[StructureKind.LEGACY_ROOT], Cat(C(0, 4), source[:8])),
                (is_kind[StructureKind.CONTEXT], Cat(C(0, 3), pasid[6:15])),
                (is_kind[StructureKind.DIRECTORY], Cat(C(0, 6), pasid[:6])),
                (seen.hinted, Cat(C(0, 3), seen.hint_index)),
                (seen.enters_first, Cat(C(0, 3), seen.first_index)),
                (seen.enters_second, Cat(C(0, 3), seen.second_index)),
                (seen.enters_nested, Cat(C(0, 3), seen.nested_index)),
            ]
        )
        # The PASID directory spans up to 32 pages from any 4 KiB boundary (§2.5), the other tables lie within a page.
        beyond = pasid[15:] & is_kind[StructureKind.CONTEXT].replicate(5)
        entry = Cat(offset, (seen.base + beyond)[: cfg.page_bits])
        m.d.comb += self.decision.address.eq(Mux(grants, self._request.address[: cfg.haw], entry))

    def _elaborate_fault(self, m, is_kind) -> Value:
        """Set the decision's fault to the first that applies; the value says whether there is one."""
        seen, gates = self._seen, self._seen.gates

        of_entry = (seen.error, seen.absent, seen.reserved, seen.invalid)
        entries = {
            StructureKind.ROOT: (R.SRT_1, R.SRT_2, R.SRT_3),
            StructureKind.LEGACY_ROOT: (R.LRT_1, R.LRT_2, R.LRT_3),
            StructureKind.CONTEXT: (R.SCT_1, R.SCT_2, R.SCT_3, R.SCT_4),
            StructureKind.LEGACY_CONTEXT: (R.LCT_1, R.LCT_2, R.LCT_3, R.LCT_4),
            StructureKind.DIRECTORY: (R.SPD_1, R.SPD_2, R.SPD_3),
            StructureKind.PASID: (R.SPT_1, R.SPT_2, R.SPT_3, R.SPT_4),
        }
        requests = {
            StructureKind.START: [
                (gates.unsupported_type, R.NONE),
                (gates.bad_interrupt, R.INTERRUPT_BAD_REQUEST),
                (gates.bad_mode, R.RTA_1),
                (gates.page_request_in_legacy, R.RTA_3),
                (gates.pasid_in_legacy, R.RTA_2),
                (gates.late_execute, R.RTA_5),
            ],
            StructureKind.CONTEXT: [
                (gates.pasid_disabled, R.SCT_6),
                (gates.page_requests_disabled, R.SCT_8),
                (gates.pasid_too_wide, R.SGN_10),
                (gates.pasid_beyond, R.SCT_7),
                (gates.pasid_is_rid_pasid, R.SCT_9),
            ],
            StructureKind.LEGACY_CONTEXT: [
                (gates.beyond_second_stage | gates.beyond_host, R.LGN_1),
                (gates.to_interrupt, R.LGN_4),
            ],
            StructureKind.PASID: [
                (gates.execute, R.SPT_5),
                (gates.supervisor, R.SPT_6),
                (gates.non_canonical, R.SGN_1),
                (gates.beyond_second_stage, R.SGN_5),
                (gates.beyond_host, R.SGN_4),
                (gates.to_interrupt, R.SGN_8),
            ],
        }
        codes, found = [], [*of_entry]
        for kind, here in is_kind.items():
            reasons, shut = entries.get(kind, ()), requests.get(kind, [])
            code, _faulty = first_fault([*zip(of_entry, reasons, strict=False), *shut])
            codes.append((here, code))
            # A page request does not go beyond the address space.
            met = here & ~seen.page_request if kind is StructureKind.PASID else here
            found += [met & condition for condition, _reason in shut]
        m.d.comb += Value.cast(self.decision.fault).eq(one_of(codes))
        return Cat(found).any()

    def _choose_kind(self, m, is_kind):
        """Kind of the next table entry."""
        after = {
            StructureKind.ROOT: StructureKind.CONTEXT,
            StructureKind.LEGACY_ROOT: StructureKind.LEGACY_CONTEXT,
            StructureKind.CONTEXT: StructureKind.DIRECTORY,
            StructureKind.DIRECTORY: StructureKind.PASID,
        }
        root = Mux(self._seen.gates.legacy, StructureKind.LEGACY_ROOT, StructureKind.ROOT)
        choices = [(is_kind[StructureKind.START], Value.cast(root))]
        choices += [(is_kind[kind], C(following.value, 3)) for kind, following in after.items()]
        m.d.comb += Value.cast(self.kind).eq(one_of(choices))
