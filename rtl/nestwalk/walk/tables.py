"""The table step: from the root table to the address space of a request (§3.3, §3.4)."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..bus.translation import PageSize, RootPointer, TranslationRequest
from ..config import IommuConfig
from ..formats.fault import FaultReason as R
from ..formats.fault import is_qualified
from ..formats.pasid import TranslationMode
from ..lookup.configuration import AddressSpace
from ..lookup.structure_caches import StructureHint, TableLevel
from .address import index, one_of
from .gates import Gates, check_gates
from .state import Action, Decision, Phase, StructureKind, TableEvent

__all__ = ["TableStep", "enter_pages"]


def enter_pages(m: Module, cfg: IommuConfig, request, space, progress) -> Value:
    """Set ``progress`` to the beginning of a page walk; the value is the host address of the first entry to read.

    A first stage begins at FSPTPTR, which under nesting is itself an address for the second stage; a second stage at
    SSPTPTR.
    """
    address = request.address
    nested = space.mode == TranslationMode.NESTED
    second_only = space.mode == TranslationMode.SECOND_STAGE
    first_level = Mux(space.first_5_level, C(5, 3), C(4, 3))
    second_level = (space.second_levels + 2)[:3]
    first_entry = Cat(C(0, 3), index(address, first_level), space.first_root)
    input_address = Mux(second_only, address[:57], first_entry)
    second_entry = Cat(C(0, 3), index(input_address, second_level), space.second_root)
    entry = Mux(second_only | nested, second_entry, first_entry)
    first_phase = Mux(nested, Phase.SECOND_STAGE_TABLE, Phase.FIRST_STAGE)
    phase = Mux(second_only, Phase.SECOND_STAGE_FINAL, first_phase)
    m.d.comb += [
        Value.cast(progress.phase).eq(phase),
        progress.first_level.eq(first_level),
        progress.second_level.eq(second_level),
        progress.first_size.eq(PageSize.SIZE_1G),
        progress.address.eq(input_address),
        progress.first_write.eq(1),
        progress.first_user.eq(1),
        progress.second_read.eq(1),
        progress.second_write.eq(1),
        progress.table_write.eq(1),
        progress.entry.eq(entry[3:]),
    ]
    return entry


class TableStep(wiring.Component):
    """Decides what follows from a table entry. Two cycles: the gates are registered, then the decision is
    combinational.

    The order of the checks is that of §3.3: access error, not present, reserved, invalid programming, then the gates
    for the
    request. The last table entry leads to the first paging entry, or grants (pass-through).

    Parameters
    ----------
    cfg : IommuConfig

    Attributes
    ----------
    request, root_pointer, event : In
        The request, its snapshot (counts for `StructureKind.START`) and what arrived for it.
    from_cache : In(1)
        The event is a cache's, so that ``event.space`` holds the PASID too.
    space : In(AddressSpace)
        What the slot knows so far: PASID and gathered FPD.
    hint_hit, hint : In
        The table that the paging-structure caches knew for the request.
    decision : Out(Decision)
        One cycle later. ``decision.space`` is the slot's new state.
    known : Out(1)
        With ``decision``: the whole address space is known from here on.
    """

    def __init__(self, cfg: IommuConfig):
        self.cfg = cfg
        super().__init__(
            {
                "request": In(TranslationRequest(cfg)),
                "root_pointer": In(RootPointer(cfg)),
                "event": In(TableEvent(cfg)),
                "from_cache": In(1),
                "space": In(AddressSpace(cfg)),
                "hint_hit": In(1),
                "hint": In(StructureHint(cfg)),
                "decision": Out(Decision(cfg)),
                "known": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        cfg, decision = self.cfg, self.decision
        request, event, space = Signal(TranslationRequest(cfg)), Signal(TableEvent(cfg)), Signal(AddressSpace(cfg))
        root_table, from_cache, gates = Signal(cfg.page_bits), Signal(), Signal(Gates)
        checked = check_gates(cfg, self.request, self.root_pointer.mode, self.event)
        m.d.sync += [
            request.eq(self.request),
            event.eq(self.event),
            space.eq(self.space),
            root_table.eq(self.root_pointer.root_table),
            from_cache.eq(self.from_cache),
        ]
        m.d.sync += [gates[name].eq(value) for name, value in checked.items()]
        is_kind = {kind: event.kind == kind for kind in StructureKind}
        enters = is_kind[StructureKind.PASID] | is_kind[StructureKind.LEGACY_CONTEXT]
        pasid = Mux(request.pasid_valid, request.pasid, event.context.rid_pasid)

        faulty = self._elaborate_fault(m, event, gates, is_kind)
        self._elaborate_read(m, request, event, space, gates, root_table, pasid, is_kind)
        first_entry = Signal(cfg.haw)
        m.d.comb += first_entry.eq(enter_pages(m, cfg, request, event.space, decision.progress))
        hint, fits = self._register_hint(m)
        hinted = enters & fits
        with m.If(enters):
            m.d.comb += decision.address.eq(first_entry)
        with m.If(hinted):
            self._use_hint(m, request, hint)

        # The slot's new state.
        fpd = event.fpd | (space.fpd & ~from_cache)
        m.d.comb += [
            self.known.eq(enters),
            decision.space.eq(Mux(enters, event.space.as_value(), space.as_value())),
            decision.space.fpd.eq(fpd),
            decision.recorded.eq(~(fpd & is_qualified(decision.fault)) & ~gates.unsupported_type),
        ]
        with m.If(is_kind[StructureKind.CONTEXT]):
            m.d.comb += decision.space.pasid.eq(pasid)
        with m.Elif(is_kind[StructureKind.PASID] & ~from_cache):
            m.d.comb += decision.space.pasid.eq(space.pasid)

        interrupt = is_kind[StructureKind.START] & gates.interrupt_request
        pass_through = enters & (event.space.mode == TranslationMode.PASS_THROUGH)
        with m.If(faulty):
            m.d.comb += decision.action.eq(Action.FAULT)
        with m.Elif(interrupt | pass_through):
            m.d.comb += [decision.action.eq(Action.GRANT), decision.address.eq(request.address)]
        with m.Elif(enters):
            guest = (event.space.mode == TranslationMode.NESTED) & ~hinted
            m.d.comb += decision.action.eq(Mux(guest, Action.LOOKUP_GUEST, Action.READ_ENTRY))
        with m.Else():
            m.d.comb += decision.action.eq(Action.READ_STRUCTURE)
        allowed = decision.permissions
        m.d.comb += [
            # Stored with the 2 MiB pages; whoever asks learns no size from pass-through.
            decision.size.eq(PageSize.SIZE_2M),
            decision.cached.eq(pass_through),
            allowed.user_read.eq(1),
            allowed.user_write.eq(1),
            allowed.privileged_read.eq(event.space.sre),
            allowed.privileged_write.eq(event.space.sre),
        ]
        return m

    def _register_hint(self, m) -> tuple[data.View, Signal]:
        """What the caches knew, and whether it is of the address space that the same event brings (§8.1)."""
        space = self.event.space
        hint, fits = Signal(StructureHint(self.cfg)), Signal()
        same_space = (self.hint.domain_id == space.domain_id) & (self.hint.pasid == space.pasid)
        first = (space.mode == TranslationMode.FIRST_STAGE) | (space.mode == TranslationMode.NESTED)
        m.d.sync += [
            hint.eq(self.hint),
            fits.eq(self.hint_hit & self.from_cache & same_space & (self.hint.first_stage == first)),
        ]
        return hint, fits

    def _use_hint(self, m, request, hint) -> None:
        """Begin at the table that the caches knew."""
        progress = self.decision.progress
        level = Mux(hint.level == TableLevel.LEVEL_2, C(2, 3), C(1, 3))
        entry = Cat(C(0, 3), index(request.address, level), hint.table)
        m.d.comb += [self.decision.address.eq(entry), progress.entry.eq(entry[3:])]
        with m.If(hint.first_stage):
            m.d.comb += [progress.phase.eq(Phase.FIRST_STAGE), progress.first_level.eq(level)]
        with m.Else():
            m.d.comb += progress.second_level.eq(level)

    def _elaborate_fault(self, m, event, gates, is_kind) -> Value:
        """Set the decision's fault to the first that applies; the value says whether there is one."""

        def entry(error, absent, reserved, invalid=None):
            faults = [(event.error, error), (~event.present, absent), (event.reserved, reserved)]
            return faults if invalid is None else [*faults, (event.invalid, invalid)]

        faults = {
            StructureKind.START: [
                (gates.unsupported_type, R.NONE),
                (gates.bad_interrupt, R.INTERRUPT_BAD_REQUEST),
                (gates.bad_mode, R.RTA_1),
                (gates.pasid_in_legacy, R.RTA_2),
                (gates.late_execute, R.RTA_5),
            ],
            StructureKind.ROOT: entry(R.SRT_1, R.SRT_2, R.SRT_3),
            StructureKind.LEGACY_ROOT: entry(R.LRT_1, R.LRT_2, R.LRT_3),
            StructureKind.CONTEXT: [
                *entry(R.SCT_1, R.SCT_2, R.SCT_3, R.SCT_4),
                (gates.pasid_disabled, R.SCT_6),
                (gates.pasid_too_wide, R.SGN_10),
                (gates.pasid_beyond, R.SCT_7),
                (gates.pasid_is_rid_pasid, R.SCT_9),
            ],
            StructureKind.LEGACY_CONTEXT: [
                *entry(R.LCT_1, R.LCT_2, R.LCT_3, R.LCT_4),
                (gates.beyond_second_stage | gates.beyond_host, R.LGN_1),
                (gates.to_interrupt, R.LGN_4),
            ],
            StructureKind.DIRECTORY: entry(R.SPD_1, R.SPD_2, R.SPD_3),
            StructureKind.PASID: [
                *entry(R.SPT_1, R.SPT_2, R.SPT_3, R.SPT_4),
                (gates.execute, R.SPT_5),
                (gates.supervisor, R.SPT_6),
                (gates.non_canonical, R.SGN_1),
                (gates.beyond_second_stage, R.SGN_5),
                (gates.beyond_host, R.SGN_4),
                (gates.to_interrupt, R.SGN_8),
            ],
        }
        faulty = Signal()
        for kind, conditions in faults.items():
            for condition, reason in reversed(conditions):
                with m.If(is_kind[kind] & condition):
                    m.d.comb += [self.decision.fault.eq(reason), faulty.eq(1)]
        return faulty

    def _elaborate_read(self, m, request, event, space, gates, root_table, pasid, is_kind):
        """Address and kind of the next table entry."""
        source, cfg = request.source_id, self.cfg
        # The PASID directory spans up to 32 pages from any 4 KiB boundary (§2.5), the other tables lie within a page.
        directory = (Cat(C(0, 12), event.context.directory) + Cat(C(0, 3), pasid[6:]))[: cfg.haw]
        m.d.comb += self.decision.address.eq(
            one_of(
                [
                    (is_kind[StructureKind.START], Cat(C(0, 4), source[8:], root_table)),
                    (is_kind[StructureKind.ROOT], Cat(C(0, 5), source[:7], event.page)),
                    (is_kind[StructureKind.LEGACY_ROOT], Cat(C(0, 4), source[:8], event.page)),
                    (is_kind[StructureKind.CONTEXT], directory),
                    (is_kind[StructureKind.DIRECTORY], Cat(C(0, 6), space.pasid[:6], event.page)),
                ]
            )
        )
        after = {
            StructureKind.ROOT: StructureKind.CONTEXT,
            StructureKind.LEGACY_ROOT: StructureKind.LEGACY_CONTEXT,
            StructureKind.CONTEXT: StructureKind.DIRECTORY,
            StructureKind.DIRECTORY: StructureKind.PASID,
        }
        root = Mux(gates.legacy, StructureKind.LEGACY_ROOT, StructureKind.ROOT)
        choices = [(is_kind[StructureKind.START], Value.cast(root))]
        choices += [(is_kind[kind], C(following.value, 3)) for kind, following in after.items()]
        m.d.comb += Value.cast(self.decision.kind).eq(one_of(choices))
