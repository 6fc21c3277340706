"""Reads of the ``dma`` port, from the acceptance of their address to the last beat of their data."""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from ..bus.generations import Leave
from ..bus.queue import Queue
from ..config import IommuConfig
from .blocked import BlockedReads
from .order import ReadOrder
from .outstanding import Outstanding
from .signature import Burst, OutBurst, ReadBeat, Translation, index_shape

__all__ = ["Reads"]


class Reads(wiring.Component):
    """Gives accepted reads a number, sends them out when they are translated, and answers those that are blocked.

    ::

        accept --> bursts, by number (LUT RAM) ------------------+
        translation --> addresses, by number (LUT RAM) ----------+--> register --> out_burst (AR of out)
             `--------> ReadOrder --offer--+--granted------------'         |
                           ^ gone          `--blocked--> BlockedReads      `--> Outstanding --> left
                           `-----------------------------' |                        ^
        beat (R of dma) <-- Queue <------- alternating ----+---- out_beat (R of out)

    Reads of one id go out and are answered in the order in which they came, those of different ids as their
    translations come. ``out_burst`` follows ``translation`` by two cycles and ``beat`` follows ``out_beat`` by one.
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
        m.submodules.order = order = ReadOrder(self._cfg)
        m.submodules.blocked = blocked = BlockedReads(self._cfg)
        m.submodules.outstanding = outstanding = Outstanding(self._cfg)
        translation = self.translation
        m.d.comb += [
            order.enter.eq(self.accept),
            order.enter_index.eq(self.index),
            order.enter_id.eq(self.burst["id"]),
            order.arrived.eq(translation.valid),
            order.arrived_index.eq(translation.index),
            order.arrived_blocked.eq(~translation.granted),
            order.gone.eq(blocked.gone),
            order.gone_index.eq(blocked.gone_index),
            blocked.busy.eq(outstanding.busy),
            outstanding.asked_id.eq(blocked.asked_id),
            outstanding.current.eq(self.current),
        ]
        burst = self._remember(m, "bursts", Burst(self._cfg), self.accept, self.index, self.burst, order.offer_index)
        address = self._remember(
            m,
            "addresses",
            self._cfg.haw,
            translation.valid,
            translation.index,
            translation.address,
            order.offer_index,
        )

        goes_out = Signal()
        m.d.comb += [
            order.take.eq(order.offer & ~outstanding.full & (~self.out_burst.valid | self.out_burst.ready)),
            goes_out.eq(order.take & ~order.offer_blocked),
            blocked.read.valid.eq(order.take & order.offer_blocked),
            blocked.read.payload.index.eq(order.offer_index),
            blocked.read.payload.id.eq(burst["id"]),
            blocked.read.payload.len.eq(burst["len"]),
            blocked.read.payload.generation.eq(burst.generation),
            outstanding.enter.eq(goes_out),
            outstanding.enter_id.eq(burst["id"]),
            outstanding.enter_generation.eq(burst.generation),
        ]
        with m.If(self.out_burst.ready):
            m.d.sync += self.out_burst.valid.eq(0)
        with m.If(goes_out):
            m.d.sync += [self.out_burst.valid.eq(1), self.out_burst.payload.addr.eq(address)]
            for name, _ in OutBurst(self._cfg):
                if name != "addr":
                    m.d.sync += self.out_burst.payload[name].eq(burst[name])
        self._number(m, goes_out | blocked.gone, Mux(blocked.gone, blocked.gone_index, order.offer_index))
        self._answer(m, blocked, outstanding)
        return m

    def _remember(self, m: Module, name: str, shape, enable, place, value, wanted) -> Value:
        """A word of LUT RAM for each number."""
        m.submodules[name] = ram = memory.Memory(shape=shape, depth=self._cfg.dma_outstanding, init=[])
        write, read = ram.write_port(), ram.read_port(domain="comb")
        m.d.comb += [write.en.eq(enable), write.addr.eq(place), write.data.eq(value), read.addr.eq(wanted)]
        return read.data

    def _number(self, m: Module, freed, freed_index):
        """Give out free numbers, all of them in the cycles after reset, later those that are freed."""
        count = self._cfg.dma_outstanding
        m.submodules.numbers = numbers = Queue(index_shape(self._cfg), count + 1)
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
        m.submodules.beats = beats = Queue(ReadBeat(self._cfg), 2)
        wiring.connect(m, beats.o, wiring.flipped(self.beat))
        of_blocked = Signal()
        m.d.sync += of_blocked.eq(blocked.beat.valid & ~of_blocked)
        with m.If(of_blocked):
            m.d.comb += [
                beats.i.valid.eq(blocked.beat.valid),
                beats.i.payload.eq(blocked.beat.payload),
                blocked.beat.ready.eq(beats.i.ready),
            ]
        with m.Else():
            m.d.comb += [
                beats.i.valid.eq(self.out_beat.valid),
                beats.i.payload.eq(self.out_beat.payload),
                self.out_beat.ready.eq(beats.i.ready),
            ]
        m.d.comb += [
            outstanding.leave.eq(self.out_beat.valid & self.out_beat.ready & self.out_beat.payload.last),
            outstanding.leave_id.eq(self.out_beat.payload.id),
            self.left[0].eq(outstanding.left),
            self.left[1].eq(blocked.left),
        ]
