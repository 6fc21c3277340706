"""Answers to reads that the core has blocked."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..bus.axi import AxiResponse
from ..bus.generations import Leave
from ..bus.queue import Queue
from ..config import IommuConfig
from .signature import ReadBeat, index_shape

__all__ = ["BLOCKED", "BlockedRead", "BlockedReads"]

BLOCKED = AxiResponse.SLVERR
"""Response to blocked bursts. The address was decoded and the unit itself refuses, which is a subordinate's error;
DECERR remains what an interconnect behind ``out`` says of a host address where nothing is."""


class BlockedRead(data.StructLayout):
    """What is needed to answer a read."""

    def __init__(self, cfg: IommuConfig):
        super().__init__({"index": index_shape(cfg), "id": cfg.id_width, "len": 8, "generation": 1})


class BlockedReads(wiring.Component):
    """Answers one blocked read after the other, as many beats as were asked for, all zeros.

    ::

        read --> Queue --> WAIT --not busy--> ANSWER --last beat--> GONE --> WAIT

    WAIT lasts until all earlier reads of the same id have been answered by ``out``. Later ones do not go out before
    ``gone``.

    Parameters
    ----------
    cfg : IommuConfig

    Attributes
    ----------
    read : In(stream of BlockedRead)
        Always taken: there is room for ``dma_outstanding``.
    asked_id, busy : Out, In(1)
        Whether reads of that id are outstanding.
    beat : Out(stream of ReadBeat)
    gone, gone_index : Out
        The last beat has been taken (in the cycle before).
    left : Out(Leave)
        The same, for those who count.
    """

    def __init__(self, cfg: IommuConfig):
        self._cfg = cfg
        super().__init__(
            {
                "read": In(stream.Signature(BlockedRead(cfg))),
                "asked_id": Out(cfg.id_width),
                "busy": In(1),
                "beat": Out(stream.Signature(ReadBeat(cfg))),
                "gone": Out(1),
                "gone_index": Out(index_shape(cfg)),
                "left": Out(Leave),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.waiting = waiting = Queue(BlockedRead(self._cfg), self._cfg.dma_outstanding + 1)
        wiring.connect(m, wiring.flipped(self.read), waiting.i)
        read = waiting.o.payload
        sent = Signal(8)
        beat = self.beat.payload
        m.d.comb += [
            self.asked_id.eq(read.id),
            beat.id.eq(read.id),
            beat.resp.eq(BLOCKED),
            beat.last.eq(sent == read.len),
            self.gone_index.eq(read.index),
            self.left.valid.eq(self.gone),
            self.left.generation.eq(read.generation),
        ]
        with m.FSM():
            with m.State("WAIT"):
                m.d.sync += sent.eq(0)
                with m.If(waiting.o.valid & ~self.busy):
                    m.next = "ANSWER"
            with m.State("ANSWER"):
                m.d.comb += self.beat.valid.eq(1)
                with m.If(self.beat.ready):
                    m.d.sync += sent.eq(sent + 1)
                    with m.If(beat.last):
                        m.next = "GONE"
            with m.State("GONE"):
                m.d.comb += [self.gone.eq(1), waiting.o.ready.eq(1)]
                m.next = "WAIT"
        return m
