"""Keeps reads of one id in order while those of different ids overtake each other."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..bus.queue import Queue
from ..config import IommuConfig
from .signature import index_shape
from .table import Table

__all__ = ["ReadOrder", "ReadyRead"]


class ReadyRead(data.StructLayout):
    """A read that can go, or be answered if it is blocked."""

    def __init__(self, cfg: IommuConfig):
        super().__init__({"index": index_shape(cfg), "blocked": 1})


class ReadOrder(wiring.Component):
    """Offers each read when it is translated and all earlier reads of its id have gone.

    ::

        enter ----> list of each id:  oldest -> ... -> last
        arrived --+-- in turn -------------------------> Queue ---+--> offer
                  `-- before its turn: aside                      |
                         `-- the one before it goes ---> Queue ---'

    Two things must happen to a read before it can go: its translation arrives, and its turn comes. The oldest read of
    an id has its turn from the start; a read that goes gives the turn to its follower. What comes first is noted where
    the second looks: at the read itself that it has its turn, or at the one before it that its follower ``waits``. An
    offer follows ``arrived`` by one cycle, one goes in each cycle, those that arrived in their turn alternating with
    those that were woken. A blocked read does not go when it is taken but when ``gone`` says that it has been answered.

    Parameters
    ----------
    cfg : IommuConfig
        ``dma_translations`` reads.

    Attributes
    ----------
    enter, enter_index, enter_id : In
        A read was accepted. Its translation arrives three cycles later at the earliest.
    arrived, arrived_index, arrived_blocked : In
        Its translation is there.
    offer, offer_index, offer_blocked, take : Out, Out, Out, In
        A read whose turn it is; the offer may change as long as it is not taken.
    gone, gone_index : In
        A blocked read has been answered, and goes. Nothing is offered then.
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
        index, count = index_shape(self._cfg), self._cfg.dma_translations
        ready = ReadyRead(self._cfg)
        m.submodules.in_turn = in_turn = Queue(ready, count, registered=True, refuses=False)
        m.submodules.woken = woken = Queue(ready, count, registered=True, refuses=False)
        m.submodules.blocked = blocked = Table(self._cfg, 1)
        m.submodules.followers = followers = Table(self._cfg, index, readers=2)
        m.submodules.before = before = Table(self._cfg, index)

        # Two reads may go in this cycle: one that came in turn (or was blocked and is answered), and one woken.
        heads, goes, wakes = [Signal(index, name=f"head_{n}") for n in range(2)], Signal(2), Signal(2)
        from_woken, prefer_woken = Signal(), Signal()
        m.d.comb += [
            heads[0].eq(Mux(self.gone, self.gone_index, in_turn.o.payload.index)),
            heads[1].eq(woken.o.payload.index),
            from_woken.eq(woken.o.valid & (prefer_woken | ~in_turn.o.valid)),
            self.offer.eq((woken.o.valid | in_turn.o.valid) & ~self.gone),
            self.offer_index.eq(Mux(from_woken, heads[1], in_turn.o.payload.index)),
            self.offer_blocked.eq(Mux(from_woken, woken.o.payload.blocked, in_turn.o.payload.blocked)),
            goes[0].eq(self.gone | (self.take & ~from_woken & ~in_turn.o.payload.blocked)),
            goes[1].eq(self.take & from_woken & ~woken.o.payload.blocked),
            in_turn.o.ready.eq(self.take & ~from_woken),
            woken.o.ready.eq(self.take & from_woken),
            *(followers.index[n].eq(head) for n, head in enumerate(heads)),
        ]
        with m.If(self.take):
            m.d.sync += prefer_woken.eq(~from_woken)
        went = Signal(count)  # in the last cycle
        going_index = Mux(from_woken & ~self.gone, heads[1], heads[0])
        m.d.sync += went.eq(one_hot(going_index, count) & replicate(goes, count))

        last, turn, waits = Signal(count), Signal(count), Signal(count)
        entering, begins = self._enter(m, last, went, followers, before)

        # Who goes wakes its follower, or gives it the turn.
        second, follower, calls = from_woken & ~self.gone, Signal(index), Signal(2)
        m.d.comb += [
            wakes.eq(Cat(goes[n] & ~last.bit_select(head, 1) for n, head in enumerate(heads))),
            calls.eq(Cat(waits.bit_select(head, 1) for head in heads) & wakes),
            follower.eq(Mux(second, followers.word[1], followers.word[0])),
            blocked.index[0].eq(follower),
            woken.i.valid.eq(calls.any()),
            woken.i.payload.index.eq(follower),
            woken.i.payload.blocked.eq(blocked.word[0]),
        ]
        # Who arrives in its turn, or as that comes, is ready; else it is noted at the one before.
        arrived, now = self.arrived_index, Signal(2)
        m.d.comb += [
            now.eq(Cat(followers.word[n] == arrived for n in range(2)) & wakes),
            in_turn.i.valid.eq(self.arrived & (turn.bit_select(arrived, 1) | now.any())),
            in_turn.i.payload.index.eq(arrived),
            in_turn.i.payload.blocked.eq(self.arrived_blocked),
            blocked.write.eq(self.arrived),
            blocked.write_index.eq(arrived),
            blocked.value.eq(self.arrived_blocked),
            before.index[0].eq(arrived),
        ]
        aside = one_hot(before.word[0], count) & replicate(self.arrived & ~in_turn.i.valid, count)
        given = one_hot(follower, count) & replicate(wakes, count)
        m.d.sync += [
            waits.eq((waits | aside) & ~entering),
            turn.eq((turn & ~entering) | given | begins),
        ]
        return m

    def _enter(self, m: Module, last, went, followers: Table, before: Table):
        """Append the read that was accepted to the list of its id.

        Returns the read, one-hot, and one cycle later the same if it has its turn because none is before it.
        """
        index, count = index_shape(self._cfg), self._cfg.dma_translations
        ids = [Signal(self._cfg.id_width, name=f"id_{n}") for n in range(count)]
        valid, new, new_id = Signal(), Signal(index), Signal(self._cfg.id_width)
        m.d.sync += [valid.eq(self.enter), new.eq(self.enter_index), new_id.eq(self.enter_id)]
        entering = Signal(count)
        id_is_same = Signal(count, reset_less=True)
        same, same_index = Signal(count), Signal(index)  # the last one of the same id
        m.d.comb += [
            entering.eq(one_hot(new, count) & replicate(valid, count)),
            same.eq(id_is_same & last & ~went),
            followers.write.eq(valid & same.any()),
            followers.write_index.eq(same_index),
            followers.value.eq(new),
            before.write.eq(valid),
            before.write_index.eq(new),
            before.value.eq(same_index),
        ]
        for bit in range(len(same_index)):
            m.d.comb += same_index[bit].eq(Cat(same[n] for n in range(count) if n >> bit & 1).any())
        for n in range(count):
            m.d.sync += id_is_same[n].eq(Mux(entering[n], new_id, ids[n]) == self.enter_id)
            with m.If(entering[n]):
                m.d.sync += ids[n].eq(new_id)
        m.d.sync += last.eq((last & ~went & ~(same & replicate(valid, count))) | entering)

        # Whether the one before went in the same cycle is known one cycle later.
        entered, first, after = Signal(count), Signal(), Signal(index)
        m.d.sync += [entered.eq(entering), first.eq(~same.any()), after.eq(same_index)]
        has_turn = first | went.bit_select(after, 1)
        return entering, entered & has_turn.replicate(count)


def one_hot(index, count: int) -> Value:
    """``count`` bits of which number ``index`` is set."""
    return Cat(index == n for n in range(count))


def replicate(condition, count: int) -> Value:
    """``count`` times whether any bit of ``condition`` is set."""
    return condition.any().replicate(count)
