"""Writes of the ``dma`` port, from the acceptance of their address to their response."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..bus.generations import Leave
from ..bus.queue import Queue
from ..config import IommuConfig
from .blocked import BLOCKED
from .outstanding import Outstanding
from .signature import Burst, OutBurst, Translation, WriteAnswer, WriteBeat, index_shape
from .table import Table

__all__ = ["Writes"]


class Writes(wiring.Component):
    """Sends writes out in the order in which they came, with their data, and answers those that are blocked.

    ::

        accept -------> bursts, a ring ---------+
        translation --> addresses --------------+---------> out_burst (AW of out)
             `--------> oldest arrived? --------+-granted--'     `-> Outstanding --> left
                                  `--blocked---------+
        beat (W of dma) --> Queue --+-- granted -----|----> out_beat (W of out)
                                    `-- of a blocked write: dropped
        answer (B of dma) <-- Queue <-- error -------+----- out_answer (B of out)

        PASS --blocked, all before it answered--> DRAIN --last beat--> ANSWER --> PASS

    The order is that of the data on W, which only a buffer for whole bursts could change: a write waits for the
    translations of those before it. A blocked write is answered when all earlier writes have been, and later ones wait
    for that. ``out_burst`` follows ``translation`` by one cycle; data and responses are passed with one cycle's delay.

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
        cfg = self._cfg
        m.submodules.bursts = bursts = Table(cfg, Burst(cfg))
        m.submodules.addresses = addresses = Table(cfg, cfg.haw)
        m.submodules.outstanding = outstanding = Outstanding(cfg)
        dealt_with, sent, answered, granted = Signal(), Signal(), Signal(), Signal()
        oldest, arrived, is_blocked = self._accept(m, dealt_with)
        burst = bursts.word[0]
        m.d.comb += [
            bursts.write.eq(self.accept),
            bursts.write_index.eq(self.index),
            bursts.value.eq(self.burst),
            bursts.index[0].eq(oldest),
            addresses.write.eq(self.translation.valid),
            addresses.write_index.eq(self.translation.index),
            addresses.value.eq(self.translation.address),
            addresses.index[0].eq(oldest),
            self.out_burst.valid.eq(arrived & ~is_blocked & ~outstanding.full),
            self.out_burst.payload.eq(OutBurst(cfg).made_of(burst, addresses.word[0])),
            sent.eq(self.out_burst.valid & self.out_burst.ready),
            dealt_with.eq(sent | answered),
            outstanding.enter.eq(sent),
            outstanding.enter_id.eq(burst["id"]),
            outstanding.enter_generation.eq(burst.generation),
            outstanding.leave.eq(self.out_answer.valid & self.out_answer.ready),
            outstanding.leave_id.eq(self.out_answer.payload.id),
            outstanding.current.eq(self.current),
            self.left[0].eq(outstanding.left),
            self.left[1].valid.eq(answered),
            self.left[1].generation.eq(burst.generation),
        ]
        # Its data are granted once, whenever it goes itself.
        m.d.sync += granted.eq(arrived & ~dealt_with)
        self._pass(m, granted=arrived & ~is_blocked & ~granted)
        self._answer_blocked(m, arrived & is_blocked & outstanding.empty, burst["id"], answered)
        return m

    def _accept(self, m: Module, dealt_with: Signal):
        """A ring of places; returns the oldest write's, and whether that is translated, and blocked."""
        cfg, count, translation = self._cfg, self._cfg.dma_translations, self.translation
        m.submodules.blocked = blocked = Table(cfg, 1, readers=2)
        oldest, arrived = Signal(index_shape(cfg)), Signal(count)
        second = Signal.like(oldest)
        used = Signal(range(count + 1))
        m.d.sync += used.eq(used + self.accept - dealt_with)
        m.d.comb += [
            self.room.eq(used != count),
            second.eq(oldest + 1),
            blocked.write.eq(translation.valid),
            blocked.write_index.eq(translation.index),
            blocked.value.eq(~translation.granted),
        ]
        # What is true of either is known before it is known whether the oldest one goes.
        there, is_blocked = Signal(2), Signal(2)
        for n, place in enumerate((oldest, second)):
            now = translation.valid & (translation.index == place)
            m.d.comb += [
                blocked.index[n].eq(place),
                there[n].eq(arrived.bit_select(place, 1) | now),
                is_blocked[n].eq(Mux(now, ~translation.granted, blocked.word[n])),
            ]
        offers, offers_blocked = Signal(), Signal()
        m.d.sync += [
            offers.eq(Mux(dealt_with, there[1], there[0])),
            offers_blocked.eq(Mux(dealt_with, is_blocked[1], is_blocked[0])),
        ]
        with m.If(self.accept):
            m.d.sync += self.index.eq(self.index + 1)
        with m.If(dealt_with):
            m.d.sync += oldest.eq(second)
        for n in range(count):
            with m.If(self.translation.valid & (self.translation.index == n)):
                m.d.sync += arrived[n].eq(1)
            with m.Elif(dealt_with & (oldest == n)):
                m.d.sync += arrived[n].eq(0)
        return oldest, offers, offers_blocked

    def _pass(self, m: Module, granted):
        """Pass data as they come, as many bursts as are granted: AXI lets nobody wait for AWREADY with WVALID."""
        m.submodules.beats = self._beats = beats = Queue(WriteBeat(self._cfg), 2)
        wiring.connect(m, wiring.flipped(self.beat), beats.i)
        owed = Signal(range(self._cfg.dma_outstanding + 2))
        data_sent = Signal()
        m.d.comb += [
            self.out_beat.valid.eq(beats.o.valid & (owed != 0)),
            self.out_beat.payload.eq(beats.o.payload),
            beats.o.ready.eq(self.out_beat.ready & (owed != 0)),
            data_sent.eq(self.out_beat.valid & self.out_beat.ready & beats.o.payload.last),
        ]
        m.d.sync += owed.eq(owed + granted - data_sent)

    def _answer_blocked(self, m: Module, next_to_answer, burst_id, answered: Signal):
        """Drop the data of a blocked write once all before it have been answered, then answer it."""
        m.submodules.answers = answers = Queue(WriteAnswer(self._cfg), 2)
        wiring.connect(m, answers.o, wiring.flipped(self.answer))
        with m.FSM():
            with m.State("PASS"):
                m.d.comb += [
                    answers.i.valid.eq(self.out_answer.valid),
                    answers.i.payload.eq(self.out_answer.payload),
                    self.out_answer.ready.eq(answers.i.ready),
                ]
                with m.If(next_to_answer):
                    m.next = "DRAIN"
            with m.State("DRAIN"):
                m.d.comb += self._beats.o.ready.eq(1)
                with m.If(self._beats.o.valid & self._beats.o.payload.last):
                    m.next = "ANSWER"
            with m.State("ANSWER"):
                m.d.comb += [
                    answers.i.valid.eq(1),
                    answers.i.payload.id.eq(burst_id),
                    answers.i.payload.resp.eq(BLOCKED),
                    answered.eq(answers.i.ready),
                ]
                with m.If(answered):
                    m.next = "PASS"
