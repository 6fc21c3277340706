"""The core: translation, registers, invalidation queue and memory port, with streams of requests and responses."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .bus.ats import AtsSignature, PageResponse
from .bus.axi import Axi4LiteSignature, Axi4Signature
from .bus.mem_port import MemPort
from .bus.memory import MemoryIds
from .bus.merge import Merge
from .bus.shared_write import SharedWrite
from .bus.translation import TranslationRequest, TranslationResponse
from .config import IommuConfig
from .events.page_requests import PageRequests
from .formats.descriptor import DescriptorType, PageGroupResponse, descriptor_type
from .invalidation.command import Invalidation
from .invalidation.queue import InvalidationQueue
from .registers.bank import ADDRESS_BITS
from .registers.file import RegisterFile
from .walk.translator import Translator

__all__ = ["Core"]


class Core(wiring.Component):
    """Translation unit without the AXI ports of device traffic.

    ::

        request ──> ┌────────────┐ ──> response
                    │ Translator │ <── root pointer ── ┌──────────────┐ <── csr
                    │            │ ──── faults ──────> │ RegisterFile │ ──> irq_…
                    └─┬──────────┘                     └───┬──────────┘
                      │    ^ invalidations                 │ control
                      │    ├───────── InvalidationQueue <──┤
                      │    └───────── PageRequests <───────┘ <── ats ──>
                      └── reads, updates ─> MemPort <─ fetches, status, page requests, event messages
                                               └──> mem

    Parameters
    ----------
    cfg : IommuConfig

    Attributes
    ----------
    csr : In(Axi4LiteSignature)
        Register file, 12 address and 64 data bits.
    mem : Out(Axi4Signature)
        Tables, queue, status and event messages.
    ats : Out(AtsSignature)
        Messages from and to devices; nothing is there without ``cfg.page_requests``.
    request, response : stream of TranslationRequest, TranslationResponse
        The core port (§3). Tags of requests in flight differ; answers come in any order.
    mark : Out(1)
        An invalidation has taken effect: requests accepted from the next cycle on know it.
    draining : In(1)
        Accesses of requests accepted before the last mark are still on their way, and wait descriptors wait for them.
        From the cycle after ``mark`` on.
    irq_fault, irq_invalidation, irq_page_request : Out(1)
        Level-sensitive, high while the condition is set and unmasked.
    """

    def __init__(self, cfg: IommuConfig):
        self.cfg = cfg
        super().__init__(
            {
                "csr": In(Axi4LiteSignature(address_width=ADDRESS_BITS, data_width=64)),
                "mem": Out(Axi4Signature(address_width=cfg.haw, data_width=cfg.mem_data_width, id_width=cfg.id_width)),
                "ats": Out(AtsSignature(cfg)),
                "request": In(stream.Signature(TranslationRequest(cfg))),
                "response": Out(stream.Signature(TranslationResponse(cfg))),
                "mark": Out(1),
                "draining": In(1),
                "irq_fault": Out(1),
                "irq_invalidation": Out(1),
                "irq_page_request": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        cfg = self.cfg
        m.submodules.translator = translator = Translator(cfg)
        m.submodules.registers = registers = RegisterFile(cfg)
        m.submodules.queue = queue = InvalidationQueue(cfg)

        wiring.connect(m, wiring.flipped(self.csr), registers.csr)
        wiring.connect(m, wiring.flipped(self.request), translator.request)
        wiring.connect(m, translator.response, wiring.flipped(self.response))
        wiring.connect(m, translator.faults, registers.faults)
        wiring.connect(m, registers.queue, queue.control)
        drained = Signal()
        m.d.comb += [
            translator.root_pointer.eq(registers.root_pointer),
            translator.sharing.eq(registers.sharing),
            registers.counted.eq(translator.events),
            self.mark.eq(translator.mark),
            drained.eq(translator.drained & ~self.draining),
            queue.drained.eq(drained),
            registers.drained.eq(drained),
            self.irq_fault.eq(registers.irq_fault),
            self.irq_invalidation.eq(registers.irq_invalidation),
            self.irq_page_request.eq(registers.irq_page_request),
        ]

        pages = None
        if cfg.page_requests:
            m.submodules.page_requests = pages = PageRequests(cfg)
            self._connect_page_requests(m, pages, translator, registers, queue, drained)
        else:
            # Messages to devices have nobody to reach.
            m.d.comb += queue.messages.ready.eq(1)
        self._merge_invalidations(m, translator, registers, queue, pages)
        self._connect_memory(m, translator, registers, queue, pages)
        return m

    def _connect_page_requests(self, m, pages, translator, registers, queue, drained):
        wiring.connect(m, wiring.flipped(self.ats.page_request), pages.requests)
        wiring.connect(m, pages.walk, translator.page_request)
        wiring.connect(m, translator.verdict, pages.verdict)
        wiring.connect(m, registers.page_requests, pages.control)
        m.submodules.page_responses = responses = Merge(PageResponse)
        asked, automatic = responses.i
        wiring.connect(m, pages.responses, automatic)
        wiring.connect(m, responses.o, wiring.flipped(self.ats.page_response))
        message = PageGroupResponse.at_piece(0, queue.messages.payload)
        is_response = descriptor_type(queue.messages.payload) == DescriptorType.PAGE_GROUP_RESPONSE.value
        m.d.comb += [
            # A wait descriptor is not kept waiting by the requests of a device that does not stop.
            pages.pause.eq(queue.waits & ~drained),
            pages.hold.eq(queue.drains),
            queue.page_requests_idle.eq(pages.idle),
            asked.valid.eq(queue.messages.valid & is_response),
            # Device-TLB invalidations have nobody to reach.
            queue.messages.ready.eq(asked.ready | ~is_response),
            asked.p.source_id.eq(message.rid),
            asked.p.pasid_valid.eq(message.pp),
            asked.p.pasid.eq(message.pasid),
            asked.p.group.eq(message.prgi),
            asked.p.code.eq(message.rc),
        ]

    def _merge_invalidations(self, m, translator, registers, queue, pages):
        """Those of the queue, of page requests and those that registers command, in turn."""
        m.submodules.invalidations = merge = Merge(Invalidation)
        with_pasid = queue.invalidations
        if pages is not None:
            m.submodules.pasid_invalidations = both = Merge(Invalidation)
            wiring.connect(m, queue.invalidations, both.i[0])
            wiring.connect(m, pages.invalidations, both.i[1])
            with_pasid = both.o
        wiring.connect(m, with_pasid, merge.i[0])
        wiring.connect(m, registers.invalidations, merge.i[1])
        wiring.connect(m, merge.o, translator.invalidations)
        # Those of registers have none; where the scope names none it means nothing.
        m.d.comb += translator.invalidations.payload.pasid.eq(with_pasid.payload.pasid)

    def _connect_memory(self, m, translator, registers, queue, pages):
        cfg = self.cfg
        ids = MemoryIds(cfg)
        own = [range(number, number + 1) for number in (ids.update, ids.queue, ids.event)]
        m.submodules.mem_port = port = MemPort(cfg, readers=[range(ids.structures + 1), *own[:2]], writers=own)
        readers = (translator.read, translator.update_read, queue.read)
        events = registers.event_write
        if pages is not None:
            m.submodules.event_writes = shared = SharedWrite(cfg)
            wiring.connect(m, registers.event_write, shared.writers[0])
            wiring.connect(m, pages.write, shared.writers[1])
            events = shared.write
        writers = (translator.update_write, queue.write, events)
        for user, place in zip((*readers, *writers), (*port.readers, *port.writers), strict=True):
            wiring.connect(m, user, place)
        wiring.connect(m, port.mem, wiring.flipped(self.mem))
