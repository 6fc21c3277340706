"""The AXI front end: device traffic in, translated traffic out."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..bus.axi import Axi4Signature
from ..bus.generations import Generations
from ..bus.translation import Access, AddressType, TranslationRequest, TranslationResponse
from ..config import IommuConfig
from .reads import Reads
from .signature import Burst, DmaSignature, OutBurst, ReadBeat, WriteAnswer, WriteBeat
from .writes import Writes

__all__ = ["FrontEnd"]


class FrontEnd(wiring.Component):
    """Has every burst of ``dma`` translated and passes it to ``out`` or answers it with an error.

    ::

        dma AR --+-- in turn --> request ==> core ==> response --+--> Reads ---> out AR
        dma AW --'                                               `--> Writes --> out AW
        dma W ---------------------------------------------> Writes ---------> out W
        dma R <---- Reads <----------------------------------------------------- out R
        dma B <---- Writes <---------------------------------------------------- out B
        accepted, left --> Generations --> drained

    One address is accepted per cycle, AR and AW in turn when both wait; an address is on ``out`` three cycles after
    its translation. Both directions go on without each other, except that the core serves both. Ids, USER and all other
    attributes are kept, as are locks and the order of each id; reads of different ids overtake each other, writes do
    not. What the core blocks never appears on ``out``: it is answered with SLVERR, its data being dropped or zeros.

    No path leads from an input of an AXI port to an output within a cycle, but to ``request``: the address of ``dma``
    goes straight into the core.

    A burst stays within its 4 KiB page, as AXI demands, so that the translation of its first byte holds for all.

    Parameters
    ----------
    cfg : IommuConfig
        ``dma_translations`` bursts of each direction are in translation at once, ``dma_outstanding`` on ``out``.

    Attributes
    ----------
    dma : In(DmaSignature)
    out : Out(Axi4Signature)
    request, response : stream of TranslationRequest, TranslationResponse
        To and from the core; responses are always taken.
    mark : In(1)
        Draws a line: ``drained`` is about what was accepted until now.
    drained : Out(1)
        Nothing accepted before the last mark is still to go out, or without its B or last R there. Low from the cycle
        after a mark.
    """

    def __init__(self, cfg: IommuConfig):
        self._cfg = cfg
        axi = Axi4Signature(
            address_width=cfg.haw, data_width=cfg.data_width, id_width=cfg.id_width, user_width=cfg.user_width
        )
        super().__init__(
            {
                "dma": In(DmaSignature(cfg)),
                "out": Out(axi),
                "request": Out(stream.Signature(TranslationRequest(cfg))),
                "response": In(stream.Signature(TranslationResponse(cfg))),
                "mark": In(1),
                "drained": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.reads = reads = Reads(self._cfg)
        m.submodules.writes = writes = Writes(self._cfg)
        most = 2 * (self._cfg.dma_translations + self._cfg.dma_outstanding)
        m.submodules.generations = generations = Generations(most=most, exits=4)
        self._request(m, reads, writes)
        self._respond(m, reads, writes)
        self._connect(m, reads, writes)
        m.d.comb += [
            generations.enter.eq(self.request.valid & self.request.ready),
            generations.mark.eq(self.mark),
            self.drained.eq(generations.drained),
        ]
        for part in (reads, writes):
            m.d.comb += [part.current.eq(generations.current), part.burst.generation.eq(generations.current)]
        for leave, left in zip(generations.leave, (*reads.left, *writes.left), strict=True):
            m.d.comb += leave.eq(left)
        return m

    def _request(self, m: Module, reads: Reads, writes: Writes):
        """Offer the address whose turn it is to the core; who has been served yields to the other."""
        dma = self.dma
        turn = Signal()  # of AW
        can_read, can_write, offered, accepted = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            can_read.eq(dma.arvalid & reads.room),
            can_write.eq(dma.awvalid & writes.room),
            offered.eq(Mux(turn, can_write, can_read)),
            accepted.eq(offered & self.request.ready),
            self.request.valid.eq(offered),
            dma.arready.eq(~turn & reads.room & self.request.ready),
            dma.awready.eq(turn & writes.room & self.request.ready),
            reads.accept.eq(accepted & ~turn),
            writes.accept.eq(accepted & turn),
        ]
        with m.If((accepted | ~offered) & Mux(turn, can_read, can_write)):
            m.d.sync += turn.eq(~turn)

        request = self.request.payload
        with m.If(turn):
            self._translate(m, request, "aw", writes.index)
        with m.Else():
            self._translate(m, request, "ar", reads.index)
        m.d.comb += request.tag[len(reads.index)].eq(turn)

    def _translate(self, m: Module, request, channel: str, index):
        dma = self.dma

        def signal(name: str):
            return getattr(dma, channel + name)

        address = signal("addr")
        m.d.comb += [
            request.tag.eq(index),
            request.source_id.eq(signal("mmusid")),
            request.pasid_valid.eq(signal("mmussidv")),
            request.pasid.eq(signal("mmussid")),
            request.address.eq(address),
            request.access.eq(Access.WRITE if channel == "aw" else Access.READ),
            request.address_type.eq(
                Mux(signal("mmuatst"), AddressType.TRANSLATED.value, AddressType.UNTRANSLATED.value)
            ),
            request.privileged.eq(signal("prot")[0]),
            request.one_dword.eq((signal("len") == 0) & (signal("size") == 2) & (address[:2] == 0)),
        ]
        if channel == "ar":
            m.d.comb += request.execute.eq(signal("prot")[2])

    def _respond(self, m: Module, reads: Reads, writes: Writes):
        """Hand translations on, a cycle later: whose turn they are is a long way from the core's last look-up."""
        valid, response = Signal(), Signal(TranslationResponse(self._cfg), reset_less=True)
        of_write = response.tag[len(reads.index)]
        m.d.comb += self.response.ready.eq(1)
        m.d.sync += [valid.eq(self.response.valid), response.eq(self.response.payload)]
        for part, mine in ((reads, ~of_write), (writes, of_write)):
            m.d.comb += [
                part.translation.valid.eq(valid & mine),
                part.translation.index.eq(response.tag),
                part.translation.granted.eq(response.granted),
                part.translation.address.eq(response.address),
            ]

    def _connect(self, m: Module, reads: Reads, writes: Writes):
        """The channels of both ports."""
        cfg, dma, out = self._cfg, self.dma, self.out
        burst = Burst(cfg)
        width = burst["generation"].offset  # what lies below came with the address
        m.d.comb += [
            reads.burst.as_value()[:width].eq(burst.of(dma, "ar")),
            writes.burst.as_value()[:width].eq(burst.of(dma, "aw")),
        ]
        towards_out = (
            (reads.out_burst, OutBurst(cfg), out, "ar"),
            (writes.out_burst, OutBurst(cfg), out, "aw"),
            (writes.out_beat, WriteBeat(cfg), out, "w"),
            (reads.beat, ReadBeat(cfg), dma, "r"),
            (writes.answer, WriteAnswer(cfg), dma, "b"),
        )
        for source, layout, port, channel in towards_out:
            m.d.comb += [
                getattr(port, channel + "valid").eq(source.valid),
                layout.of(port, channel).eq(source.payload),
                source.ready.eq(getattr(port, channel + "ready")),
            ]
        towards_us = (
            (writes.beat, WriteBeat(cfg), dma, "w"),
            (reads.out_beat, ReadBeat(cfg), out, "r"),
            (writes.out_answer, WriteAnswer(cfg), out, "b"),
        )
        for sink, layout, port, channel in towards_us:
            m.d.comb += [
                sink.valid.eq(getattr(port, channel + "valid")),
                sink.payload.eq(layout.of(port, channel)),
                getattr(port, channel + "ready").eq(sink.ready),
            ]
