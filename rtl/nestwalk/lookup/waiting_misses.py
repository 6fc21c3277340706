"""Requests that missed and wait to be looked up again."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..config import IommuConfig
from .merging import WaitingMiss, WalkStatus

__all__ = ["WaitingMisses"]


class WaitingMisses(wiring.Component):
    """FIFO in block RAM of misses for which the miss queue has no room, and of those that wait for another's walk.

    ::

        spilled ─┬─> block RAM ─> oldest ──its walk has ended, and what it found is cached──> o
        parked ──┘

    The oldest one is offered when the walk that it waits for has left its slot and every entry that waited to be
    cached then is cached: so its look-up finds what the walk found. One that waits for room is offered at once. One
    leaves every other cycle at most.

    Parameters
    ----------
    cfg : IommuConfig
        ``cfg.waiting_misses`` is the depth; ``level`` tells whether there is room.

    Attributes
    ----------
    spilled : In(stream of WaitingMiss)
        Never refused.
    parked : In(stream of WaitingMiss)
        Taken in cycles without a spilled one.
    o : Out(stream of WaitingMiss)
    status, active, turns : In
        As those of `nestwalk.lookup.merging.MissMerger`.
    precedes : Out(1)
        The oldest one waits for room: what misses now is to wait behind it.
    level : Out
        Requests held.
    """

    def __init__(self, cfg: IommuConfig):
        self.cfg = cfg
        item = WaitingMiss(cfg)
        super().__init__(
            {
                "spilled": In(stream.Signature(item, always_ready=True)),
                "parked": In(stream.Signature(item)),
                "o": Out(stream.Signature(item)),
                "status": In(WalkStatus(cfg)),
                "active": In(cfg.walk_slots),
                "turns": In(cfg.walk_slots),
                "precedes": Out(1),
                "level": Out(range(cfg.waiting_misses + 1)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        depth = self.cfg.waiting_misses
        # No row is looked at that may have been read while it was written.
        memory = Memory(shape=WaitingMiss(self.cfg), depth=depth, init=[], attrs={"no_rw_check": 1})
        m.submodules.storage = memory
        write, read = memory.write_port(), memory.read_port(domain="comb")
        head, tail = Signal(exact_log2(depth)), Signal(exact_log2(depth))
        put, take = Signal(), Signal()
        oldest = Signal(WaitingMiss(self.cfg), reset_less=True)
        m.d.comb += [
            self.parked.ready.eq(~self.spilled.valid),
            put.eq(self.spilled.valid | self.parked.valid),
            take.eq(self.o.valid & self.o.ready),
            write.addr.eq(tail),
            write.data.eq(Mux(self.spilled.valid, self.spilled.payload.as_value(), self.parked.payload.as_value())),
            write.en.eq(put),
            read.addr.eq(head + take),
            self.o.payload.eq(oldest),
        ]
        # Block RAM answers late: what is asked of the oldest one is asked a cycle later.
        there, looked_at, asked, known, ended = Signal(), Signal(), Signal(), Signal(), Signal()
        goes_on = Signal()
        merged, slot, turn = (Signal.like(oldest[name], reset_less=True) for name in ("merged", "slot", "turn"))
        m.d.sync += [
            head.eq(head + take),
            tail.eq(tail + put),
            self.level.eq(self.level + put - take),
            oldest.eq(read.data),
            there.eq(self.level != take),
            looked_at.eq(there & ~take),
            self.precedes.eq(there & ~take & ~oldest.merged),
            merged.eq(oldest.merged),
            slot.eq(oldest.slot),
            turn.eq(oldest.turn),
            asked.eq(looked_at & ~take),
            goes_on.eq(self.active.bit_select(slot, 1) & (self.turns.bit_select(slot, 1) == turn)),
            known.eq(asked & ~take),
            ended.eq(~goes_on),
        ]
        cached = Signal()
        m.d.sync += cached.eq(self._cached(m, known & ended, take) & ~take)
        m.d.comb += self.o.valid.eq(looked_at & (~merged | cached))
        return m

    def _cached(self, m, ended, take):
        """Whether what waited to be cached when the walk was found to have ``ended`` waits no more.

        From then on it does not matter what becomes of the slot.
        """
        counting, ahead = Signal(), Signal.like(self.status.fills)
        fills, filled = Signal.like(self.status.fills), Signal()
        m.d.sync += [fills.eq(self.status.fills), filled.eq(self.status.filled)]
        with m.If(take):
            m.d.sync += counting.eq(0)
        with m.Elif(ended & ~counting):
            m.d.sync += [counting.eq(1), ahead.eq(fills - filled)]
        with m.Elif(filled & (ahead != 0)):
            m.d.sync += ahead.eq(ahead - 1)
        return ((ended | counting) & (fills == 0)) | (counting & (ahead == 0))
