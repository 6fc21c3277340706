"""Keeps reads of one id in order while those of different ids overtake each other."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..bus.queue import Queue
from ..config import IommuConfig
from .signature import index_shape
from .table import Table

__all__ = ["ReadOrder"]


class ReadOrder(wiring.Component):
    """Offers each read when it is translated and all earlier reads of its id have gone.

    ::

        enter ----> list of each id:  oldest -> ... -> last
        arrived --> Queue --+-- in turn ----------------------+--> offer
                            `-- before its turn: aside        |
                                   `-- its turn comes --> Queue (woken)

    Two things must happen to a read before it can go: its translation arrives, and its turn comes. Of both, the first
    sets its bit in ``met``, and the second finds the bit set. The oldest read of an id has its turn from the start; a
    read that goes gives the turn to its follower. An offer follows ``arrived`` by one cycle, one goes in each cycle,
    those that arrived in their turn alternating with those that were woken. A blocked read does not go when it is taken
    but when ``gone`` says that it has been answered.

    Parameters
    ----------
    cfg : IommuConfig
        ``dma_translations`` reads.

    Attributes
    ----------
    enter, enter_index, enter_id : In
        A read was accepted. Its translation arrives in a later cycle.
    arrived, arrived_index, arrived_blocked : In
        Its translation is there.
    offer, offer_index, offer_blocked, take : Out, Out, Out, In
        A read whose turn it is; the offer may change as long as it is not taken.
    answered, answered_index, gone : In
        A blocked read has been answered, and goes. Nothing is offered while ``answered``.
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
                "answered": In(1),
                "answered_index": In(index),
                "gone": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        index, count = index_shape(self._cfg), self._cfg.dma_translations
        m.submodules.arrivals = arrivals = Queue(index, count)
        m.submodules.woken = woken = Queue(index, count)
        m.submodules.blocked = blocked = Table(self._cfg, 1, readers=2)
        m.submodules.followers = followers = Table(self._cfg, index, readers=2)
        m.d.comb += [
            arrivals.i.valid.eq(self.arrived),
            arrivals.i.payload.eq(self.arrived_index),
            blocked.write.eq(self.arrived),
            blocked.write_index.eq(self.arrived_index),
            blocked.value.eq(self.arrived_blocked),
        ]

        # Two reads may go in this cycle: the latest arrival (or a blocked read that was answered), and one woken.
        heads, goes, wakes = [Signal(index, name=f"head_{n}") for n in range(2)], Signal(2), Signal(2)
        m.d.comb += [
            heads[0].eq(Mux(self.answered, self.answered_index, arrivals.o.payload)),
            heads[1].eq(woken.o.payload),
        ]
        for n, head in enumerate(heads):
            m.d.comb += [blocked.index[n].eq(head), followers.index[n].eq(head)]
        went = Signal(count)  # in the last cycle
        m.d.sync += went.eq(Mux(goes[1], one_hot(heads[1], count), one_hot(heads[0], count)) & replicate(goes, count))

        met, last = Signal(count), Signal(count)
        entering, has_turn = self._enter(m, last, went, heads, goes, followers)

        in_turn, from_woken, prefer_woken = Signal(), Signal(), Signal()
        m.d.comb += [
            in_turn.eq(arrivals.o.valid & met.bit_select(heads[0], 1)),
            from_woken.eq(woken.o.valid & (prefer_woken | ~in_turn)),
            self.offer.eq((woken.o.valid | in_turn) & ~self.answered),
            self.offer_index.eq(Mux(from_woken, heads[1], heads[0])),
            self.offer_blocked.eq(Mux(from_woken, blocked.word[1], blocked.word[0])),
            goes[0].eq(self.gone | (self.take & ~from_woken & ~blocked.word[0])),
            goes[1].eq(self.take & from_woken & ~blocked.word[1]),
            arrivals.o.ready.eq(self.take & ~from_woken),
            woken.o.ready.eq(self.take & from_woken),
        ]
        with m.If(self.take):
            m.d.sync += prefer_woken.eq(~from_woken)

        # Who goes wakes its follower. An arrival before its turn steps aside, unless it is woken in this very cycle.
        follower, follower_met, aside = Signal(index), Signal(), Signal()
        second = from_woken & ~self.answered
        m.d.comb += [
            Cat(wakes).eq(Cat(goes[n] & ~last.bit_select(head, 1) for n, head in enumerate(heads))),
            follower.eq(Mux(second, followers.word[1], followers.word[0])),
            follower_met.eq(Mux(second, *(met.bit_select(followers.word[n], 1) for n in (1, 0)))),
            woken.i.valid.eq(wakes.any() & follower_met),
            woken.i.payload.eq(follower),
        ]
        with m.If(arrivals.o.valid & ~self.answered & ~in_turn & ~(wakes[1] & (followers.word[1] == heads[0]))):
            m.d.comb += [aside.eq(1), arrivals.o.ready.eq(1)]
        happens = (one_hot(follower, count) & replicate(wakes, count)) | (
            one_hot(heads[0], count) & replicate(aside, count)
        )
        m.d.sync += met.eq((met | happens) & ~entering | (entering & replicate(has_turn, count)))
        return m

    def _enter(self, m: Module, last: Signal, went: Signal, heads, goes: Signal, followers: Table):
        """Append the read that was accepted to the list of its id.

        Returns the read, one-hot, and whether it has its turn because none is before it.
        """
        index, count = index_shape(self._cfg), self._cfg.dma_translations
        ids = [Signal(self._cfg.id_width, name=f"id_{n}") for n in range(count)]
        valid, new, new_id = Signal(), Signal(index), Signal(self._cfg.id_width)
        m.d.sync += [valid.eq(self.enter), new.eq(self.enter_index), new_id.eq(self.enter_id)]
        entering = Signal(count)
        before, before_index = Signal(count), Signal(index)
        m.d.comb += [
            entering.eq(one_hot(new, count) & replicate(valid, count)),
            before.eq(Cat(user_id == new_id for user_id in ids) & last & ~went),
            followers.write.eq(valid & before.any()),
            followers.write_index.eq(before_index),
            followers.value.eq(new),
        ]
        for bit in range(len(before_index)):
            m.d.comb += before_index[bit].eq(Cat(before[n] for n in range(count) if n >> bit & 1).any())
        for n in range(count):
            with m.If(entering[n]):
                m.d.sync += ids[n].eq(new_id)
        m.d.sync += last.eq((last & ~went & ~(before & replicate(valid, count))) | entering)

        has_turn = Signal()
        goes_now = Cat(go & (head == before_index) for go, head in zip(goes, heads, strict=True)).any()
        m.d.comb += has_turn.eq(~before.any() | goes_now)
        return entering, has_turn


def one_hot(index, count: int) -> Value:
    """``count`` bits of which number ``index`` is set."""
    return Cat(index == n for n in range(count))


def replicate(condition, count: int) -> Value:
    """``count`` times whether any bit of ``condition`` is set."""
    return condition.any().replicate(count)
