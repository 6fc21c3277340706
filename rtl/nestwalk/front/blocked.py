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

PAUSE = 8
"""Cycles between two questions, each of which holds up the data of other reads by a cycle."""


class BlockedRead(data.StructLayout):
    """The read number ``index``, and what its answer is made of."""

    def __init__(self, cfg: IommuConfig):
        super().__init__({"index": index_shape(cfg), "id": cfg.id_width, "len": 8, "generation": 1})


class BlockedReads(wiring.Component):
    """Answers one blocked read after the other, as many beats as were asked for, all zeros.

    ::

        read --> Queue --> WAIT -> ASK -> LOOK -> JUDGE --not busy--> ANSWER --last beat--> GONE --freed--> WAIT
                            ^                       |
                            `-------- PAUSE <-------'  busy

    A read is answered when all earlier reads of the same id have been answered by ``out``; later ones do not go out
    before GONE.

    Parameters
    ----------
    cfg : IommuConfig

    Attributes
    ----------
    read : In(stream of BlockedRead)
        Always taken: there is room for ``dma_translations``.
    next : Out(BlockedRead)
        The read that is to be answered next.
    ask, busy : Out(1), In(1)
        Asks, for one cycle in at most `PAUSE`, whether reads of its id are outstanding; answered two cycles later.
    beat : Out(stream of ReadBeat)
    gone : Out(1)
        Pulse: the last beat has been taken.
    frees, freed : Out(1), In(1)
        From the next cycle on: its number is given back, and taken.
    left : Out(Leave)
        The read is gone.
    """

    def __init__(self, cfg: IommuConfig):
        self._cfg = cfg
        super().__init__(
            {
                "read": In(stream.Signature(BlockedRead(cfg))),
                "next": Out(BlockedRead(cfg)),
                "ask": Out(1),
                "busy": In(1),
                "beat": Out(stream.Signature(ReadBeat(cfg))),
                "gone": Out(1),
                "frees": Out(1),
                "freed": In(1),
                "left": Out(Leave),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.waiting = waiting = Queue(BlockedRead(self._cfg), self._cfg.dma_translations, registered=True)
        wiring.connect(m, wiring.flipped(self.read), waiting.i)
        sent = Signal(8)
        pause = Signal(range(PAUSE))
        beat = self.beat.payload
        m.d.comb += [
            self.next.eq(waiting.o.payload),
            beat.id.eq(self.next["id"]),
            beat.resp.eq(BLOCKED),
            beat.last.eq(sent == self.next["len"]),
            self.left.valid.eq(self.gone),
            self.left.generation.eq(self.next.generation),
            waiting.o.ready.eq(self.frees & self.freed),
        ]
        m.d.sync += [self.gone.eq(0), self.frees.eq((self.frees & ~self.freed) | self.gone)]
        with m.FSM():
            with m.State("WAIT"):
                m.d.sync += sent.eq(0)
                with m.If(waiting.o.valid):
                    m.next = "ASK"
            with m.State("ASK"):
                m.d.comb += self.ask.eq(1)
                m.next = "LOOK"
            with m.State("LOOK"):
                m.next = "JUDGE"
            with m.State("JUDGE"):
                m.next = "ANSWER"
                with m.If(self.busy):
                    m.next = "PAUSE"
            with m.State("PAUSE"):
                m.d.sync += pause.eq(pause + 1)
                with m.If(pause == PAUSE - 1):
                    m.next = "WAIT"
            with m.State("ANSWER"):
                m.d.comb += self.beat.valid.eq(1)
                with m.If(self.beat.ready):
                    m.d.sync += sent.eq(sent + 1)
                    with m.If(beat.last):
                        m.d.sync += self.gone.eq(1)
                        m.next = "GONE"
            with m.State("GONE"):
                with m.If(self.frees & self.freed):
                    m.next = "WAIT"
        return m
