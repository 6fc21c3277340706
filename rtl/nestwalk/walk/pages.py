"""The page step: one paging entry of a first-stage, second-stage or nested walk (§3.5, §3.8)."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..bus.translation import Access, TranslationRequest
from ..config import IommuConfig
from ..formats.fault import FaultReason as R
from ..formats.fault import is_qualified
from ..formats.first_stage import FirstStageEntry
from ..formats.pasid import TranslationMode
from ..formats.second_stage import SecondStageEntry
from ..lookup.configuration import AddressSpace
from .address import index, leaf_size, page_address
from .gates import INTERRUPT_PAGES
from .state import Action, Decision, Leaf, Phase, Progress

__all__ = ["PageStep"]


class _Seen(data.StructLayout):
    """What the first cycle finds out about an entry, for the second."""

    def __init__(self, cfg: IommuConfig):
        super().__init__(
            {
                "error": 1,
                "update_failed": 1,
                "present": 1,
                "reserved": 1,
                "beyond": 1,
                "leaf": 1,
                "top": 1,
                "to_interrupt": 1,
                "unchanged": 1,
                "level": 3,
                "page": cfg.page_bits,
                "output": cfg.haw,
                "first_index": 9,
                "second_index": 9,
                "top_index": 9,
                "write": 1,
                "read": 1,
                "user_read": 1,
                "accessed": 1,
                "dirty": 1,
                "value": 64,
            }
        )


class PageStep(wiring.Component):
    """Decides what follows from a paging entry. Two cycles: what the entry says is registered, then the decision is
    combinational.

    ::

                       ┌── nested ──> SECOND_STAGE_TABLE ... leaf ──┐
        enter ──> first-stage entry <───────────────────────────────┘
                       │ leaf                        not nested: set bits, grant
                       └── nested ──> SECOND_STAGE_FINAL ... leaf ──> UPDATE (bits of the first-stage leaf) ──> grant

    The order within an entry is: access error, present, reserved, address range, permission, accessed and dirty bits.
    First-stage permissions are decided at the level where they are lost; those of the second stage at its leaf, or
    where neither is left (legacy: where the requested one is lost). The bits of a first-stage leaf are set after every
    check of the request, those above when the entry is met (§3.8).

    Parameters
    ----------
    cfg : IommuConfig

    Attributes
    ----------
    request, space, progress, leaf : In
        The slot's state.
    value : In(64)
        The entry.
    error : In(1)
        Its read failed.
    update_failed : In(1)
        Setting its bits failed.
    guest_page : Out
        In the same cycle: the page that a first-stage entry leads to, which is guest-physical under nesting.
    decision : Out(Decision)
        One cycle later.
    """

    def __init__(self, cfg: IommuConfig):
        self.cfg = cfg
        super().__init__(
            {
                "request": In(TranslationRequest(cfg)),
                "space": In(AddressSpace(cfg)),
                "progress": In(Progress(cfg)),
                "leaf": In(Leaf(cfg)),
                "value": In(64),
                "error": In(1),
                "update_failed": In(1),
                "guest_page": Out(cfg.page_bits),
                "decision": Out(Decision(cfg)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        cfg = self.cfg
        self._request, self._space = Signal(TranslationRequest(cfg)), Signal(AddressSpace(cfg))
        self._progress, self._leaf, self._seen = Signal(Progress(cfg)), Signal(Leaf(cfg)), Signal(_Seen(cfg))
        m.d.sync += [
            self._request.eq(self.request),
            self._space.eq(self.space),
            self._progress.eq(self.progress),
            self._leaf.eq(self.leaf),
        ]
        self._see(m)

        request, space, decision = self._request, self._space, self.decision
        self._user = ~(request.privileged & request.pasid_valid)
        self._writes = (request.access == Access.WRITE) | (request.access == Access.ATOMIC)
        self._nested = space.mode == TranslationMode.NESTED
        m.d.comb += [
            decision.space.eq(space),
            decision.progress.eq(self._progress),
            decision.leaf.eq(self._leaf),
            decision.cached.eq(1),
            decision.recorded.eq(~(space.fpd & is_qualified(decision.fault))),
        ]
        phase = self._progress.phase
        with m.If(phase == Phase.FIRST_STAGE):
            self._first_stage(m)
        with m.Elif(phase == Phase.UPDATE):
            self._updated(m)
        with m.Else():
            self._second_stage(m)
        return m

    def _see(self, m):
        """First cycle: decode the entry for the stage that it belongs to."""
        cfg, seen = self.cfg, self._seen
        progress, space = self.progress, self.space
        first, second = FirstStageEntry(self.value), SecondStageEntry(self.value)
        is_first = (progress.phase == Phase.FIRST_STAGE) | (progress.phase == Phase.UPDATE)
        level = Mux(is_first, progress.first_level, progress.second_level)
        second_top = (space.second_levels + 2)[:3]
        first_top = Mux(space.first_5_level, C(5, 3), C(4, 3))
        page = self.value[12 : cfg.haw]
        page_as_address = Cat(C(0, 12), page, C(0, 57 - cfg.haw))
        source = Mux(is_first, self.request.address[:57], progress.address)
        output = page_address(page, source, level)[: cfg.haw]
        m.d.comb += self.guest_page.eq(Mux(first.is_leaf(progress.first_level), output[12:], page))
        beyond = C(0)
        for levels in sorted(cfg.second_stage_levels):
            width = cfg.second_stage_width(levels)
            beyond = beyond | ((space.second_levels == levels - 2) & self.value[min(width, 52) : 52].any())
        m.d.sync += [
            seen.error.eq(self.error),
            seen.update_failed.eq(self.update_failed),
            seen.present.eq(Mux(is_first, first.present(), second.present())),
            seen.reserved.eq(
                Mux(
                    is_first,
                    first.reserved_set(cfg, progress.first_level),
                    second.reserved_set(cfg, progress.second_level),
                )
            ),
            seen.beyond.eq(beyond & (space.mode == TranslationMode.NESTED)),
            seen.leaf.eq(Mux(is_first, first.is_leaf(progress.first_level), second.is_leaf(progress.second_level))),
            seen.top.eq(Mux(is_first, progress.first_level == first_top, progress.second_level == second_top)),
            seen.to_interrupt.eq(output[20:] == INTERRUPT_PAGES),
            seen.unchanged.eq(self.value & ~C(0x460, 64) == self.leaf.value & ~C(0x460, 64)),
            seen.level.eq(level),
            seen.page.eq(page),
            seen.output.eq(output),
            seen.first_index.eq(index(self.request.address[:57], (progress.first_level - 1)[:3])),
            seen.second_index.eq(index(progress.address, (progress.second_level - 1)[:3])),
            seen.top_index.eq(index(page_as_address, second_top)),
            seen.read.eq(second.r),
            seen.write.eq(Mux(is_first, first.rw, second.w)),
            seen.user_read.eq(first.us),
            seen.accessed.eq(first.a & (first.ea | ~space.eafe)),
            seen.dirty.eq(first.d),
            seen.value.eq(self.value),
        ]

    def _fault(self, m, conditions) -> Value:
        """Set the decision to the first fault that applies; the value says whether there is one."""
        faulty = Signal()
        for condition, reason in reversed(conditions):
            with m.If(condition):
                m.d.comb += [Value.cast(self.decision.fault).eq(reason), faulty.eq(1)]
        with m.If(faulty):
            m.d.comb += self.decision.action.eq(Action.FAULT)
        return faulty

    def _first_mask(self, dirty: Value) -> Value:
        """Bits that the request needs in a first-stage entry: A, EA where EAFE, D where ``dirty``."""
        return Cat(C(0, 5), C(1, 1), dirty, C(0, 3), self._space.eafe, C(0, 53))

    def _first_stage(self, m):
        """A first-stage entry."""
        seen, space, progress, decision = self._seen, self._space, self._progress, self.decision
        after = decision.progress
        obeys_read_only = self._user | space.wpe
        sets_bits = ~seen.accessed | (seen.leaf & self._writes & ~seen.dirty)
        may_set = space.pwsnp & (progress.table_write | ~self._nested)
        # Under nesting the bits of a leaf wait for the second stage's word on the page.
        updates = sets_bits & ~(seen.leaf & self._nested)
        ends = seen.leaf & ~self._nested
        faulty = self._fault(
            m,
            [
                (seen.update_failed, R.SFS_10),
                (seen.error, Mux(seen.top, R.SFS_4, R.SFS_1)),
                (~seen.present, R.SFS_2),
                (seen.reserved, R.SFS_3),
                (seen.beyond, R.SFS_5),
                (self._user & ~seen.user_read, R.SGN_2),
                (self._writes & ~seen.write & obeys_read_only, R.SGN_6),
                (ends & seen.to_interrupt, R.SGN_8),
                (updates & ~may_set, Mux(space.pwsnp, R.SFS_8, R.SFS_9)),
            ],
        )
        m.d.comb += [
            after.first_write.eq(progress.first_write & seen.write),
            after.first_user.eq(progress.first_user & seen.user_read),
            decision.expected.eq(seen.value),
            decision.mask.eq(self._first_mask(ends & self._writes)),
        ]
        with m.If(faulty):
            pass
        with m.Elif(updates):
            m.d.comb += [
                decision.action.eq(Action.UPDATE),
                decision.address.eq(Cat(C(0, 3), progress.entry)),
                decision.progress.eq(progress),
            ]
        with m.Elif(ends):
            self._grant(m, first_dirty=seen.dirty, first_size=leaf_size(seen.level))
        with m.Else():
            self._after_first(m)

    def _after_first(self, m):
        """Go on from a first-stage entry: to the next one, under nesting through the second stage first."""
        seen, space, progress, decision = self._seen, self._space, self._progress, self.decision
        after = decision.progress
        next_entry = Cat(C(0, 3), seen.first_index, seen.page)
        second_entry = Cat(C(0, 3), seen.top_index, space.second_root)
        address = Mux(self._nested, second_entry, next_entry)
        m.d.comb += [
            decision.action.eq(Mux(self._nested, Action.LOOKUP_GUEST, Action.READ_ENTRY)),
            decision.address.eq(address),
            after.entry.eq(address[3:]),
            after.second_level.eq(space.second_levels + 2),
            after.second_read.eq(1),
            after.second_write.eq(1),
            after.address.eq(Mux(seen.leaf, seen.output, next_entry)),
        ]
        with m.If(seen.leaf):
            m.d.comb += [
                Value.cast(after.first_size).eq(leaf_size(seen.level)),
                after.phase.eq(Phase.SECOND_STAGE_FINAL),
                decision.leaf.value.eq(seen.value),
                decision.leaf.entry.eq(progress.entry),
                decision.leaf.table_write.eq(progress.table_write),
            ]
        with m.Else():
            m.d.comb += [
                after.first_level.eq(seen.level - 1),
                Value.cast(after.phase).eq(Mux(self._nested, Phase.SECOND_STAGE_TABLE, Phase.FIRST_STAGE)),
            ]

    def _second_stage(self, m):
        """A second-stage entry."""
        seen, space, progress, decision = self._seen, self._space, self._progress, self.decision
        legacy, after = space.legacy, decision.progress
        final = progress.phase == Phase.SECOND_STAGE_FINAL
        read, write = progress.second_read & seen.read, progress.second_write & seen.write
        zero_length = (self._request.access == Access.ZERO_LENGTH_READ) & self.cfg.zero_length_read
        lacks_write = self._writes & ~write
        lacks_read = (self._request.access != Access.WRITE) & ~read & ~(zero_length & write)
        lacks = lacks_write | lacks_read
        lost = Mux(lacks_write, R.LGN_2, R.LGN_3)
        checks_page = seen.leaf & final
        first_top = Mux(space.first_5_level, C(5, 3), C(4, 3))
        leaf = FirstStageEntry(self._leaf.value)
        leaf_accessed = leaf.a & (leaf.ea | ~space.eafe)
        updates = self._nested & checks_page & (~leaf_accessed | (self._writes & ~leaf.d))
        may_set = space.pwsnp & self._leaf.table_write
        faulty = self._fault(
            m,
            [
                (
                    seen.error,
                    Mux(legacy, Mux(seen.top, R.LCT_4, R.LSS_1), Mux(seen.top, R.SSS_4, R.SSS_1)),
                ),
                (~seen.present, Mux(legacy, lost, R.SSS_2)),
                (seen.reserved, Mux(legacy, R.LSS_2, R.SSS_3)),
                (legacy & lacks, lost),
                (~read & ~write, R.SSS_2),
                (seen.leaf & ~final & ~read, Mux(progress.first_level == first_top, R.SFS_6, R.SFS_7)),
                (checks_page & lacks, Mux(lacks_write, R.SGN_6, R.SGN_7)),
                (checks_page & seen.to_interrupt, Mux(legacy, R.LGN_4, R.SGN_8)),
                (updates & ~may_set, Mux(space.pwsnp, R.SFS_8, R.SFS_9)),
            ],
        )
        m.d.comb += [
            after.second_read.eq(read),
            after.second_write.eq(write),
            decision.expected.eq(self._leaf.value),
            decision.mask.eq(self._first_mask(self._writes)),
        ]
        next_entry = Cat(C(0, 3), seen.second_index, seen.page)
        with m.If(faulty):
            pass
        with m.Elif(updates):
            # The answer waits in ``address`` and the second stage's permissions for the first-stage leaf's bits.
            m.d.comb += [
                decision.action.eq(Action.UPDATE),
                decision.address.eq(Cat(C(0, 3), self._leaf.entry)),
                after.phase.eq(Phase.UPDATE),
                after.address.eq(seen.output),
                after.second_level.eq(seen.level),
            ]
        with m.Elif(checks_page):
            self._grant(m, first_dirty=leaf.d, second_size=leaf_size(seen.level), read=read, write=write)
        with m.Else():
            address = Mux(seen.leaf, seen.output, next_entry)
            m.d.comb += [
                decision.action.eq(Action.READ_ENTRY),
                decision.address.eq(address),
                after.entry.eq(address[3:]),
            ]
            with m.If(seen.leaf):
                m.d.comb += [after.phase.eq(Phase.FIRST_STAGE), after.table_write.eq(write)]
            with m.Else():
                m.d.comb += after.second_level.eq(seen.level - 1)

    def _updated(self, m):
        """The first-stage leaf of a nested walk after its bits were set; if it changed, the walk starts again."""
        seen, progress = self._seen, self._progress
        faulty = self._fault(m, [(seen.update_failed, R.SFS_10)])
        enough = seen.accessed & (seen.dirty | ~self._writes)
        with m.If(faulty):
            pass
        with m.Elif(seen.unchanged & enough):
            self._grant(
                m,
                first_dirty=seen.dirty,
                second_size=leaf_size(progress.second_level),
                read=progress.second_read,
                write=progress.second_write,
            )
            m.d.comb += self.decision.address.eq(progress.address)
        with m.Else():
            m.d.comb += self.decision.action.eq(Action.RESTART)

    def _grant(self, m, *, first_dirty, first_size=None, second_size=None, read=1, write=1):
        """Answer with the page at hand and the permissions of both stages."""
        seen, space, progress, decision = self._seen, self._space, self._progress, self.decision
        first = space.mode != TranslationMode.SECOND_STAGE
        first_write = decision.progress.first_write | ~first
        user = decision.progress.first_user | ~first
        sizes = [Value.cast(progress.first_size) if size is None else size for size in (first_size, second_size)]
        if second_size is None:
            sizes = sizes[:1]
        smallest = sizes[0] if len(sizes) == 1 else Mux(sizes[0] < sizes[1], *sizes)
        writable = write & (first_dirty | ~first)
        allowed = decision.permissions
        m.d.comb += [
            decision.action.eq(Action.GRANT),
            decision.address.eq(seen.output),
            Value.cast(decision.size).eq(smallest),
            allowed.user_read.eq(read & user),
            allowed.user_write.eq(writable & user & first_write),
            allowed.privileged_read.eq(read & space.sre),
            allowed.privileged_write.eq(writable & (first_write | ~space.wpe) & space.sre),
        ]
