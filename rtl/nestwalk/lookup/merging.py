"""Which misses walk, and which wait because a walk for the same page is on its way."""

from amaranth.hdl import C, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..bus.arbiter import lowest
from ..bus.counting import ones
from ..bus.translation import TranslationRequest
from ..config import IommuConfig
from .miss_queue import SIGNATURE_BITS, Miss

__all__ = ["MissMerger", "WaitingMiss", "WalkStatus"]


class WalkStatus(data.StructLayout):
    """What the walker tells those who wait.

    ``slot`` is what the next walk to start takes; ``freed`` pulses for a walk that ended, in ``freed_slot``; ``fills``
    entries wait to be cached, in the order of their walks' ends, and ``filled`` pulses when one no longer waits.
    """

    def __init__(self, cfg: IommuConfig):
        slot = range(cfg.walk_slots)
        super().__init__({"slot": slot, "freed": 1, "freed_slot": slot, "fills": 5, "filled": 1})


class WaitingMiss(data.StructLayout):
    """A request that is to be looked up again.

    With ``merged`` it waits for the walk in ``slot`` that had this ``turn`` (`MissMerger`), else for room.
    """

    def __init__(self, cfg: IommuConfig):
        super().__init__(
            {
                "request": TranslationRequest(cfg),
                "merged": 1,
                "slot": range(cfg.walk_slots),
                "turn": 1,
            }
        )


class MissMerger(wiring.Component):
    """Lets a miss start a walk, unless one of the same signature is under way, or as many as its device may have.

    ::

        miss ──compare with the signatures of all slots (1 cycle)──┬─> walk
                                                                   └─> parked

    Signatures are hashes: misses of different pages may be taken for equal, which costs the later one time. A request
    waits like that once (`Lookup` says whether it still may), so that whatever becomes of a walk, each of those
    that waited for it is on its own afterwards. With a ``limit``, a miss of a requester id that has so many walks under
    way waits for one of them, as often as it takes; every miss then takes four cycles longer. Requester ids
    count as one if they are alike in 8 bits, devfn ^ bus with its bits reversed.

    Parameters
    ----------
    cfg : IommuConfig

    Attributes
    ----------
    miss : In(stream of Miss)
    walk : Out(stream of Miss)
        To the walker, which takes it for the slot in ``status``.
    parked : Out(stream of WaitingMiss)
    dropped, ended : Out(1)
        Pulses: a prefetch was given up, because its page is being walked for or slots are scarce, or its walk is over.
        Only with ``cfg.prefetch_streams``.
    status : In(WalkStatus)
    limit : In(5)
        Walks of one requester id at once, 0 for any number; only with ``cfg.walk_slot_limit``.
    active, turns : Out, one bit for each slot
        A walk is under way there, and a bit that changes with each start: the walk that a miss waits for has ended
        once its slot is not active or ``turns`` has changed.
    """

    def __init__(self, cfg: IommuConfig):
        self.cfg = cfg
        super().__init__(
            {
                "miss": In(stream.Signature(Miss(cfg))),
                "walk": Out(stream.Signature(Miss(cfg))),
                "parked": Out(stream.Signature(WaitingMiss(cfg))),
                **(dict.fromkeys(("dropped", "ended"), Out(1)) if cfg.prefetch_streams else {}),
                "status": In(WalkStatus(cfg)),
                **({"limit": In(5)} if cfg.walk_slot_limit else {}),
                "active": Out(cfg.walk_slots),
                "turns": Out(cfg.walk_slots),
            }
        )

    def elaborate(self, platform):
        m = Module()
        slots = range(self.cfg.walk_slots)
        signatures = [Signal(SIGNATURE_BITS, name=f"signature_{slot}") for slot in slots]
        lookup, parked, status = self.miss.payload.lookup, self.parked.payload, self.status
        checked, waits, drops = Signal(), Signal(), Signal()
        slot, awaited, first, limited = Signal(slots), Signal(len(slots)), Signal(len(slots)), Signal()
        equal = Cat(self.active[n] & (signatures[n] == lookup.signature) for n in slots)
        awaits, is_limited, compared = self._limit(m, lookup, equal)
        m.d.comb += [
            self.miss.ready.eq(checked & (drops | Mux(waits, self.parked.ready, self.walk.ready))),
            self.walk.valid.eq(checked & ~waits & ~drops),
            self.walk.payload.eq(self.miss.payload),
            self.parked.valid.eq(checked & waits & ~drops),
            parked.request.eq(lookup.request),
            parked.merged.eq(1),
            parked.slot.eq(slot),
            parked.turn.eq((first & self.turns).any()),
            first.eq(lowest(awaited)),
            *(slot[bit].eq(Cat(first[n] for n in slots if n >> bit & 1).any()) for bit in range(len(slot))),
        ]
        # What is offered stays as it is until it is taken, and no other walk starts before.
        m.d.sync += checked.eq(self.miss.valid & ~self.miss.ready & (checked | compared))
        with m.If(~checked):
            m.d.sync += [awaited.eq(awaits), limited.eq(is_limited)]
        m.d.comb += waits.eq((awaited.any() & lookup.mergeable) | limited)
        if self.cfg.prefetch_streams:
            self._give_up(m, checked, drops, awaited.any())
        for n in slots:
            with m.If(self.walk.valid & self.walk.ready & (status.slot == n)):
                m.d.sync += [
                    signatures[n].eq(lookup.signature),
                    self.active[n].eq(1),
                    self.turns[n].eq(~self.turns[n]),
                ]
            with m.Elif(status.freed & (status.freed_slot == n)):
                m.d.sync += self.active[n].eq(0)
        return m

    def _limit(self, m, lookup, equal):
        """The walks to wait for, whether the requester of a miss has as many under way as it may, and whether that is
        known already."""
        if not self.cfg.walk_slot_limit:
            return equal, C(0), C(1)
        slots = self.cfg.walk_slots
        own, counted, judged = (Signal(slots, name=name) for name in ("own", "counted", "judged"))
        count, limited, settled = Signal(range(slots + 1)), Signal(), Signal(4)
        started, source_id = self.walk.valid & self.walk.ready, lookup.request.source_id
        # Low devices of low buses, which are what most machines have, all differ.
        alike = Signal(len(source_id) // 2)
        m.d.sync += alike.eq(source_id[: len(alike)] ^ source_id[len(alike) :][::-1])
        for n in range(slots):
            device = Signal(len(alike), name=f"device_{n}", reset_less=True)
            m.d.sync += own[n].eq(self.active[n] & (device == alike))
            with m.If(started & (self.status.slot == n)):
                m.d.sync += device.eq(alike)
        # A cycle each: hashed, compared, counted, compared with the limit. No walk starts meanwhile.
        m.d.sync += [
            Cat(counted, judged).eq(Cat(own, counted)),
            count.eq(ones(own)),
            limited.eq((self.limit != 0) & (count >= self.limit)),
            settled.eq(Mux(self.miss.ready, 0, Cat(self.miss.valid, settled[:-1]))),
        ]
        return Mux(limited, judged, equal), limited, settled[-1] | (self.limit == 0)

    def _give_up(self, m, checked, drops, needless):
        """Prefetches neither wait nor take the last slots."""
        slots, status, prefetch = self.cfg.walk_slots, self.status, self.miss.payload.lookup.prefetch
        starts, used, prefetches = Signal(), Signal(range(slots + 1)), Signal(slots)
        m.d.comb += [
            starts.eq(self.walk.valid & self.walk.ready),
            self.dropped.eq(checked & drops),
            self.ended.eq(status.freed & prefetches.bit_select(status.freed_slot, 1)),
        ]
        m.d.sync += used.eq(used + starts - status.freed)
        with m.If(starts):
            m.d.sync += prefetches.bit_select(status.slot, 1).eq(prefetch)
        scarce = Signal()
        with m.If(~checked):
            m.d.sync += scarce.eq(used >= slots - max(1, slots // 4))
        m.d.comb += drops.eq(prefetch & (needless | scarce))
