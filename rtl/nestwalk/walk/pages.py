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
from .address import leaf_size, one_of, page_address, top_level
from .first_fault import first_fault
from .gates import INTERRUPT_PAGES
from .state import Action, Decision, Phase, Progress

__all__ = ["PageStep"]


class _Seen(data.StructLayout):
    """What the first cycle finds out about an entry, for the second.

    ``target`` is where the entry leads: the next entry of the same stage, the place in the page, or after an update
    what has waited for it. ``value`` is the entry that may have to be changed: a first-stage one.
    """

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
                "first_top": 1,
                "to_interrupt": 1,
                "unchanged": 1,
                "level": 3,
                "target": cfg.haw,
                "top_index": 9,
                "write": 1,
                "read": 1,
                "user_read": 1,
                "value": 64,
            }
        )


class _Choice(data.Struct):
    """Which address a decision is about; without either where the entry leads."""

    entry: 1  # the last first-stage entry
    second_root: 1  # the top of the second stage


class PageStep(wiring.Component):
    """Decides what follows from a paging entry. Two cycles: what the entry says is registered, then the decision is
    combinational.

    ::

                       ┌── nested ──> SECOND_STAGE_TABLE ... leaf ──┐
        enter ──> first-stage entry <───────────────────────────────┤
                       │ leaf                        not nested: set bits, grant
                       └── nested ──> SECOND_STAGE_FINAL ... leaf ──> UPDATE (bits of the first-stage leaf) ──> grant
                                                                      └── changed meanwhile: read it again

    The order within an entry is: access error, present, reserved, address range, permission, accessed and dirty bits.
    First-stage permissions are decided at the level where they are lost; those of the second stage at its leaf, or
    where neither is left (legacy: where the requested one is lost). The bits of a first-stage leaf are set after every
    check of the request, those above when the entry is met (§3.8).

    Parameters
    ----------
    cfg : IommuConfig

    Attributes
    ----------
    request, space, progress, entry, address, leaf : In
        The slot's state; ``leaf`` (64 bits) is the first-stage leaf of a nested walk, whose bits wait.
    value : In(64)
        The entry.
    error : In(1)
        Its read failed.
    update_failed : In(1)
        Setting its bits failed.
    guest_page : Out
        In the same cycle: the page that a first-stage entry leads to, which is guest-physical under nesting.
    decision : Out(Decision)
        One cycle later, as the others below.
    expected, mask : Out(64)
        What `Action.UPDATE` finds and sets.
    next_address, sets_address : Out
        The slot's new ``address``, if it changes.
    sets_leaf : Out(1)
        ``expected`` is the slot's new ``leaf``.
    """

    def __init__(self, cfg: IommuConfig):
        self.cfg = cfg
        super().__init__(
            {
                "request": In(TranslationRequest(cfg)),
                "space": In(AddressSpace(cfg)),
                "progress": In(Progress),
                "entry": In(cfg.haw - 3),
                "address": In(cfg.haw),
                "leaf": In(64),
                "value": In(64),
                "error": In(1),
                "update_failed": In(1),
                "guest_page": Out(cfg.page_bits),
                "decision": Out(Decision(cfg)),
                "expected": Out(64),
                "mask": Out(64),
                "next_address": Out(cfg.haw),
                "sets_address": Out(1),
                "sets_leaf": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        cfg = self.cfg
        self._request = Signal(TranslationRequest(cfg), reset_less=True)
        self._space = Signal(AddressSpace(cfg), reset_less=True)
        self._progress = Signal(Progress, reset_less=True)
        self._entry = Signal(cfg.haw - 3, reset_less=True)
        self._seen = Signal(_Seen(cfg), reset_less=True)
        m.d.sync += [
            self._request.eq(self.request),
            self._space.eq(self.space),
            self._progress.eq(self.progress),
            self._entry.eq(self.entry),
        ]
        self._see(m)

        seen, space, progress, decision = self._seen, self._space, self._progress, self.decision
        self._user = ~(self._request.privileged & self._request.pasid_valid)
        self._writes = (self._request.access == Access.WRITE) | (self._request.access == Access.ATOMIC)
        self._nested = space.mode == TranslationMode.NESTED
        first, updated = progress.phase == Phase.FIRST_STAGE, progress.phase == Phase.UPDATE
        entry = FirstStageEntry(seen.value)
        self._accessed, self._dirty = entry.a & (entry.ea | ~space.eafe), entry.d
        self._choose = Signal(_Choice)
        m.d.comb += [
            decision.progress.eq(progress),
            decision.cached.eq(1),
            decision.recorded.eq(~(space.fpd & is_qualified(decision.fault))),
            self.expected.eq(seen.value),
            # A, EA where EAFE, D where the request writes to the page itself.
            self.mask.eq(Cat(C(0, 5), C(1, 1), self._writes & (seen.leaf | ~first), C(0, 3), space.eafe, C(0, 53))),
            self.next_address.eq(seen.target),
            self.sets_address.eq(first | (decision.action == Action.UPDATE)),
            self.sets_leaf.eq(first),
        ]
        with m.If(first):
            self._first_stage(m)
        with m.Elif(updated):
            self._updated(m)
        with m.Else():
            self._second_stage(m)
        self._grant(m, first, updated)
        second_entry = Cat(C(0, 3), seen.top_index, space.second_root)
        again = self._choose.entry
        m.d.comb += decision.address.eq(
            one_of(
                [
                    (again, Cat(C(0, 3), self._entry)),
                    (self._choose.second_root, second_entry),
                    (~again & ~self._choose.second_root, seen.target),
                ]
            )
        )
        return m

    def _see(self, m):
        """First cycle: decode the entry for the stage that it belongs to."""
        cfg, seen = self.cfg, self._seen
        progress, space, request = self.progress, self.space, self.request
        first, second = FirstStageEntry(self.value), SecondStageEntry(self.value)
        is_first, updated = progress.phase == Phase.FIRST_STAGE, progress.phase == Phase.UPDATE
        nested = space.mode == TranslationMode.NESTED
        level = Signal(3)
        second_top = top_level(space.second_levels)
        first_top = Mux(space.first_5_level, C(5, 3), C(4, 3))
        page = self.value[12 : cfg.haw]
        source = Mux(is_first | ~nested, request.address[:57], self.address)
        leaf = Mux(is_first, first.is_leaf(level), second.is_leaf(level))
        # The guest caches stand in for an entry above the top level too.
        next_index = one_of([(level == n + 1, source[3 + 9 * n : 12 + 9 * n]) for n in range(1, 6)])
        output = page_address(page, source, level)[: cfg.haw]
        target = Signal(cfg.haw)
        # In the table of the top level, which is 3 at least: bits of the guest-physical page.
        page_as_address = Cat(C(0, 12), page, C(0, 57 - cfg.haw))
        top_index = one_of([(second_top == n, page_as_address[3 + 9 * n : 12 + 9 * n]) for n in (3, 4, 5)])
        beyond = C(0)
        for levels in sorted(cfg.second_stage_levels):
            width = cfg.second_stage_width(levels)
            beyond = beyond | ((space.second_levels == levels - 2) & self.value[min(width, 52) : 52].any())
        m.d.comb += [
            level.eq(Mux(is_first, progress.first_level, progress.second_level)),
            target.eq(Mux(leaf, output, Cat(C(0, 3), next_index, page))),
            self.guest_page.eq(self._guest_page(first)),
        ]
        m.d.sync += [
            seen.error.eq(self.error),
            seen.update_failed.eq(self.update_failed),
            seen.present.eq(Mux(is_first, first.present(), second.present())),
            seen.reserved.eq(Mux(is_first, first.reserved_set(cfg, level), second.reserved_set(cfg, level))),
            seen.beyond.eq(beyond & nested),
            seen.leaf.eq(leaf),
            seen.top.eq(level == Mux(is_first, first_top, second_top)),
            seen.first_top.eq(progress.first_level == first_top),
            seen.to_interrupt.eq(output[20:] == INTERRUPT_PAGES),
            seen.unchanged.eq(self.value & ~C(0x460, 64) == self.leaf & ~C(0x460, 64)),
            seen.level.eq(level),
            seen.target.eq(Mux(updated, self.address, target)),
            seen.top_index.eq(top_index),
            seen.read.eq(second.r),
            seen.write.eq(self.value[1]),
            seen.user_read.eq(first.us),
            seen.value.eq(Mux(is_first | updated, self.value, self.leaf)),
        ]

    def _guest_page(self, entry) -> Value:
        """The page that a first-stage entry leads to, straight from its bits: on its way are hashes."""
        level, address, page = self.progress.first_level, self.request.address, self.value[12 : self.cfg.haw]
        of_1g = entry.ps & (level == 3)
        of_2m = entry.ps & (level == 2)
        return Cat(Mux(of_1g | of_2m, address[12:21], page[:9]), Mux(of_1g, address[21:30], page[9:18]), page[18:])

    def _fault(self, m, conditions) -> Value:
        """Set the decision to the first fault that applies; the value says whether there is one."""
        code, faulty = first_fault(conditions)
        m.d.comb += Value.cast(self.decision.fault).eq(code)
        with m.If(faulty):
            m.d.comb += self.decision.action.eq(Action.FAULT)
        return faulty

    def _first_stage(self, m):
        """A first-stage entry: set its bits, answer, or go on to the next one, under nesting by the second stage."""
        seen, space, progress, decision = self._seen, self._space, self._progress, self.decision
        after, nested = decision.progress, self._nested
        obeys_read_only = self._user | space.wpe
        sets_bits = ~self._accessed | (seen.leaf & self._writes & ~self._dirty)
        may_set = space.pwsnp & (progress.table_write | ~nested)
        # Under nesting the bits of a leaf wait for the second stage's word on the page.
        updates = sets_bits & ~(seen.leaf & nested)
        ends = seen.leaf & ~nested
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
        m.d.comb += [self._choose.entry.eq(updates), self._choose.second_root.eq(~updates & nested)]
        with m.If(~faulty):
            goes_on = Mux(nested, Action.LOOKUP_GUEST, Mux(seen.leaf, Action.GRANT, Action.READ_ENTRY))
            m.d.comb += Value.cast(decision.action).eq(Mux(updates, Action.UPDATE, goes_on))
        with m.If(~updates):
            m.d.comb += [
                after.first_write.eq(progress.first_write & seen.write),
                after.first_user.eq(progress.first_user & seen.user_read),
                after.second_level.eq(top_level(space.second_levels)),
                after.second_read.eq(1),
                after.second_write.eq(1),
            ]
            with m.If(seen.leaf):
                m.d.comb += [
                    Value.cast(after.first_size).eq(leaf_size(seen.level)),
                    after.phase.eq(Phase.SECOND_STAGE_FINAL),
                ]
            with m.Else():
                m.d.comb += [
                    after.first_level.eq(seen.level - 1),
                    Value.cast(after.phase).eq(Mux(nested, Phase.SECOND_STAGE_TABLE, Phase.FIRST_STAGE)),
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
        updates = self._nested & checks_page & (~self._accessed | (self._writes & ~self._dirty))
        may_set = space.pwsnp & progress.table_write
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
                (seen.leaf & ~final & ~read, Mux(seen.first_top, R.SFS_6, R.SFS_7)),
                (checks_page & lacks, Mux(lacks_write, R.SGN_6, R.SGN_7)),
                (checks_page & seen.to_interrupt, Mux(legacy, R.LGN_4, R.SGN_8)),
                (updates & ~may_set, Mux(space.pwsnp, R.SFS_8, R.SFS_9)),
            ],
        )
        m.d.comb += [
            self._choose.entry.eq(updates),
            after.second_read.eq(read),
            after.second_write.eq(write),
        ]
        with m.If(~faulty):
            goes_on = Mux(checks_page, Action.GRANT, Action.READ_ENTRY)
            m.d.comb += Value.cast(decision.action).eq(Mux(updates, Action.UPDATE, goes_on))
        with m.If(~seen.leaf):
            m.d.comb += after.second_level.eq(seen.level - 1)
        with m.Elif(final):
            # The answer waits in ``address`` and the second stage's permissions for the first-stage leaf's bits.
            m.d.comb += after.phase.eq(Phase.UPDATE)
        with m.Else():
            m.d.comb += [after.phase.eq(Phase.FIRST_STAGE), after.table_write.eq(write)]

    def _updated(self, m):
        """The first-stage leaf of a nested walk after its bits were set; if it changed, it is read again.

        What its former value forbade stays forbidden to what is cached, which costs a walk at most.
        """
        faulty = self._fault(m, [(self._seen.update_failed, R.SFS_10)])
        done = self._seen.unchanged & self._accessed & (self._dirty | ~self._writes)
        m.d.comb += self._choose.entry.eq(~done)
        with m.If(~faulty & done):
            m.d.comb += self.decision.action.eq(Action.GRANT)
        with m.Elif(~faulty):
            m.d.comb += [
                self.decision.action.eq(Action.READ_ENTRY),
                self.decision.progress.phase.eq(Phase.FIRST_STAGE),
            ]

    def _grant(self, m, is_first, updated):
        """What an answer allows: the permissions of both stages for the smaller page."""
        seen, space, progress, decision = self._seen, self._space, self._progress, self.decision
        first = space.mode != TranslationMode.SECOND_STAGE
        first_write = decision.progress.first_write | ~first
        user = decision.progress.first_user | ~first
        read = progress.second_read & (seen.read | is_first | updated)
        write = progress.second_write & (seen.write | is_first | updated)
        size, first_size = leaf_size(seen.level), Value.cast(progress.first_size)
        writable = write & (self._dirty | ~first)
        allowed = decision.permissions
        m.d.comb += [
            Value.cast(decision.size).eq(Mux(is_first | (size < first_size), size, first_size)),
            allowed.user_read.eq(read & user),
            allowed.user_write.eq(writable & user & first_write),
            allowed.privileged_read.eq(read & space.sre),
            allowed.privileged_write.eq(writable & (first_write | ~space.wpe) & space.sre),
        ]
