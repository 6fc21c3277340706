"""Writes of the ``dma`` port, from the acceptance of their address to their response."""

from amaranth.hdl import Module, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from ..bus.generations import Leave
from ..bus.queue import Queue
from ..config import IommuConfig
from .blocked import BLOCKED
from .outstanding import Outstanding
from .signature import Burst, OutBurst, Translation, WriteAnswer, WriteBeat, index_shape

__all__ = ["Writes"]


class Writes(wiring.Component):
    """Sends writes out in the order in which they came, with their data, and answers those that are blocked.

    ::

        accept --> bursts (LUT RAM, a ring) ---------------+
        translation --> addresses (LUT RAM, same places) --+--> register --> out_burst (AW of out)
        beat (W of dma) --> Queue --+-- as many bursts as have gone out ---> out_beat (W of out)
                                    `-- of a blocked write: dropped
        answer (B of dma) <-- Queue <-- out_answer (B of out), or the error of a blocked write

        PASS --blocked, all before it answered--> DRAIN --last beat--> ANSWER --> PASS

    The order is that of the data on W, which only a buffer for whole bursts could change: a write waits for the
    translations of those before it. A blocked write is answered when all earlier writes have been, and later ones wait
    for that. ``out_burst`` follows ``translation`` by two cycles; data and responses are passed with one cycle's delay.

    Parameters
    ----------
    cfg : IommuConfig

    Attributes
    ----------
    room, index : Out
        A write can be accepted, and its number.
    accept, burst : In
        It is.
    translation : In(Translation)
        Always taken.
    beat : In(stream of WriteBeat)
    out_burst : Out(stream of OutBurst)
    out_beat : Out(stream of WriteBeat)
        May precede or follow its burst.
    out_answer : In(stream of WriteAnswer)
    answer : Out(stream of WriteAnswer)
    current : In(1)
        Generation of what is accepted in this cycle.
    left : Out(Leave), array of 2
        Writes that have been answered.
    """

    def __init__(self, cfg: IommuConfig):
        self._cfg = cfg
        super().__init__(
            {
                "room": Out(1),
                "index": Out(index_shape(cfg)),
                "accept": In(1),
                "burst": In(Burst(cfg)),
                "translation": In(Translation(cfg)),
                "beat": In(stream.Signature(WriteBeat(cfg))),
                "out_burst": Out(stream.Signature(OutBurst(cfg))),
                "out_beat": Out(stream.Signature(WriteBeat(cfg))),
                "out_answer": In(stream.Signature(WriteAnswer(cfg))),
                "answer": Out(stream.Signature(WriteAnswer(cfg))),
                "current": In(1),
                "left": Out(Leave).array(2),
            }
        )

    def elaborate(self, platform):
        m = Module()
        cfg, count = self._cfg, self._cfg.dma_outstanding
        m.submodules.outstanding = outstanding = Outstanding(cfg)
        m.submodules.beats = beats = Queue(WriteBeat(cfg), 2)
        m.submodules.answers = answers = Queue(WriteAnswer(cfg), 2)
        wiring.connect(m, wiring.flipped(self.beat), beats.i)
        wiring.connect(m, answers.o, wiring.flipped(self.answer))

        head, arrived = Signal(index_shape(cfg)), Signal(count)
        done = Signal()  # the write at the head is dealt with
        self._accept(m, head, arrived, done)
        m.submodules.bursts = bursts = memory.Memory(shape=Burst(cfg), depth=count, init=[])
        m.submodules.answers_of_core = translations = memory.Memory(shape=Translation(cfg), depth=count, init=[])
        for ram, enable, index, value in (
            (bursts, self.accept, self.index, self.burst),
            (translations, self.translation.valid, self.translation.index, self.translation),
        ):
            write = ram.write_port()
            m.d.comb += [write.en.eq(enable), write.addr.eq(index), write.data.eq(value)]
        burst_read, translation_read = bursts.read_port(domain="comb"), translations.read_port(domain="comb")
        m.d.comb += [burst_read.addr.eq(head), translation_read.addr.eq(head)]
        burst, translation = burst_read.data, translation_read.data

        owed = Signal(range(count + 1))  # bursts that have gone out, or are about to, with data to follow
        goes_out, data_sent = Signal(), Signal()
        m.d.comb += [
            self.out_beat.valid.eq(beats.o.valid & (owed != 0)),
            self.out_beat.payload.eq(beats.o.payload),
            data_sent.eq(self.out_beat.valid & self.out_beat.ready & beats.o.payload.last),
            self.out_answer.ready.eq(answers.i.ready),
            answers.i.valid.eq(self.out_answer.valid),
            answers.i.payload.eq(self.out_answer.payload),
            outstanding.enter.eq(goes_out),
            outstanding.enter_id.eq(burst["id"]),
            outstanding.enter_generation.eq(burst.generation),
            outstanding.leave.eq(self.out_answer.valid & self.out_answer.ready),
            outstanding.leave_id.eq(self.out_answer.payload.id),
            outstanding.current.eq(self.current),
            self.left[0].eq(outstanding.left),
            self.left[1].generation.eq(burst.generation),
        ]
        m.d.sync += owed.eq(owed + goes_out - data_sent)
        with m.If(self.out_burst.ready):
            m.d.sync += self.out_burst.valid.eq(0)
        with m.If(goes_out):
            m.d.sync += [self.out_burst.valid.eq(1), self.out_burst.payload.addr.eq(translation.address)]
            for name, _ in OutBurst(cfg):
                if name != "addr":
                    m.d.sync += self.out_burst.payload[name].eq(burst[name])

        ready = arrived.bit_select(head, 1)
        with m.FSM():
            with m.State("PASS"):
                free = ~outstanding.full & (~self.out_burst.valid | self.out_burst.ready)
                m.d.comb += [
                    beats.o.ready.eq(self.out_beat.ready & (owed != 0)),
                    goes_out.eq(ready & translation.granted & free),
                    done.eq(goes_out),
                ]
                with m.If(ready & ~translation.granted & outstanding.empty):
                    m.next = "DRAIN"
            with m.State("DRAIN"):
                m.d.comb += beats.o.ready.eq(1)
                with m.If(beats.o.valid & beats.o.payload.last):
                    m.next = "ANSWER"
            with m.State("ANSWER"):
                m.d.comb += [
                    answers.i.valid.eq(1),
                    answers.i.payload.eq(0),
                    answers.i.payload.id.eq(burst["id"]),
                    answers.i.payload.resp.eq(BLOCKED),
                    done.eq(answers.i.ready),
                    self.left[1].valid.eq(done),
                ]
                with m.If(done):
                    m.next = "PASS"
        return m

    def _accept(self, m: Module, head: Signal, arrived: Signal, done: Signal):
        """A ring of places: accepted writes from ``head`` on, ``arrived`` where the translation is there."""
        count = self._cfg.dma_outstanding
        used = Signal(range(count + 1))
        translation = self.translation
        m.d.sync += used.eq(used + self.accept - done)
        m.d.comb += self.room.eq(used != count)
        with m.If(self.accept):
            m.d.sync += self.index.eq(self.index + 1)
        with m.If(done):
            m.d.sync += head.eq(head + 1)
        for n in range(count):
            with m.If(translation.valid & (translation.index == n)):
                m.d.sync += arrived[n].eq(1)
            with m.Elif(done & (head == n)):
                m.d.sync += arrived[n].eq(0)
