"""Keeps reads of one id in order while those of different ids overtake each other."""

from typing import NamedTuple

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from ..bus.queue import Queue
from ..config import IommuConfig
from .signature import index_shape

__all__ = ["ReadOrder"]


class ReadOrder(wiring.Component):
    """Offers each read when it is translated and all earlier reads of its id have gone.

    ::

        enter ------> list of each id:  oldest -> ... -> last
        arrived --> Queue --+-- its turn -----------------------+-> offer
                            `-- not yet: wait                   |
                                  `-- the one before goes -> Queue (woken)

    Two things must happen to a read before it can go: its translation arrives, and its turn comes. Of both, the first
    sets its bit in ``met``, and the second finds the bit set. The oldest read of an id has its turn from the start; a
    read that goes gives it to the next. An offer follows ``arrived`` by one cycle, one goes in each cycle, those that
    arrived in their turn alternating with those that were woken. A blocked read does not go when it is taken, but when
    ``gone`` says that it has been answered.

    Parameters
    ----------
    cfg : IommuConfig
        ``dma_outstanding`` reads.

    Attributes
    ----------
    enter, enter_index, enter_id : In
        A read was accepted. Its translation arrives in a later cycle.
    arrived, arrived_index, arrived_blocked : In
        Its translation is there.
    offer, offer_index, offer_blocked, take : Out, Out, Out, In
        A read whose turn it is; the offer may change as long as it is not taken.
    gone, gone_index : In
        A blocked read has been answered. Nothing is offered in that cycle.
    """

    def __init__(self, cfg: IommuConfig):
        self._cfg = cfg
        index = index_shape(cfg)
        super().__init__(
            {
                "enter": In(1),
                "enter_index": In(index),
                "enter_id": In(cfg.id_width),
                "arrived": In(1),
                "arrived_index": In(index),
                "arrived_blocked": In(1),
                "offer": Out(1),
                "offer_index": Out(index),
                "offer_blocked": Out(1),
                "take": In(1),
                "gone": In(1),
                "gone_index": In(index),
            }
        )

    def elaborate(self, platform):
        m = Module()
        count, index = self._cfg.dma_outstanding, index_shape(self._cfg)
        m.submodules.arrivals = arrivals = Queue(index, count + 1)
        m.submodules.woken = woken = Queue(index, count + 1)
        m.d.comb += [arrivals.i.valid.eq(self.arrived), arrivals.i.payload.eq(self.arrived_index)]
        self._met, self._last = met, last = Signal(count), Signal(count)

        # The two reads that may go in this cycle: the latest arrival (or a blocked read that is gone), and one woken.
        heads = [Signal(index, name=f"head_{n}") for n in range(2)]
        followers = [Signal(index, name=f"follower_{n}") for n in range(2)]
        goes = Signal(2)
        m.d.comb += [
            heads[0].eq(Mux(self.gone, self.gone_index, arrivals.o.payload)),
            heads[1].eq(woken.o.payload),
        ]
        blocked = self._table(m, "blocked", 1, heads)
        m.d.comb += [
            blocked.en.eq(self.arrived),
            blocked.addr.eq(self.arrived_index),
            blocked.data.eq(self.arrived_blocked),
        ]
        self._enter(m, heads, followers, goes)

        in_turn, from_woken, prefer_woken = Signal(), Signal(), Signal()
        m.d.comb += [
            in_turn.eq(arrivals.o.valid & met.bit_select(heads[0], 1)),
            from_woken.eq(woken.o.valid & (prefer_woken | ~in_turn)),
            self.offer.eq((woken.o.valid | in_turn) & ~self.gone),
            self.offer_index.eq(Mux(from_woken, heads[1], heads[0])),
            self.offer_blocked.eq(Mux(from_woken, blocked.read[1], blocked.read[0])),
            goes[0].eq(self.gone | (self.take & ~from_woken & ~blocked.read[0])),
            goes[1].eq(self.take & from_woken & ~blocked.read[1]),
        ]
        with m.If(self.take):
            m.d.sync += prefer_woken.eq(~from_woken)

        # Whoever goes gives its turn to its follower, which goes on when its translation has been there already.
        wakes = Signal(2)
        for n in range(2):
            m.d.comb += wakes[n].eq(goes[n] & ~last.bit_select(heads[n], 1))
        follower_met = [met.bit_select(follower, 1) for follower in followers]
        m.d.comb += [
            woken.i.valid.eq(wakes[0] & follower_met[0] | wakes[1] & follower_met[1]),
            woken.i.payload.eq(Mux(from_woken & ~self.gone, followers[1], followers[0])),
        ]
        # An arrival before its turn waits aside, unless it is the one that is woken in this very cycle.
        aside = Signal()
        m.d.comb += [
            aside.eq(arrivals.o.valid & ~self.gone & ~in_turn & ~(wakes[1] & (followers[1] == arrivals.o.payload))),
            arrivals.o.ready.eq(aside | (self.take & ~from_woken)),
            woken.o.ready.eq(self.take & from_woken),
        ]
        with m.If(aside):
            m.d.sync += met.bit_select(heads[0], 1).eq(1)
        for n in range(2):
            with m.If(wakes[n]):
                m.d.sync += met.bit_select(followers[n], 1).eq(1)
        return m

    def _enter(self, m: Module, heads, followers, goes):
        """Append the read that was accepted to the list of its id; tell who follows the heads."""
        count, index = self._cfg.dma_outstanding, index_shape(self._cfg)
        met, last = self._met, self._last
        ids = [Signal(self._cfg.id_width, name=f"id_{n}") for n in range(count)]
        entering, new, new_id = Signal(), Signal(index), Signal(self._cfg.id_width)
        went, went_index = Signal(), Signal(index)
        m.d.sync += [
            entering.eq(self.enter),
            new.eq(self.enter_index),
            new_id.eq(self.enter_id),
            went.eq(goes.any()),
            went_index.eq(Mux(goes[1], heads[1], heads[0])),
        ]
        before = Signal(count)  # the read that it follows, one-hot
        before_index = Signal(index)
        for n in range(count):
            here = new == n
            m.d.comb += before[n].eq(last[n] & (ids[n] == new_id) & ~(went & (went_index == n)))
            with m.If(entering & here):
                m.d.sync += [ids[n].eq(new_id), last[n].eq(1), met[n].eq(~before.any())]
                for head, go in zip(heads, goes, strict=True):
                    with m.If(go & before.bit_select(head, 1)):
                        m.d.sync += met[n].eq(1)
            with m.Elif((entering & before[n]) | (went & (went_index == n))):
                m.d.sync += last[n].eq(0)
        for bit in range(len(before_index)):
            m.d.comb += before_index[bit].eq(Cat(before[n] for n in range(count) if n >> bit & 1).any())
        following = self._table(m, "following", index, heads)
        m.d.comb += [
            following.en.eq(entering & before.any()),
            following.addr.eq(before_index),
            following.data.eq(new),
        ]
        for follower, value in zip(followers, following.read, strict=True):
            m.d.comb += follower.eq(value)

    def _table(self, m: Module, name: str, shape, heads) -> "_Table":
        """A word for each read: one write port, and the words of both heads."""
        m.submodules[name] = ram = memory.Memory(shape=shape, depth=self._cfg.dma_outstanding, init=[])
        write = ram.write_port()
        reads = [ram.read_port(domain="comb") for _ in heads]
        for read, head in zip(reads, heads, strict=True):
            m.d.comb += read.addr.eq(head)
        return _Table(write.en, write.addr, write.data, [read.data for read in reads])


class _Table(NamedTuple):
    """Signals of a RAM with a word for each read."""

    en: Value
    addr: Value
    data: Value
    read: list[Value]
