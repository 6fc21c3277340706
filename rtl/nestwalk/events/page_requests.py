"""Page requests of devices: acceptance, the page request queue, and automatic responses (§7)."""

from amaranth.hdl import C, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..bus.ats import PageRequest, PageResponse
from ..bus.axi import AxiResponse
from ..bus.memory import WRITE_BITS, MemoryIds, MemoryWriteSignature
from ..bus.translation import Access, AddressType, PageVerdict, TranslationRequest
from ..config import IommuConfig
from ..formats.page_request import PageRequestDescriptor
from ..formats.pasid import TranslationMode
from ..invalidation.command import Invalidation, Scope
from ..registers.signatures import PageRequestControlSignature

__all__ = ["WORDS", "PageRequests"]

WORDS = 4
"""Words of 64 bits of a descriptor."""

QWORD = 3
"""log2 of the bytes of a word."""

SUCCESS, INVALID_REQUEST = 0, 1
"""Codes of automatic responses (§7.2)."""


class PageRequests(wiring.Component):
    """Takes one page request after the other through §7.1.

    ::

        requests ─> held ─> walk ··· verdict ─┬─ refused ─────────────────────────────> responses, invalid request
                                              ├─ PRO is set ──────────────────────────> responses, success
                                              ├─ the queue is full ───────> set PRO ──> responses, success
                                              └─ invalidations ─> write ─┬─ failed ──┘
                                                                         └─> move PQT, set PPR

        IDLE ─> WALK ─> JUDGE ─> PLACE ─> INVALIDATE ─> WRITE ─> SETTLE ─> ANNOUNCE ─> IDLE
                         │         ├────────────────────────────────┴─> OVERFLOW ─┐
                         └─────────┴──────────────────────────────────> RESPOND <─┘

    The last request of a group is answered, unless it is a stop marker; the others are dropped. Where the specification
    says nothing: a fault of the tables comes before an overflow; automatic responses carry the request's PASID; stop
    markers that cannot be queued are dropped; a descriptor that memory refuses counts as one without a place, so
    that software learns of it and the device asks again.

    A request takes four reads, an invalidation and four writes, the latter all at once.

    Parameters
    ----------
    cfg : IommuConfig
        With ``page_requests``.

    Members
    -------
    control : `PageRequestControlSignature`, in
    requests : stream of `PageRequest`, in
    hold : In(1)
        Nothing is accepted.
    idle : Out(1)
        All that was accepted is where it belongs.
    walk, verdict : stream of `TranslationRequest`, out, and of `PageVerdict`, in
        To and from the tables; a verdict is taken when it comes.
    invalidations : stream of `Invalidation`, out
        The implicit ones (§7.3); a transfer means that it has taken effect.
    pause : In(1)
        No invalidation begins.
    write : `MemoryWriteSignature`, out
        The request is all zeros unless it is valid, which it is only while ``control.granted``.
    responses : stream of `PageResponse`, out
        The automatic ones.
    """

    def __init__(self, cfg: IommuConfig):
        self._cfg = cfg
        super().__init__(
            {
                "control": In(PageRequestControlSignature(cfg)),
                "requests": In(stream.Signature(PageRequest)),
                "hold": In(1),
                "idle": Out(1),
                "walk": Out(stream.Signature(TranslationRequest(cfg))),
                "verdict": In(stream.Signature(PageVerdict(cfg), always_ready=True)),
                "invalidations": Out(stream.Signature(Invalidation)),
                "pause": In(1),
                "write": Out(MemoryWriteSignature(cfg)),
                "responses": Out(stream.Signature(PageResponse)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        self._held = held = Signal(PageRequest, reset_less=True)
        self._space = space = Signal(PageVerdict(self._cfg), reset_less=True)
        self._full, self._word, self._writes = Signal(), Signal(range(WORDS)), Signal()
        wants_response = held.last & (held.read | held.write | ~held.pasid_valid)
        control, done = self.control, self.write.done
        settled, failed = Signal(range(WORDS)), Signal()
        with m.FSM() as self._states:
            with m.State("IDLE"):
                m.d.comb += [self.idle.eq(1), self.requests.ready.eq(~self.hold)]
                m.d.sync += held.eq(self.requests.payload)
                with m.If(self.requests.valid & ~self.hold):
                    m.next = "WALK"
            with m.State("WALK"):
                m.d.comb += self.walk.valid.eq(1)
                with m.If(self.walk.ready):
                    m.next = "JUDGE"
            with m.State("JUDGE"):
                m.d.sync += space.eq(self.verdict.payload)
                with m.If(self.verdict.valid):
                    m.next = "RESPOND"
                    with m.If(self.verdict.p.accepted):
                        m.next = "PLACE"
            with m.State("PLACE"):
                with m.If(control.overflow):
                    m.next = "RESPOND"
                with m.Elif(self._full):
                    m.next = "OVERFLOW"
                with m.Elif(~self.pause):
                    m.next = "INVALIDATE"
            with m.State("INVALIDATE"):
                m.d.comb += self.invalidations.valid.eq(1)
                with m.If(self.invalidations.ready):
                    m.next = "WRITE"
            with m.State("WRITE"):
                m.d.comb += [control.claims.eq(1), self._writes.eq(control.granted)]
                with m.If(self._writes & self.write.request.ready):
                    m.d.sync += self._word.eq(self._word + 1)
                    with m.If(self._word == WORDS - 1):
                        m.next = "SETTLE"
            with m.State("SETTLE"):
                m.d.comb += control.claims.eq(1)
                with m.If(done.valid & (settled == WORDS - 1)):
                    m.next = "ANNOUNCE"
                    with m.If(failed | (done.p.response != AxiResponse.OKAY)):
                        m.next = "OVERFLOW"
            with m.State("ANNOUNCE"):
                m.d.comb += control.queued.eq(~control.hold)
                with m.If(~control.hold):
                    m.next = "IDLE"
            with m.State("OVERFLOW"):
                m.d.comb += control.overflows.eq(~control.hold)
                with m.If(~control.hold):
                    m.next = "RESPOND"
            with m.State("RESPOND"):
                m.d.comb += self.responses.valid.eq(wants_response)
                with m.If(self.responses.ready | ~wants_response):
                    m.next = "IDLE"
        with m.If(self._states.ongoing("WALK")):
            m.d.sync += [settled.eq(0), failed.eq(0)]
        with m.Elif(control.claims & done.valid):
            m.d.sync += [settled.eq(settled + 1), failed.eq(failed | (done.p.response != AxiResponse.OKAY))]
        self._find_place(m)
        self._walk_and_respond(m)
        self._invalidate(m)
        self._write(m)
        return m

    def _find_place(self, m: Module):
        """Where the tail goes from here, and whether that is the head. Both are known long before they are needed."""
        control = self.control
        within = Cat(Const(0x7F, 7), *(control.size > bit for bit in range(7)))
        m.d.sync += [
            control.next_tail.eq((control.tail + 1)[:14] & within),
            self._full.eq(control.next_tail == control.head),
        ]

    def _walk_and_respond(self, m: Module):
        held, walk, response = self._held, self.walk.payload, self.responses.payload
        m.d.comb += [
            walk.source_id.eq(held.source_id),
            walk.pasid_valid.eq(held.pasid_valid),
            walk.pasid.eq(held.pasid),
            walk.address.eq(Cat(C(0, 12), held.page)),
            walk.access.eq(Mux(held.write & ~held.read, Access.WRITE, Access.READ)),
            walk.address_type.eq(AddressType.PAGE_REQUEST),
            walk.privileged.eq(held.privileged),
            walk.execute.eq(held.execute),
            response.source_id.eq(held.source_id),
            response.pasid_valid.eq(held.pasid_valid),
            response.pasid.eq(held.pasid),
            response.group.eq(held.group),
            response.code.eq(Mux(self._space.accepted, SUCCESS, INVALID_REQUEST)),
        ]

    def _invalidate(self, m: Module):
        """What the request shows to be of no use (§7.3)."""
        invalidation, mode = self.invalidations.payload, self._space.mode
        m.d.comb += [
            invalidation.iotlb.eq(1),
            invalidation.domain_id.eq(self._space.domain_id),
            invalidation.pasid.eq(self._space.pasid),
            invalidation.page.eq(self._held.page),
            invalidation.scope.eq(Scope.PAGE_IN_DOMAIN),
        ]
        with m.If(mode == TranslationMode.FIRST_STAGE):
            m.d.comb += invalidation.scope.eq(Scope.PAGE_IN_PASID)
        with m.Elif(mode == TranslationMode.NESTED):
            m.d.comb += invalidation.scope.eq(Scope.DOMAIN)

    def _write(self, m: Module):
        """The descriptor, word by word; zeros while it is not written."""
        control, held, request = self.control, self._held, self.write.request
        descriptor, place = Signal(PageRequestDescriptor), Signal(self._cfg.page_bits)
        m.d.comb += [
            descriptor.type.eq(1),
            descriptor.pp.eq(held.pasid_valid),
            descriptor.rid.eq(held.source_id),
            descriptor.pasid.eq(held.pasid),
            descriptor.exr.eq(held.execute),
            descriptor.pmr.eq(held.privileged),
            descriptor.rdr.eq(held.read),
            descriptor.wrr.eq(held.write),
            descriptor.lpig.eq(held.last),
            descriptor.prgi.eq(held.group),
            descriptor.address.eq(held.page),
            request.valid.eq(self._writes),
        ]
        m.d.sync += place.eq(control.base + control.tail[7:])
        with m.If(self._writes):
            m.d.comb += [
                request.p.id.eq(MemoryIds(self._cfg).event),
                request.p.address.eq(Cat(C(0, 3), self._word, control.tail[:7], place)),
                request.p.size.eq(QWORD),
                request.p.data.eq(Value.cast(descriptor).word_select(self._word, WRITE_BITS)),
            ]
