"""Reads of the ``dma`` port, from the acceptance of their address to the last beat of their data."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..bus.bypass_queue import BypassQueue
from ..bus.generations import Leave
from ..bus.queue import Queue
from ..config import IommuConfig
from .blocked import BlockedReads
from .order import ReadOrder, ReadyRead
from .outstanding import Outstanding
from .signature import Burst, OutBurst, ReadBeat, Translation, index_shape
from .table import Table

__all__ = ["Reads"]


class Reads(wiring.Component):
    """Gives accepted reads a number, sends them out when they are translated, and answers those that are blocked.

    ::

        accept -------> bursts, by number ----------------------+
        translation --> addresses, by number -------------------+--> out_burst (AR of out)
             `--------> ReadOrder --offer--> Queue ---granted-'         |
                            ^ gone               `--blocked               `-> Outstanding --> left
                            `----------------- BlockedReads                       ^
        beat (R of dma) <-- Queue <-- alternating --'---------------- out_beat (R of out)

    Reads of one id go out and are answered in the order in which they came, those of different ids as their
    translations come. ``out_burst`` follows ``translation`` by one cycle and ``beat`` follows ``out_beat`` by one.
    The data of a blocked read are zeros, so that nobody sees what belongs to others.

    Parameters
    ----------
    cfg : IommuConfig

    Attributes
    ----------
    room, index : Out
        A read can be accepted, and its number.
    accept, burst : In
        It is.
    translation : In(Translation)
        Always taken.
    out_burst : Out(stream of OutBurst)
    out_beat : In(stream of ReadBeat)
    beat : Out(stream of ReadBeat)
    current : In(1)
        Generation of what is accepted in this cycle.
    left : Out(Leave), array of 2
        Reads that have been answered.
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
                "out_burst": Out(stream.Signature(OutBurst(cfg))),
                "out_beat": In(stream.Signature(ReadBeat(cfg))),
                "beat": Out(stream.Signature(ReadBeat(cfg))),
                "current": In(1),
                "left": Out(Leave).array(2),
            }
        )

    def elaborate(self, platform):
        m = Module()
        cfg, translation = self._cfg, self.translation
        m.submodules.order = order = ReadOrder(cfg)
        m.submodules.blocked = blocked = BlockedReads(cfg)
        m.submodules.outstanding = outstanding = Outstanding(cfg)
        m.submodules.bursts = bursts = Table(cfg, Burst(cfg))
        m.submodules.addresses = addresses = Table(cfg, cfg.haw)
        m.d.comb += [
            bursts.write.eq(self.accept),
            bursts.write_index.eq(self.index),
            bursts.value.eq(self.burst),
            addresses.write.eq(translation.valid),
            addresses.write_index.eq(translation.index),
            addresses.value.eq(translation.address),
            order.enter.eq(self.accept),
            order.enter_index.eq(self.index),
            order.enter_id.eq(self.burst["id"]),
            order.arrived.eq(translation.valid),
            order.arrived_index.eq(translation.index),
            order.arrived_blocked.eq(~translation.granted),
        ]

        # The read that goes out, or is answered here.
        m.submodules.queue = queue = BypassQueue(ReadyRead(cfg), 2)
        chosen, burst, sent = queue.o.payload, bursts.word[0], Signal()
        m.d.comb += [
            bursts.index[0].eq(chosen.index),
            addresses.index[0].eq(chosen.index),
            self.out_burst.valid.eq(queue.o.valid & ~chosen.blocked & ~outstanding.full),
            self.out_burst.payload.eq(OutBurst(cfg).made_of(burst, addresses.word[0])),
            sent.eq(self.out_burst.valid & self.out_burst.ready),
            queue.o.ready.eq(sent | chosen.blocked),
            outstanding.enter.eq(sent),
            outstanding.enter_id.eq(burst["id"]),
            outstanding.enter_generation.eq(burst.generation),
            outstanding.current.eq(self.current),
            queue.i.valid.eq(order.offer),
            queue.i.payload.index.eq(order.offer_index),
            queue.i.payload.blocked.eq(order.offer_blocked),
            order.take.eq(order.offer & queue.i.ready),
        ]

        m.d.comb += [
            blocked.read.valid.eq(queue.o.valid & chosen.blocked),
            blocked.read.payload.index.eq(chosen.index),
            blocked.read.payload.id.eq(burst["id"]),
            blocked.read.payload.len.eq(burst["len"]),
            blocked.read.payload.generation.eq(burst.generation),
            outstanding.ask.eq(blocked.ask),
            outstanding.ask_id.eq(blocked.next["id"]),
            blocked.busy.eq(outstanding.busy),
            order.gone.eq(blocked.gone),
            order.gone_index.eq(blocked.next.index),
            blocked.freed.eq(~sent),  # one number is returned at a time
        ]
        self._number(m, sent | blocked.frees, Mux(sent, chosen.index, blocked.next.index))
        self._answer(m, blocked, outstanding)
        return m

    def _number(self, m: Module, freed, freed_index):
        """Give out free numbers, all of them in the cycles after reset, later those that are freed."""
        count = self._cfg.dma_translations
        m.submodules.numbers = numbers = Queue(index_shape(self._cfg), count)
        unused = Signal(range(count + 1), init=count)
        m.d.comb += [
            numbers.i.valid.eq(freed | (unused != 0)),
            numbers.i.payload.eq(Mux(unused != 0, unused - 1, freed_index)),
            self.room.eq(numbers.o.valid & (unused == 0)),
            self.index.eq(numbers.o.payload),
            numbers.o.ready.eq(self.accept),
        ]
        with m.If(unused != 0):
            m.d.sync += unused.eq(unused - 1)

    def _answer(self, m: Module, blocked: BlockedReads, outstanding: Outstanding):
        """Answer with what ``out`` answers and, in turn, with the beats of blocked reads, whose data are zeros."""
        m.submodules.beats = beats = Queue(ReadBeat(self._cfg), 2, cleared=True)
        of_blocked = Signal()  # as soon as the queue is empty
        waits = Signal()  # what ``out`` answers
        m.d.sync += of_blocked.eq(blocked.beat.valid & ~(of_blocked & blocked.beat.ready))
        m.d.comb += [
            waits.eq(of_blocked | blocked.ask),
            beats.i.valid.eq(self.out_beat.valid & ~waits),
            beats.i.payload.eq(self.out_beat.payload),
            self.out_beat.ready.eq(beats.i.ready & ~waits),
            self.beat.valid.eq(beats.o.valid | of_blocked),
            self.beat.payload.eq(beats.o.payload),
            beats.o.ready.eq(self.beat.ready),
            blocked.beat.ready.eq(self.beat.ready & of_blocked & ~beats.o.valid),
        ]
        with m.If(~beats.o.valid):
            m.d.comb += [
                self.beat.payload.id.eq(blocked.beat.payload.id),
                self.beat.payload.resp.eq(blocked.beat.payload.resp),
                self.beat.payload.last.eq(blocked.beat.payload.last),
            ]
        m.d.comb += [
            outstanding.leave.eq(self.out_beat.valid & self.out_beat.ready & self.out_beat.payload.last),
            outstanding.leave_id.eq(self.out_beat.payload.id),
            self.left[0].eq(outstanding.left),
            self.left[1].eq(blocked.left),
        ]
