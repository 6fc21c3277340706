"""The unit's AXI ports behind the core's request and response streams, for workloads that measure at the AXI ports."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from nestwalk.bus.axi import Axi4LiteSignature, Axi4Signature, AxiResponse
from nestwalk.bus.queue import Queue
from nestwalk.bus.translation import Access, TranslationRequest, TranslationResponse
from nestwalk.config import IommuConfig
from nestwalk.registers.bank import ADDRESS_BITS
from nestwalk.unit import Unit

__all__ = ["AXI_PORT", "AxiPort"]

AXI_PORT = f"{__name__}:AxiPort"
"""The component as `nestwalk_sim.rtl.run.run_in_simulation` wants it."""

_ANSWERS = 4
_WAITING = 8


class AxiPort(wiring.Component):
    """A device and a memory that wait for nothing, around `Unit`; the ports are those of `Core`.

    ::

        request ──> Queue ──> dma AR ──> ┌──────┐ ──> out AR / AW ──> response, and R / B in the next cycle
                └─> Queue ──> dma AW ──> │ Unit │
                           (W: 1)    ──> └──────┘ ──> out W

    A request reaches ``dma`` `DELAY` cycle after its acceptance here. It is a burst of one beat that carries its tag in
    AxUSER and the tag's lower bits as its id; a write's data is always ready. A response is the burst's appearance on
    ``out``, in the same cycle, with the address it has there. A request that the unit blocks gets no response.

    Parameters
    ----------
    cfg : IommuConfig
        With AxUSER at least as wide as tags.

    Raises
    ------
    ValueError
        When AxUSER cannot carry a tag.
    """

    DELAY = 1

    def __init__(self, cfg: IommuConfig):
        if cfg.user_width < cfg.tag_width:
            raise ValueError(f"AxUSER of {cfg.user_width} bits cannot carry tags of {cfg.tag_width}")
        self.cfg = cfg
        super().__init__(
            {
                "csr": In(Axi4LiteSignature(address_width=ADDRESS_BITS, data_width=64)),
                "mem": Out(Axi4Signature(address_width=cfg.haw, data_width=cfg.mem_data_width, id_width=cfg.id_width)),
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
        m.submodules.unit = unit = Unit(self.cfg)
        wiring.connect(m, wiring.flipped(self.csr), unit.csr)
        wiring.connect(m, unit.mem, wiring.flipped(self.mem))
        for name in ("irq_fault", "irq_invalidation", "irq_page_request"):
            m.d.comb += getattr(self, name).eq(getattr(unit, name))
        self._send(m, unit.dma)
        self._receive(m, unit.out)
        return m
        return m

    def _send(self, m: Module, dma):
        """Let reads and writes wait apart, so that both address channels have something to offer at once."""
        request = self.request
        is_write = Value.cast(request.payload.access) == Access.WRITE
        for channel, chosen in (("ar", ~is_write), ("aw", is_write)):
            m.submodules[f"{channel}_waiting"] = waiting = Queue(TranslationRequest(self.cfg), _WAITING)
            m.d.comb += [waiting.i.payload.eq(request.payload), waiting.i.valid.eq(request.valid & chosen)]
            with m.If(chosen):
                m.d.comb += request.ready.eq(waiting.i.ready)
            asked = waiting.o.payload
            attributes = {
                "valid": waiting.o.valid,
                "id": asked.tag[: self.cfg.id_width],
                "user": asked.tag,
                "addr": asked.address,
                "size": (self.cfg.data_width // 8).bit_length() - 1,
                "burst": 1,
                "prot": Cat(asked.privileged, 0, asked.execute),
                "mmusid": asked.source_id,
                "mmussid": asked.pasid,
                "mmussidv": asked.pasid_valid,
            }
            m.d.comb += [getattr(dma, channel + name).eq(value) for name, value in attributes.items()]
            m.d.comb += waiting.o.ready.eq(getattr(dma, f"{channel}ready"))
        m.d.comb += [dma.wvalid.eq(1), dma.wlast.eq(1), dma.wstrb.eq(~0), dma.rready.eq(1), dma.bready.eq(1)]

    def _receive(self, m: Module, out):
        m.submodules.reads = reads = Queue(self.cfg.id_width, _ANSWERS)
        m.submodules.writes = writes = Queue(self.cfg.id_width, _ANSWERS)
        response = self.response
        read, write = Signal(), Signal()
        data_owed = Signal(range(-(1 << 8), 1 << 8))  # last beats taken less responses given
        given = out.bvalid & out.bready
        m.d.sync += data_owed.eq(data_owed + (out.wvalid & out.wlast) - given)
        m.d.comb += [
            read.eq(out.arvalid & reads.i.ready),
            write.eq(out.awvalid & writes.i.ready & ~read),
            response.valid.eq(read | write),
            out.arready.eq(read & response.ready),
            out.awready.eq(write & response.ready),
            reads.i.valid.eq(out.arvalid & out.arready),
            reads.i.payload.eq(out.arid),
            writes.i.valid.eq(out.awvalid & out.awready),
            writes.i.payload.eq(out.awid),
            response.payload.tag.eq(Mux(read, out.aruser, out.awuser)),
            response.payload.granted.eq(1),
            response.payload.address.eq(Mux(read, out.araddr, out.awaddr)),
            out.wready.eq(1),
            out.rvalid.eq(reads.o.valid),
            out.rid.eq(reads.o.payload),
            out.rresp.eq(AxiResponse.OKAY),
            out.rlast.eq(1),
            reads.o.ready.eq(out.rready),
            out.bvalid.eq(writes.o.valid & (data_owed > 0)),
            out.bid.eq(writes.o.payload),
            writes.o.ready.eq(out.bready & (data_owed > 0)),
        ]
