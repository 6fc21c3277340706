"""What is outstanding on one direction of ``out``."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..bus.arbiter import lowest
from ..bus.generations import Leave
from ..config import IommuConfig

__all__ = ["Outstanding"]


class Outstanding(wiring.Component):
    """Remembers id and generation of every burst that has gone out and is not answered.

    ::

        enter --> free entry          entries (id, generation) --> busy, empty, full
        leave --> [id] --> [entries of that id] --> the older generation first --> left
        ask ------'                         `--> any? --> busy

    Bursts of one id go out and are answered in order, so that an answer is that of the id's oldest generation; among
    entries of one id and generation any will do. ``left`` follows ``leave`` by two cycles.

    Parameters
    ----------
    cfg : IommuConfig
        ``dma_outstanding`` entries.

    Attributes
    ----------
    current : In(1)
        The generation that accepted bursts belong to now.
    enter, enter_id, enter_generation : In
        A burst goes out; not while ``full``.
    leave, leave_id : In
        The last transfer of an answer.
    left : Out(Leave)
    ask, ask_id : In
        A question about an id, not together with ``leave``.
    busy : Out(1)
        Whether a burst of the id asked for two cycles ago is outstanding.
    full, empty : Out(1)
    """

    def __init__(self, cfg: IommuConfig):
        self._cfg = cfg
        super().__init__(
            {
                "current": In(1),
                "enter": In(1),
                "enter_id": In(cfg.id_width),
                "enter_generation": In(1),
                "leave": In(1),
                "leave_id": In(cfg.id_width),
                "left": Out(Leave),
                "ask": In(1),
                "ask_id": In(cfg.id_width),
                "busy": Out(1),
                "full": Out(1),
                "empty": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        entries = range(self._cfg.dma_outstanding)
        valid, generation = Signal(len(entries)), Signal(len(entries))
        ids = [Signal(self._cfg.id_width, name=f"id_{n}") for n in entries]

        leaving, wanted_id = Signal(), Signal(self._cfg.id_width)
        answered, answered_entries = Signal(), Signal(len(entries))
        m.d.sync += [
            leaving.eq(self.leave),
            wanted_id.eq(Mux(self.ask, self.ask_id, self.leave_id)),
            answered.eq(leaving),
            answered_entries.eq(Cat(user_id == wanted_id for user_id in ids) & valid),
        ]
        matching, older, done = Signal(len(entries)), Signal(len(entries)), Signal(len(entries))
        m.d.comb += [
            matching.eq(answered_entries & valid & answered.replicate(len(entries))),
            older.eq(matching & (generation ^ self.current.replicate(len(entries)))),
            done.eq(Mux(older.any(), lowest(older), lowest(matching))),
            self.left.valid.eq(answered),
            self.left.generation.eq(self.current ^ older.any()),
        ]

        free = Signal(len(entries))
        m.d.comb += free.eq(lowest(~valid) & self.enter.replicate(len(entries)))
        m.d.sync += valid.eq(valid & ~done | free)
        for n in entries:
            with m.If(free[n]):
                m.d.sync += [ids[n].eq(self.enter_id), generation[n].eq(self.enter_generation)]
        m.d.comb += [
            self.busy.eq((answered_entries & valid).any()),
            self.empty.eq(~valid.any()),
        ]
        # A register: what leaves now makes room one cycle later.
        m.d.sync += self.full.eq((valid | free).all())
        return m
