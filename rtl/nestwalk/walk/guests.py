"""What is known of guest-physical addresses, asked for walk slots and kept for later walks (§8.1)."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..bus.bypass_queue import BypassQueue
from ..bus.sharing import sharing_port
from ..config import IommuConfig
from ..formats.pasid import TranslationMode
from ..invalidation.command import Invalidation
from ..lookup.fill_queue import FillQueue
from ..lookup.guest_caches import GuestCaches, GuestFill, GuestKey
from .address import leaf_size
from .state import Action, Phase, does, is_at

__all__ = ["GuestAnswer", "Guests", "guest_fill"]

FILLS = 4
"""Entries that can wait for the guest caches."""


class GuestAnswer(data.StructLayout):
    """What the guest caches know, for a slot; without a ``hit`` the others are 0, but ``read`` and ``write`` are 1."""

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

    def entry(self, answer: data.View) -> Value:
        """The second-stage entry that would lead on from there, but for its address where nothing is known."""
        large = answer.leaf & (answer.level != 1)
        return Cat(answer.read, answer.write, C(0, 5), large, C(0, 4), answer.target)


def guest_fill(m: Module, fill: data.View, before: data.View, decision: data.View) -> Value:
    """Set ``fill`` to what a step of a nested walk found for a guest-physical address; the value says if anything.

    Found is the leaf of a first-stage table, or one of the lower second-stage tables. ``before`` is the `SlotState`
    that the step began with.
    """
    after, space, page = decision.progress, before.space, before.address[12:]
    into_table = is_at(before.progress, Phase.SECOND_STAGE_TABLE)
    second = into_table | is_at(before.progress, Phase.SECOND_STAGE_FINAL)
    leaf = into_table & is_at(after, Phase.FIRST_STAGE)
    level = before.progress.second_level
    low = (level == 2) | (level == 3)  # the table that is read next
    size = leaf_size(level)
    small, large = decision.address[12:21], decision.address[21:30]
    not_small, huge = leaf & (size != 0), leaf & size[1]
    m.d.comb += [
        fill.level.eq(Mux(leaf, 0, after.second_level)),
        fill.domain_id.eq(space.domain_id),
        fill.page.eq(page),
        fill.read.eq(after.second_read),
        fill.write.eq(after.second_write),
        Value.cast(fill.size).eq(size),
        fill.target.eq(Cat(small & ~not_small.replicate(9), large & ~huge.replicate(9), decision.address[30:])),
    ]
    found = second & does(decision, Action.READ_ENTRY) & (space.mode == TranslationMode.NESTED)
    return found & (leaf | (low & after.second_read & after.second_write))


class Guests(wiring.Component):
    """Guest caches with a queue of questions answered and one of entries to keep.

    ::

        key ──> GuestCaches ──(3 cycles)──> queue ──> answer
        wanted, slot (one cycle later) ───────┘
        fill ──> queue ──> GuestCaches

    Parameters
    ----------
    cfg : IommuConfig

    Attributes
    ----------
    key : In(GuestKey)
        Every cycle.
    wanted, slot : In
        In the next cycle: the answer is wanted, for this slot. There is room for one answer of each slot.
    answer : Out(stream of GuestAnswer)
    fill : In(stream of GuestFill)
        What finds its queue full is not cached.
    drop, waits : In(1), Out(1)
        Of the `FillQueue`.
    invalidations : In(stream of Invalidation)
    sharing : In(Sharing)
    looked_up, level_hit, filled, evicted : Out
        For counters: pulses of an answer that was ``wanted``, of the cache that gives it, and those of `GuestCaches`.
    """

    def __init__(self, cfg: IommuConfig):
        self.cfg = cfg
        super().__init__(
            {
                "key": In(GuestKey(cfg, 0)),
                "wanted": In(1),
                "slot": In(range(cfg.walk_slots)),
                "answer": Out(stream.Signature(GuestAnswer(cfg))),
                "fill": In(stream.Signature(GuestFill(cfg))),
                "drop": In(1),
                "waits": Out(1),
                "invalidations": In(stream.Signature(Invalidation)),
                "sharing": sharing_port(),
                "looked_up": Out(1),
                "level_hit": Out(3),
                "filled": Out(3),
                "evicted": Out(3),
            }
        )

    def elaborate(self, platform):
        m = Module()
        cfg = self.cfg
        m.submodules.caches = caches = GuestCaches(cfg)
        m.submodules.answers = answers = BypassQueue(GuestAnswer(cfg), cfg.walk_slots, refuses=False)
        m.submodules.fills = fills = FillQueue(GuestFill(cfg), FILLS)
        wiring.connect(m, wiring.flipped(self.invalidations), caches.invalidations)
        m.d.comb += self.fill.ready.eq(1)
        m.d.sync += [fills.i.valid.eq(self.fill.valid), fills.i.payload.eq(self.fill.payload)]
        wiring.connect(m, fills.o, caches.fill)
        wiring.connect(m, answers.o, wiring.flipped(self.answer))
        m.d.comb += [caches.key.eq(self.key), fills.drop.eq(self.drop), self.waits.eq(fills.waits)]

        wanted, slot = self.wanted, self.slot
        for stage in range(GuestCaches.LATENCY):
            later = Signal(name=f"wanted_{stage}"), Signal.like(self.slot, name=f"slot_{stage}")
            m.d.sync += [later[0].eq(wanted), later[1].eq(slot)]
            wanted, slot = later
        m.d.comb += [answers.i.valid.eq(wanted), answers.i.payload.slot.eq(slot)]
        for name in ("hit", "leaf", "level", "target", "read", "write"):
            m.d.sync += answers.i.payload[name].eq(getattr(caches, name))
        answering = Signal.like(caches.level_hit)
        m.d.sync += answering.eq(caches.level_hit)
        m.d.comb += [
            caches.sharing.eq(self.sharing),
            self.looked_up.eq(wanted),
            self.level_hit.eq(answering & wanted.replicate(len(answering))),
            self.filled.eq(caches.filled),
            self.evicted.eq(caches.evicted),
        ]
        return m
