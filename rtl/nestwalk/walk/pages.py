"""The page step: one paging entry of a first-stage, second-stage or nested walk (§3.5, §3.8)."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..bus.translation import Access, TranslationRequest
from ..config import IommuConfig
from ..formats.fault import FaultReason as R
from ..formats.first_stage import FirstStageEntry
from ..formats.pasid import TranslationMode
from ..formats.second_stage import SecondStageEntry
from ..lookup.configuration import AddressSpace
from .address import beyond, first_stage_page, leaf_size, next_index, one_of, page_address, top_level
from .first_fault import first_fault
from .gates import INTERRUPT_PAGES
from .state import Action, Decision, Phase, Progress, does, is_at

__all__ = ["PageStep"]


FAULTS = 9
"""Faults that a stage tells apart by their order."""

INTERRUPT_FAULT = 7
"""The one for the interrupt range."""


class _Seen(data.StructLayout):
    """What the first cycle finds out about an entry, for the second.

    ``target`` is where the entry leads: the next entry of the same stage, the place in the page, or after an update
    what has waited for it. ``value`` is the entry that may have to be changed: a first-stage one. ``faults`` are those
    of the stage in the order in which they count, of which the one for the interrupt range only where the page is the
    request's. ``action`` is what follows if there are none. ``again`` and ``second_root`` choose another address than
    ``target``: the last first-stage entry, and the top of the second stage. A ``buffered`` entry that lacks bits, or
    the right to set them, is ``doubtful``.
    """

    def __init__(self, cfg: IommuConfig):
        super().__init__(
            {
                "valid": 1,
                "faults": data.ArrayLayout(1, FAULTS),
                "action": Action,
                "again": 1,
                "second_root": 1,
                "buffered": 1,
                "doubtful": 1,
                "leaf": 1,
                "top": 1,
                "first_top": 1,
                "to_interrupt": 1,
                "level": 3,
                "target": cfg.haw,
                "top_index": 9,
                "write": 1,
                "read": 1,
                "user_read": 1,
                "value": 64,
            }
        )


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
    valid : In(1)
        There is an event; without one the decision has no action.
    request, space, progress, entry, address, leaf : In
        The slot's state; ``leaf`` (64 bits) is the first-stage leaf of a nested walk, whose bits wait.
    value : In(64)
        The entry.
    buffered : In(1)
        It has not come from memory just now, but with the line of another one.
    error : In(1)
        Its read failed.
    update_failed : In(1)
        Setting its bits failed.
    guest_page : Out
        In the same cycle: the page that a first-stage entry leads to, which is guest-physical under nesting.
    target, target_second : Out(haw), Out(1)
        In the same cycle: the address of the entry of level 1 that the entry leads to, if it leads to one, and whether
        that is a second-stage entry.
    decision : Out(Decision)
        One cycle later, as the others below.
    expected, mask : Out(64)
        What `Action.UPDATE` finds and sets.
    next_address, sets_address : Out
        The slot's new ``address``, if it changes.
    sets_leaf : Out(1)
        ``expected`` is the slot's new ``leaf``.
    again : Out(1)
        Nothing is decided: the ``buffered`` entry is to be read from memory. It would fault, or have bits set, or deny
        something later, and software may have changed that without an invalidation.
    """

    def __init__(self, cfg: IommuConfig):
        self.cfg = cfg
        super().__init__(
            {
                "valid": In(1),
                "request": In(TranslationRequest(cfg)),
                "space": In(AddressSpace(cfg)),
                "progress": In(Progress),
                "entry": In(cfg.haw - 3),
                "address": In(cfg.haw),
                "leaf": In(64),
                "value": In(64),
                "buffered": In(1),
                "error": In(1),
                "update_failed": In(1),
                "guest_page": Out(cfg.page_bits),
                "target": Out(cfg.haw),
                "target_second": Out(1),
                "decision": Out(Decision(cfg)),
                "expected": Out(64),
                "mask": Out(64),
                "next_address": Out(cfg.haw),
                "sets_address": Out(1),
                "sets_leaf": Out(1),
                "again": Out(1),
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
        self._writes = (self._request.access == Access.WRITE) | (self._request.access == Access.ATOMIC)
        self._nested = space.mode == TranslationMode.NESTED
        first, updated = is_at(progress, Phase.FIRST_STAGE), is_at(progress, Phase.UPDATE)
        self._dirty = FirstStageEntry(seen.value).d
        m.d.comb += [
            decision.progress.eq(progress),
            decision.cached.eq(1),
            decision.recorded.eq(~space.fpd),  # all faults here are qualified (§4)
            self.expected.eq(seen.value),
            # A, EA where EAFE, D where the request writes to the page itself.
            self.mask.eq(Cat(C(0, 5), C(1, 1), self._writes & (seen.leaf | ~first), C(0, 3), space.eafe, C(0, 53))),
            self.next_address.eq(seen.target),
            self.sets_address.eq(first | does(seen, Action.UPDATE)),
            self.sets_leaf.eq(first),
        ]
        self._act(m, first | updated)
        with m.If(first):
            self._first_stage(m)
        with m.Elif(updated):
            # The leaf changed while its bits were set: it is read again.
            with m.If(seen.again):
                m.d.comb += decision.progress.phase.eq(Phase.FIRST_STAGE)
        with m.Else():
            self._second_stage(m)
        self._grant(m, first, updated)
        second_entry = Cat(C(0, 3), seen.top_index, space.second_root)
        m.d.comb += decision.address.eq(
            one_of(
                [
                    (seen.again, Cat(C(0, 3), self._entry)),
                    (seen.second_root, second_entry),
                    (~seen.again & ~seen.second_root, seen.target),
                ]
            )
        )
        return m

    def _see(self, m):
        """First cycle: decode the entry for the stage that it belongs to."""
        cfg, seen = self.cfg, self._seen
        progress, space, request = self.progress, self.space, self.request
        first, second = FirstStageEntry(self.value), SecondStageEntry(self.value)
        is_first, updated = is_at(progress, Phase.FIRST_STAGE), is_at(progress, Phase.UPDATE)
        nested = space.mode == TranslationMode.NESTED
        second_top = top_level(space.second_levels)
        first_top = Mux(space.first_5_level, C(5, 3), C(4, 3))
        page, leaf = self.value[12 : cfg.haw], Signal()
        # Either stage by itself, and the choice last.
        levels = progress.first_level, progress.second_level
        sources = request.address[:57], Mux(nested, self.address, request.address[:57])
        leaves = first.is_leaf(levels[0]), second.is_leaf(levels[1])
        outputs = [page_address(page, *stage)[: cfg.haw] for stage in zip(sources, levels, strict=True)]
        targets = [
            Mux(leads, output, Cat(C(0, 3), next_index(source, level), page))
            for leads, output, source, level in zip(leaves, outputs, sources, levels, strict=True)
        ]
        resolves = is_at(progress, Phase.SECOND_STAGE_TABLE) & leaves[1]
        index = Mux(is_first, sources[0][12:21], sources[1][12:21])
        # In the table of the top level, which is 3 at least: bits of the guest-physical page.
        page_as_address = Cat(C(0, 12), page, C(0, 57 - cfg.haw))
        top_index = one_of([(second_top == n, page_as_address[3 + 9 * n : 12 + 9 * n]) for n in (3, 4, 5)])
        m.d.comb += [
            leaf.eq(Mux(is_first, *leaves)),
            self.target.eq(Mux(resolves, outputs[1], Cat(C(0, 3), index, page))),
            self.target_second.eq(~is_first & ~resolves),
            self.guest_page.eq(first_stage_page(self.value, progress.first_level, request.address)[: cfg.page_bits]),
        ]
        m.d.sync += [
            seen.valid.eq(self.valid),
            seen.leaf.eq(leaf),
            seen.top.eq(Mux(is_first, levels[0] == first_top, levels[1] == second_top)),
            seen.first_top.eq(levels[0] == first_top),
            seen.to_interrupt.eq(Mux(is_first, *(output[20:] == INTERRUPT_PAGES for output in outputs))),
            seen.level.eq(Mux(is_first, *levels)),
            seen.target.eq(Mux(updated, self.address, Mux(is_first, *targets))),
            seen.top_index.eq(top_index),
            seen.read.eq(second.r),
            seen.write.eq(self.value[1]),
            seen.user_read.eq(first.us),
            seen.value.eq(Mux(is_first | updated, self.value, self.leaf)),
        ]
        self._judge(m, leaf, nested & beyond(cfg, self.value, space.second_levels))

    def _judge(self, m, leaf, is_beyond):
        """First cycle, too: which faults there are, and what follows if there are none."""
        seen, progress, space, request = self._seen, self.progress, self.space, self.request
        is_first, updated = is_at(progress, Phase.FIRST_STAGE), is_at(progress, Phase.UPDATE)
        final, nested = is_at(progress, Phase.SECOND_STAGE_FINAL), space.mode == TranslationMode.NESTED
        first, second = FirstStageEntry(self.value), SecondStageEntry(self.value)
        user = ~(request.privileged & request.pasid_valid)
        writes = (request.access == Access.WRITE) | (request.access == Access.ATOMIC)
        zero_length = (request.access == Access.ZERO_LENGTH_READ) & self.cfg.zero_length_read
        # Under nesting the bits of a leaf wait for the second stage's word on the page.
        kept = FirstStageEntry(Mux(is_first | updated, self.value, self.leaf))
        accessed = kept.a & (kept.ea | ~space.eafe)
        settled = accessed & (kept.d | ~writes)
        updates = Mux(leaf, ~settled & Mux(is_first, ~nested, nested & final), is_first & ~accessed) & ~updated
        may_set = space.pwsnp & (progress.table_write | (is_first & ~nested))
        cannot_set = updates & ~may_set
        read, write = progress.second_read & second.r, progress.second_write & self.value[1]
        lacks = (writes & ~write) | ((request.access != Access.WRITE) & ~read & ~(zero_length & write))
        of_first = [
            self.update_failed,
            self.error,
            ~first.present(),
            first.reserved_set(self.cfg, progress.first_level),
            is_beyond,
            user & ~first.us,
            writes & ~self.value[1] & (user | space.wpe),
            leaf & ~nested,
            cannot_set,
        ]
        of_second = [
            self.error,
            ~second.present(),
            second.reserved_set(self.cfg, progress.second_level),
            space.legacy & lacks,
            ~read & ~write,
            leaf & ~final & ~read,
            leaf & final & lacks,
            leaf & final,
            cannot_set,
        ]
        for n, conditions in enumerate(zip(of_first, of_second, strict=True)):
            m.d.sync += seen.faults[n].eq(Mux(updated, self.update_failed if n == 0 else 0, Mux(is_first, *conditions)))

        unchanged = self.value & ~C(0x460, 64) == self.leaf & ~C(0x460, 64)
        done = unchanged & settled
        asks_guest = is_first & nested & ~updates
        grants = Mux(updated, done, leaf & (final | (is_first & ~nested)) & ~updates)
        actions = {
            Action.UPDATE: updates,
            Action.LOOKUP_GUEST: asks_guest,
            Action.GRANT: grants,
            Action.READ_ENTRY: ~updates & ~asks_guest & ~grants,
        }
        lacks = updates | Mux(is_first, ~accessed | (leaf & ~settled), ~final & ~write)
        doubtful = self.buffered & lacks
        m.d.sync += [does(seen, action).eq(self.valid & follows & ~doubtful) for action, follows in actions.items()]
        m.d.sync += [
            seen.again.eq(updates | (updated & ~done)),
            seen.second_root.eq(asks_guest),
            seen.buffered.eq(self.valid & self.buffered),
            seen.doubtful.eq(self.valid & doubtful),
        ]

    def _act(self, m, of_first):
        """Second cycle: the first fault that applies, or what follows without."""
        seen, space, decision = self._seen, self._space, self.decision
        legacy, lacks_write = space.legacy, self._writes & ~(self._progress.second_write & seen.write)
        cannot_set = Mux(space.pwsnp, R.SFS_8, R.SFS_9)
        lost = Mux(lacks_write, R.LGN_2, R.LGN_3)
        first_stage = [
            R.SFS_10,
            Mux(seen.top, R.SFS_4, R.SFS_1),
            R.SFS_2,
            R.SFS_3,
            R.SFS_5,
            R.SGN_2,
            R.SGN_6,
            R.SGN_8,
            cannot_set,
        ]
        second_stage = [
            Mux(legacy, Mux(seen.top, R.LCT_4, R.LSS_1), Mux(seen.top, R.SSS_4, R.SSS_1)),
            Mux(legacy, lost, R.SSS_2),
            Mux(legacy, R.LSS_2, R.SSS_3),
            lost,
            R.SSS_2,
            Mux(seen.first_top, R.SFS_6, R.SFS_7),
            Mux(lacks_write, R.SGN_6, R.SGN_7),
            Mux(legacy, R.LGN_4, R.SGN_8),
            cannot_set,
        ]
        conditions = [seen.faults[n] & (seen.to_interrupt if n == INTERRUPT_FAULT else 1) for n in range(FAULTS)]
        of_first_stage, faulty = first_fault([*zip(conditions, first_stage, strict=True)])
        of_second_stage, _faulty = first_fault([*zip(conditions, second_stage, strict=True)])
        m.d.comb += [
            Value.cast(decision.fault).eq(Mux(of_first, of_first_stage, of_second_stage)),
            Value.cast(decision.action).eq(Value.cast(seen.action) & (~faulty).replicate(len(Action))),
            does(decision, Action.FAULT).eq(seen.valid & faulty & ~seen.buffered),
            self.again.eq(seen.doubtful | (seen.buffered & faulty)),
        ]

    def _first_stage(self, m):
        """Where a walk is after a first-stage entry: at the same if bits are set, else at what it leads to."""
        seen, space, progress, after = self._seen, self._space, self._progress, self.decision.progress
        with m.If(~seen.again):
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
                    Value.cast(after.phase).eq(Mux(self._nested, Phase.SECOND_STAGE_TABLE, Phase.FIRST_STAGE)),
                ]

    def _second_stage(self, m):
        """Where a walk is after a second-stage entry."""
        seen, progress, after = self._seen, self._progress, self.decision.progress
        write = progress.second_write & seen.write
        m.d.comb += [after.second_read.eq(progress.second_read & seen.read), after.second_write.eq(write)]
        with m.If(~seen.leaf):
            m.d.comb += after.second_level.eq(seen.level - 1)
        with m.Elif(is_at(progress, Phase.SECOND_STAGE_FINAL)):
            # The answer waits in ``address`` and the second stage's permissions for the first-stage leaf's bits.
            m.d.comb += after.phase.eq(Phase.UPDATE)
        with m.Else():
            m.d.comb += [after.phase.eq(Phase.FIRST_STAGE), after.table_write.eq(write)]

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
