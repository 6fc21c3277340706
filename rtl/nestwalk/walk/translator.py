"""The translation core: look-up pipeline, walker, bit updates, and the order of invalidations between them."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..bus.fork import Fork
from ..bus.memory import MemoryReadSignature, MemoryWriteSignature
from ..bus.merge import Merge
from ..bus.sharing import sharing_port
from ..bus.translation import PageVerdict, RootPointer, TranslationRequest, TranslationResponse
from ..config import IommuConfig
from ..counters.events import Events
from ..formats.fault import FaultEvent
from ..invalidation.command import Invalidation
from ..lookup.guest_caches import guest_shapes
from ..lookup.pipeline import LookupPipeline, optional_fills
from .update import EntryUpdate
from .walker import Walker

__all__ = ["Translator"]


class Translator(wiring.Component):
    """Translates tagged requests, many at once, in any order.

    ::

        request ──────> LookupPipeline ──hit──────────┬─> response
        page_request ─┘  │  ^ fills                   │
                         └──┼──miss──> Walker ────────┘──> faults, verdict
                            └──────────┘ │  └─> EntryUpdate ──> update_read, update_write
        invalidations ──> both           └─> read

    An invalidation takes these steps, and is transferred when the last is done:

    1. OVERTAKE: no new walk starts; every walk that may have read what it covers will fill no cache (§3 of the design
    contract).
    2. CONFIGURATION: covered context and PASID entries go; requests that waited with such an entry in hand forget it.
    3. PAGES: walks start again, those for covered pages at the root; covered translations and tables go.

    ``drained`` then tells when the answers of overtaken walks and of earlier hits have left.

    Parameters
    ----------
    cfg : IommuConfig

    Attributes
    ----------
    request, response : stream of TranslationRequest, TranslationResponse
        Tags of requests in flight differ; answers come in any order.
    page_request, verdict : In(stream of TranslationRequest), Out(stream of PageVerdict)
        With ``cfg.page_requests``: requests of the type `AddressType.PAGE_REQUEST`, one at a time, and what becomes of
        each, taken when it comes.
    root_pointer : In(RootPointer)
        Sampled with each accepted request.
    invalidations : In(stream of Invalidation)
        The transfer is the completion: nothing covered can be looked up from then on.
    mark : Out(1)
        An invalidation has taken effect: nothing accepted from the next cycle on finds what it covers.
    drained : Out(1)
        Everything granted before the last completed invalidation that it may cover has left the response stream.
    faults : Out(stream of FaultEvent)
    read, update_read : Out(MemoryReadSignature)
    update_write : Out(MemoryWriteSignature)
    sharing : In(Sharing)
    events : Out(Events)
        Pulses for counters.
    """

    def __init__(self, cfg: IommuConfig):
        self.cfg = cfg
        page_requests = {
            "page_request": In(stream.Signature(TranslationRequest(cfg))),
            "verdict": Out(stream.Signature(PageVerdict(cfg), always_ready=True)),
        }
        super().__init__(
            {
                "request": In(stream.Signature(TranslationRequest(cfg))),
                "response": Out(stream.Signature(TranslationResponse(cfg))),
                **(page_requests if cfg.page_requests else {}),
                "root_pointer": In(RootPointer(cfg)),
                "invalidations": In(stream.Signature(Invalidation)),
                "mark": Out(1),
                "drained": Out(1),
                "faults": Out(stream.Signature(FaultEvent)),
                "read": Out(MemoryReadSignature(cfg)),
                "update_read": Out(MemoryReadSignature(cfg)),
                "update_write": Out(MemoryWriteSignature(cfg)),
                "sharing": sharing_port(),
                "events": Out(Events()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        cfg = self.cfg
        m.submodules.lookup = lookup = LookupPipeline(cfg)
        m.submodules.walker = walker = Walker(cfg)
        m.submodules.update = update = EntryUpdate(cfg)
        m.submodules.responses = responses = Merge(TranslationResponse(cfg), claimed=True)
        wiring.connect(m, wiring.flipped(self.request), lookup.request)
        wiring.connect(m, lookup.miss, walker.miss)
        wiring.connect(m, lookup.response, responses.i[0])
        m.d.comb += responses.claims.eq(lookup.responds)
        wiring.connect(m, walker.response, responses.i[1])
        wiring.connect(m, responses.o, wiring.flipped(self.response))
        wiring.connect(m, walker.faults, wiring.flipped(self.faults))
        wiring.connect(m, walker.read, wiring.flipped(self.read))
        wiring.connect(m, walker.update_request, update.request)
        wiring.connect(m, update.response, walker.update_response)
        wiring.connect(m, update.read, wiring.flipped(self.update_read))
        wiring.connect(m, update.write, wiring.flipped(self.update_write))
        for name in ("iotlb_fill", "pasid_fill", *optional_fills(cfg)):
            wiring.connect(m, getattr(walker, name), getattr(lookup, name))
        if cfg.page_requests:
            wiring.connect(m, wiring.flipped(self.page_request), lookup.page_request)
            wiring.connect(m, walker.verdict, wiring.flipped(self.verdict))
        m.d.comb += [lookup.root_pointer.eq(self.root_pointer), walker.root_pointer.eq(self.root_pointer)]
        if cfg.waiting_misses:
            m.d.comb += lookup.status.eq(walker.status)
        m.d.comb += [
            lookup.sharing.eq(self.sharing),
            walker.sharing.eq(self.sharing),
            self.events.eq(lookup.events.as_value() | walker.events.as_value()),
        ]
        self._elaborate_invalidations(m, lookup, walker)
        return m

    def _elaborate_invalidations(self, m, lookup, walker):
        offered = self.invalidations
        current = Signal(Invalidation)
        takers = [lookup.page_invalidations]
        if guest_shapes(self.cfg):
            takers.append(walker.guest_invalidations)
        m.submodules.pages = pages = Fork(Invalidation, len(takers))
        for out, taker in zip(pages.o, takers, strict=True):
            wiring.connect(m, out, taker)
        for part in (pages.i, lookup.configuration_invalidations):
            m.d.comb += part.payload.eq(current)
        m.d.comb += walker.invalidation.eq(current)
        m.d.comb += self.mark.eq(lookup.mark)
        m.d.sync += self.drained.eq(~lookup.mark & lookup.drained & walker.drained)
        with m.FSM(name="invalidate"):
            with m.State("IDLE"):
                m.d.sync += current.eq(offered.payload)
                with m.If(offered.valid):
                    m.next = "OVERTAKE"
            with m.State("OVERTAKE"):
                m.d.comb += walker.overtake.eq(1)
                with m.If(walker.overtaken):
                    m.next = "CONFIGURATION"
            with m.State("CONFIGURATION"):
                m.d.comb += [walker.overtake.eq(1), lookup.configuration_invalidations.valid.eq(1)]
                with m.If(lookup.configuration_invalidations.ready):
                    # Look-ups that read a row before it was cleared are still in the pipeline.
                    m.d.comb += lookup.forget_configuration.eq(current.context | current.pasid_cache)
                    m.next = "PAGES"
            with m.State("PAGES"):
                m.d.comb += walker.invalidating.eq(1)
                m.d.comb += pages.i.valid.eq(1)
                with m.If(pages.i.ready):
                    m.d.comb += [lookup.mark.eq(1), lookup.forget_structures.eq(current.iotlb)]
                    m.next = "SETTLE"
            with m.State("SETTLE"):
                # ``drained`` tells of this invalidation from the next cycle on.
                m.d.comb += offered.ready.eq(1)
                m.next = "IDLE"
