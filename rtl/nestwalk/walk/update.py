"""Sets accessed and dirty bits in paging entries, atomically (§3.8)."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..bus.axi import AxiResponse
from ..bus.memory import MemoryIds, MemoryReadSignature, MemoryWriteSignature
from ..bus.queue import Queue
from ..config import IommuConfig

__all__ = ["MAX_TRIES", "EntryUpdate", "UpdateRequest", "UpdateResponse", "settable_bits"]

MAX_TRIES = 16
"""Exclusive pairs that may lose against other writers before the update counts as failed."""


class UpdateRequest(data.StructLayout):
    """Set the bits of ``mask`` in the 8-byte entry at ``address`` (bytes), if it still reads ``expected``.

    ``slot`` names the walk; ``mask`` has only `settable_bits`.
    """

    def __init__(self, cfg: IommuConfig):
        super().__init__({"slot": slot_shape(cfg), "address": cfg.haw, "expected": 64, "mask": 64})


class UpdateResponse(data.StructLayout):
    """What the entry of the walk ``slot`` is now.

    ``data`` equal to the request's ``expected | mask``: the bits are set. Any other ``data``: the entry had changed,
    nothing was written, and the walk evaluates ``data`` anew. ``failed``: the memory system cannot do the update (fault
    SFS.10 or SSS.6); ``data`` means nothing.
    """

    def __init__(self, cfg: IommuConfig):
        super().__init__({"slot": slot_shape(cfg), "data": 64, "failed": 1})


def slot_shape(cfg: IommuConfig):
    return range(cfg.walk_slots)


def settable_bits(cfg: IommuConfig) -> list[int]:
    """The accessed and dirty bits in paging entries (§2.7, §2.8)."""
    extended = [10] if cfg.extended_accessed else []
    second_stage = [8, 9] if cfg.second_stage_accessed_dirty else []
    return [5, 6, *second_stage, *extended]


class _Waiting(data.StructLayout):
    """An `UpdateRequest` without the bits that are always 0."""

    def __init__(self, cfg: IommuConfig):
        super().__init__(
            {"slot": slot_shape(cfg), "entry": cfg.haw - 3, "expected": 64, "mask": len(settable_bits(cfg))}
        )


class EntryUpdate(wiring.Component):
    """Compare-and-set on paging entries as AXI exclusive pairs, one after the other.

    ::

        request --> Queue --> READ -> DATA -> COMPARE -> DECIDE --> WRITE -> WRITTEN --> RESPOND --> response
                               ^                           |                  | |          ^
                               |                           `---- changed -----|-+----------'
                               `------------------- lost ---------------------'

    The exclusive read answers EXOKAY, or the memory has no monitor (OKAY) or an error, both of which fail the
    update. An entry that changed is answered without a write, and the exclusive monitor is just left set: the next
    exclusive read of this id replaces it. An exclusive write that gets OKAY lost against another writer: the pair
    starts again, at most `MAX_TRIES` times.

    An undisturbed update takes two memory latencies and 6 cycles at this port. There is room for one request of every
    walk, so that ``request`` never stalls a walker that has one update of each slot outstanding.

    Parameters
    ----------
    cfg : IommuConfig

    Members
    -------
    request : stream of `UpdateRequest`, in
    response : stream of `UpdateResponse`, out
        In the order of the requests.
    read, write : `MemoryReadSignature`, `MemoryWriteSignature`, out
        With the id `MemoryIds.update`.
    retries : 32, out
        Exclusive writes that lost since reset (0 without ``cfg.counters``).
    """

    def __init__(self, cfg: IommuConfig):
        self._cfg = cfg
        super().__init__(
            {
                "request": In(stream.Signature(UpdateRequest(cfg))),
                "response": Out(stream.Signature(UpdateResponse(cfg))),
                "read": Out(MemoryReadSignature(cfg)),
                "write": Out(MemoryWriteSignature(cfg)),
                "retries": Out(32),
            }
        )

    def elaborate(self, platform):
        m = Module()
        request = self._wait(m)
        queue = self._queue
        self._entry = entry = Signal(64)  # as read, then as written
        self._failed = failed = Signal()
        self._done = done = Signal()  # nothing to write
        self._tries = tries = Signal(range(MAX_TRIES))
        user = MemoryIds(self._cfg).update
        m.d.comb += [
            self.read.request.p.id.eq(user),
            self.read.request.p.address.eq(request.address),
            self.read.request.p.size.eq(3),
            self.read.request.p.exclusive.eq(1),
            self.write.request.p.id.eq(user),
            self.write.request.p.address.eq(request.address),
            self.write.request.p.size.eq(3),
            self.write.request.p.exclusive.eq(1),
            self.write.request.p.data.eq(entry),
            self.response.p.slot.eq(request.slot),
            self.response.p.data.eq(entry),
            self.response.p.failed.eq(failed),
        ]

        with m.FSM() as self._states:
            with m.State("READ"):
                m.d.comb += self.read.request.valid.eq(queue.o.valid)
                with m.If(queue.o.valid & self.read.request.ready):
                    m.next = "DATA"

            with m.State("DATA"):
                piece = self.read.data.p
                m.d.sync += [
                    entry.eq(Mux(request.address[3], piece.data[64:], piece.data[:64])),
                    failed.eq(piece.response != AxiResponse.EXOKAY),
                ]
                with m.If(self.read.data.valid):
                    m.next = "COMPARE"

            with m.State("COMPARE"):
                m.d.sync += done.eq(failed | (entry != request.expected))
                m.next = "DECIDE"

            with m.State("DECIDE"):
                with m.If(done):
                    m.next = "RESPOND"
                with m.Else():
                    m.d.sync += entry.eq(entry | request.mask)
                    m.next = "WRITE"

            with m.State("WRITE"):
                m.d.comb += self.write.request.valid.eq(1)
                with m.If(self.write.request.ready):
                    m.next = "WRITTEN"

            with m.State("WRITTEN"):
                response = self.write.done.p.response
                with m.If(self.write.done.valid):
                    m.d.sync += tries.eq(tries + 1)
                    m.next = "RESPOND"
                    with m.If(response == AxiResponse.OKAY):
                        m.d.sync += failed.eq(tries == MAX_TRIES - 1)
                        if self._cfg.counters:
                            m.d.sync += self.retries.eq(self.retries + 1)
                        with m.If(tries != MAX_TRIES - 1):
                            m.next = "READ"
                    with m.Elif(response != AxiResponse.EXOKAY):
                        m.d.sync += failed.eq(1)

            with m.State("RESPOND"):
                m.d.comb += [self.response.valid.eq(1), queue.o.ready.eq(self.response.ready)]
                with m.If(self.response.ready):
                    m.d.sync += tries.eq(0)
                    m.next = "READ"
        return m

    def _wait(self, m: Module) -> data.View:
        """Queue the requests; returns the one that is worked on."""
        m.submodules.queue = self._queue = queue = Queue(_Waiting(self._cfg), self._cfg.walk_slots)
        came, kept = self.request.p, queue.i.p
        self._request = request = Signal(UpdateRequest(self._cfg))
        m.d.comb += [
            queue.i.valid.eq(self.request.valid),
            self.request.ready.eq(queue.i.ready),
            kept.slot.eq(came.slot),
            kept.entry.eq(came.address[3:]),
            kept.expected.eq(came.expected),
            kept.mask.eq(Cat(came.mask[bit] for bit in settable_bits(self._cfg))),
            request.slot.eq(queue.o.p.slot),
            request.address.eq(queue.o.p.entry << 3),
            request.expected.eq(queue.o.p.expected),
        ]
        for place, bit in enumerate(settable_bits(self._cfg)):
            m.d.comb += request.mask[bit].eq(queue.o.p.mask[place])
        return request
