"""Chooses what the walker's step pipeline looks at next."""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import IommuConfig
from ..lookup.guest_caches import guest_shapes
from .guests import GuestAnswer
from .line_layouts import BufferedEntry
from .reads import ArrivedEntry
from .update import UpdateResponse

__all__ = ["EventSelector", "WalkEvent"]


class WalkEvent(data.StructLayout):
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
                "invalidating": 1,  # to be compared: it begins while caches are being invalidated
                "stale": 1,  # it should have been
                "is_guest": 1,  # the guest caches stand in for a second-stage entry
                "buffered": 1,  # the entry came with a line, some time ago
            }
        )


class EventSelector(wiring.Component):
    """Takes one event a cycle.

    ::

        entry, structure ────────────────────────┐  cannot wait, and never come together
        line > guest > updated > mark > start ───┴──> chosen ──(1 cycle)──> event

    What arrives from memory is known late in the cycle, and the answers of the caches: the others choose without them.

    Parameters
    ----------
    cfg : IommuConfig

    Attributes
    ----------
    entry : In(stream of ArrivedEntry)
    structure : In(stream of range)
        The slot whose structure is complete.
    arrives, arrives_structure : In(1)
        Something comes from memory, and it is a piece of a structure: ``entry`` and ``structure`` tell more, later.
    line : In(stream of BufferedEntry)
        With ``cfg.line_buffer_lines``.
    guest : In(stream of GuestAnswer)
        With guest caches.
    updated : In(stream of UpdateResponse)
    mark, start : In(stream of range)
        A slot to compare with an invalidation; one that a walk begins in.
    invalidating, stale : In(1)
        A walk that begins now may use what is about to go, or what has gone.
    slot : Out(range)
        In the same cycle: the slot of the event, or of any if there is none.
    event : Out(WalkEvent)
        One cycle later.
    """

    def __init__(self, cfg: IommuConfig):
        self.cfg = cfg
        slot = range(cfg.walk_slots)
        super().__init__(
            {
                "entry": In(stream.Signature(ArrivedEntry(cfg), always_ready=True)),
                "structure": In(stream.Signature(slot, always_ready=True)),
                "arrives": In(1),
                "arrives_structure": In(1),
                **({"line": In(stream.Signature(BufferedEntry(cfg)))} if cfg.line_buffer_lines else {}),
                **({"guest": In(stream.Signature(GuestAnswer(cfg)))} if guest_shapes(cfg) else {}),
                "updated": In(stream.Signature(UpdateResponse(cfg))),
                "mark": In(stream.Signature(slot)),
                "start": In(stream.Signature(slot)),
                "invalidating": In(1),
                "stale": In(1),
                "slot": Out(slot),
                "event": Out(WalkEvent(cfg)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        entry, updated, chosen = self.entry, self.updated, Signal(WalkEvent(self.cfg))
        slots = {"updated": updated.payload.slot, "mark": self.mark.payload, "start": self.start.payload}
        for name in ("guest", "line"):
            if name in self.signature.members:
                slots = {name: getattr(self, name).payload.slot} | slots
        takes, slot, earlier, arriving = {}, self.start.payload, Value.cast(0), Signal.like(self.slot)
        for name, of_slot in reversed(slots.items()):
            slot = Mux(getattr(self, name).valid, of_slot, slot)
        for name in slots:
            waiting = getattr(self, name)
            takes[name] = Signal(name=f"takes_{name}")
            m.d.comb += [takes[name].eq(waiting.valid & ~earlier & ~self.arrives), waiting.ready.eq(takes[name])]
            earlier = earlier | waiting.valid
        is_guest, is_line = (takes.get(name, Value.cast(0)) for name in ("guest", "line"))
        m.d.comb += [
            # If there is nothing at all, what is looked at does not matter: nobody waits for it to be known.
            arriving.eq(Mux(self.arrives_structure, self.structure.payload, entry.payload.slot)),
            self.slot.eq(Mux(self.arrives, arriving, slot)),
            chosen.slot.eq(self.slot),
            chosen.is_table.eq(self.structure.valid | takes["start"]),
            chosen.is_page.eq((entry.valid & entry.payload.shown) | is_line | takes["updated"] | is_guest),
            chosen.is_mark.eq(takes["mark"]),
            chosen.begins.eq(takes["start"]),
            chosen.error.eq(entry.valid & entry.payload.error),
            chosen.update_failed.eq(takes["updated"] & updated.payload.failed),
            chosen.invalidating.eq(takes["start"] & self.invalidating),
            chosen.stale.eq(takes["start"] & self.stale),
            chosen.is_guest.eq(is_guest),
            chosen.buffered.eq(is_line),
        ]
        m.d.sync += self.event.eq(chosen)
        return m
