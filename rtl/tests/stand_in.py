"""A component with the core's ports and next to nothing behind them, to test the bench by itself."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from nestwalk.bus.axi import Axi4LiteSignature, Axi4Signature, AxiResponse
from nestwalk.bus.translation import Access, TranslationRequest, TranslationResponse
from nestwalk.config import IommuConfig

__all__ = ["ADDRESS", "COUNT", "CYCLES", "DOORBELL", "SCRATCH", "StandIn"]

SCRATCH, COUNT, ADDRESS, DOORBELL, CYCLES = 0x00, 0x08, 0x10, 0x18, 0x20
"""Registers of 64 bits: read/write; requests accepted; where the doorbell writes; what it writes; cycles since
reset."""

_READ_IDS = 4
_ATOMIC_ID = 8


class StandIn(wiring.Component):
    """Answers a read with what memory holds at the request's address, in no cycle of its own.

    The AXI id is the two lowest bits of the source id, the number of beats less one the lowest 8 bits of the PASID; a
    beat has 8 bytes with ``one_dword`` and the bus' width without. An atomic request sets bit 5 of 8 bytes by an
    exclusive pair. ``granted`` says that the memory did it, ``fault`` is the AXI response. ``execute`` breaks the
    protocol (a wrapping burst). A write to the doorbell register writes 8 bytes to memory and raises ``irq_fault``.
    """

    def __init__(self, cfg: IommuConfig):
        self.cfg = cfg
        axi = Axi4Signature(address_width=cfg.haw, data_width=cfg.mem_data_width, id_width=cfg.id_width)
        super().__init__(
            {
                "csr": In(Axi4LiteSignature(address_width=12, data_width=64)),
                "mem": Out(axi),
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
        atomic = Signal()  # an exclusive pair runs, with the ports for itself
        doorbell = Signal()
        address, value = Signal(64), Signal(64)
        self._reads(m, atomic)
        self._writes(m, atomic, doorbell, address, value)
        self._registers(m, doorbell, address, value)
        return m

    def _reads(self, m: Module, atomic: Signal):
        request, response, mem = self.request, self.response, self.mem
        payload = request.payload
        outstanding = Signal(range(1024))
        lane = exact_log2(self.cfg.mem_data_width // 64)  # bits that name 64 bits of the bus
        queues = []
        for index in range(_READ_IDS):
            queue = m.submodules[f"queue_{index}"] = fifo.SyncFIFO(width=self.cfg.tag_width + lane, depth=128)
            queues.append(queue)
            m.d.comb += [
                queue.w_data.eq(Cat(payload.tag, payload.address[3 : 3 + lane])),
                queue.w_en.eq(request.valid & request.ready & (payload.source_id[:2] == index)),
                queue.r_en.eq(mem.rvalid & mem.rready & mem.rlast & (mem.rid == index)),
            ]
        is_atomic = payload.access == Access.ATOMIC
        started, finished = Signal(), Signal()
        m.d.comb += [
            started.eq(request.valid & request.ready),
            finished.eq(response.valid & response.ready),
            request.ready.eq(mem.arready & ~atomic & (~is_atomic | (outstanding == 0))),
            mem.arvalid.eq(request.valid & ~atomic & (~is_atomic | (outstanding == 0))),
            mem.araddr.eq(payload.address),
            mem.arid.eq(Mux(is_atomic, _ATOMIC_ID, payload.source_id[:2])),
            mem.arlen.eq(Mux(is_atomic, 0, payload.pasid[:8])),
            mem.arsize.eq(Mux(payload.one_dword | is_atomic, 3, 3 + lane)),
            mem.arburst.eq(Mux(payload.execute, 2, 1)),
            mem.arlock.eq(is_atomic),
        ]
        m.d.sync += outstanding.eq(outstanding + started - finished)
        data, tag, word = Signal(self.cfg.mem_data_width), Signal(self.cfg.tag_width), Signal(lane)
        m.d.comb += data.eq(mem.rdata)
        with m.Switch(mem.rid):
            for index, queue in enumerate(queues):
                with m.Case(index):
                    m.d.comb += Cat(tag, word).eq(queue.r_data)
        with m.If(~atomic):
            m.d.comb += [
                mem.rready.eq(response.ready | ~mem.rlast),
                response.valid.eq(mem.rvalid & mem.rlast),
                response.payload.tag.eq(tag),
                response.payload.granted.eq(~mem.rresp[1]),
                response.payload.fault.as_value().eq(mem.rresp),
                response.payload.address.eq(data.word_select(word, 64)),
            ]

    def _writes(self, m: Module, atomic: Signal, doorbell: Signal, address: Signal, value: Signal):
        request, response, mem = self.request, self.response, self.mem
        target, data, tag = Signal(self.cfg.haw), Signal(64), Signal(self.cfg.tag_width)
        lane = exact_log2(self.cfg.mem_data_width // 64)
        code, ringing, aw_done, w_done = Signal(2), Signal(), Signal(), Signal()
        m.d.comb += [
            mem.awaddr.eq(target),
            mem.awid.eq(_ATOMIC_ID),
            mem.awsize.eq(3),
            mem.awburst.eq(1),
            mem.awlock.eq(atomic),
            mem.wdata.eq(data.replicate(self.cfg.mem_data_width // 64)),
            mem.wstrb.eq(0xFF << (target[3 : 3 + lane] << 3)),
            mem.wlast.eq(1),
        ]
        with m.If(doorbell):
            m.d.sync += ringing.eq(1)
        with m.FSM():
            with m.State("IDLE"):
                with m.If(request.valid & request.ready & (request.payload.access == Access.ATOMIC)):
                    m.d.sync += [atomic.eq(1), target.eq(request.payload.address), tag.eq(request.payload.tag)]
                    m.next = "READ"
                with m.Elif(ringing):
                    m.d.sync += [ringing.eq(0), target.eq(address), data.eq(value)]
                    m.next = "WRITE"
            with m.State("READ"):
                m.d.comb += mem.rready.eq(1)
                with m.If(mem.rvalid):
                    m.d.sync += [data.eq(mem.rdata.word_select(target[3 : 3 + lane], 64) | 0x20), code.eq(mem.rresp)]
                    m.next = "RESPOND"
                    with m.If(mem.rresp == AxiResponse.EXOKAY):
                        m.next = "WRITE"
            with m.State("WRITE"):
                m.d.comb += [mem.awvalid.eq(~aw_done), mem.wvalid.eq(~w_done)]
                with m.If(mem.awready):
                    m.d.sync += aw_done.eq(1)
                with m.If(mem.wready):
                    m.d.sync += w_done.eq(1)
                with m.If((mem.awready | aw_done) & (mem.wready | w_done)):
                    m.d.sync += [aw_done.eq(0), w_done.eq(0)]
                    m.next = "WRITTEN"
            with m.State("WRITTEN"):
                m.d.comb += mem.bready.eq(1)
                with m.If(mem.bvalid):
                    m.d.sync += code.eq(mem.bresp)
                    m.d.comb += self.irq_fault.eq(~atomic)
                    m.next = "IDLE"
                    with m.If(atomic):
                        m.next = "RESPOND"
            with m.State("RESPOND"):
                m.d.comb += [
                    response.valid.eq(1),
                    response.payload.tag.eq(tag),
                    response.payload.granted.eq(code == AxiResponse.EXOKAY),
                    response.payload.fault.as_value().eq(code),
                    response.payload.address.eq(data),
                ]
                with m.If(response.ready):
                    m.d.sync += atomic.eq(0)
                    m.next = "IDLE"

    def _registers(self, m: Module, doorbell: Signal, address: Signal, value: Signal):
        csr = self.csr
        scratch, count, cycles = Signal(64), Signal(64), Signal(64)
        m.d.sync += [cycles.eq(cycles + 1), count.eq(count + (self.request.valid & self.request.ready))]
        m.d.comb += [
            csr.awready.eq(csr.wvalid & csr.awvalid & ~csr.bvalid),
            csr.wready.eq(csr.awready),
            csr.arready.eq(~csr.rvalid),
        ]
        with m.If(csr.bready):
            m.d.sync += csr.bvalid.eq(0)
        with m.If(csr.rready):
            m.d.sync += csr.rvalid.eq(0)
        with m.If(csr.awready):
            m.d.sync += csr.bvalid.eq(1)
            m.d.sync += doorbell.eq(csr.awaddr == DOORBELL)
            with m.Switch(csr.awaddr & ~7):
                for offset, register in ((SCRATCH, scratch), (ADDRESS, address), (DOORBELL, value)):
                    with m.Case(offset):
                        for byte in range(8):
                            with m.If(csr.wstrb[byte]):
                                m.d.sync += register.word_select(byte, 8).eq(csr.wdata.word_select(byte, 8))
        with m.Else():
            m.d.sync += doorbell.eq(0)
        with m.If(csr.arvalid & csr.arready):
            m.d.sync += csr.rvalid.eq(1)
            with m.Switch(csr.araddr & ~7):
                for offset, register in ((SCRATCH, scratch), (COUNT, count), (ADDRESS, address), (CYCLES, cycles)):
                    with m.Case(offset):
                        m.d.sync += csr.rdata.eq(register)
                with m.Default():
                    m.d.sync += csr.rdata.eq(0)
