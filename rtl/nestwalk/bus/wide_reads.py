"""Splits the beats of a 256- or 512-bit read channel into 16-byte pieces."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..config import IommuConfig
from .axi import AxiResponse
from .memory import PIECE_BITS, MemoryRead, MemoryReadData

__all__ = ["ReadBeat", "WideReads"]

POINTER_BITS = 2


class ReadBeat(data.StructLayout):
    """One transfer of the R channel."""

    def __init__(self, cfg: IommuConfig):
        super().__init__({"id": cfg.id_width, "data": cfg.mem_data_width, "response": AxiResponse, "last": 1})


class WideReads(wiring.Component):
    """Remembers which pieces of a beat were asked for, and passes these one by one.

    ::

        request --> pieces asked for, a FIFO of each id --+
                                                          v
        beat ------------------------------------> beat register --> piece

    The first piece follows its beat by one cycle, and one piece passes per cycle; the next beat is taken together
    with the last piece. At most 3 reads of an id may be outstanding.

    Parameters
    ----------
    cfg : IommuConfig
        ``mem_data_width`` is 256 or 512.
    ids : int
        Number of AXI ids, from 0.

    Members
    -------
    request : `MemoryRead`, in
        The read that waits at the AR channel.
    accepted : 1, in
        It was transferred in this cycle.
    full : 1, out
        It must not be transferred yet: its id has 3 reads outstanding.
    beat : stream of `ReadBeat`, in
    piece : stream of `MemoryReadData`, out, always ready
    """

    def __init__(self, cfg: IommuConfig, *, ids: int):
        self._ids = ids
        self._lanes = exact_log2(cfg.mem_data_width // PIECE_BITS)
        super().__init__(
            {
                "request": In(MemoryRead(cfg)),
                "accepted": In(1),
                "full": Out(1),
                "beat": In(stream.Signature(ReadBeat(cfg))),
                "piece": Out(stream.Signature(MemoryReadData(cfg), always_ready=True)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        asked = self._remember(m)

        # ``lane`` is the piece of the beat that comes next, ``left`` the number of those after it.
        busy = Signal()
        beat = Signal.like(self.beat.p)
        lane = Signal(self._lanes)
        left = Signal(self._lanes)
        m.d.comb += [
            self.beat.ready.eq(~busy | (left == 0)),
            self.piece.valid.eq(busy),
            self.piece.p.id.eq(beat.id),
            self.piece.p.data.eq(beat.data.word_select(lane, PIECE_BITS)),
            self.piece.p.response.eq(beat.response),
            self.piece.p.last.eq(beat.last & (left == 0)),
        ]
        with m.If(self.beat.ready):
            m.d.sync += [busy.eq(self.beat.valid), beat.eq(self.beat.p), lane.eq(asked.lane), left.eq(asked.more)]
        with m.Else():
            m.d.sync += [lane.eq(lane + 1), left.eq(left - 1)]
        return m

    def _remember(self, m: Module):
        """Keep the pieces of each outstanding read; returns those of the oldest read of the beat's id."""
        row = data.StructLayout({"lane": self._lanes, "more": self._lanes})
        m.submodules.ram = ram = memory.Memory(shape=row, depth=self._ids << POINTER_BITS, init=[])
        write = ram.write_port()
        read = ram.read_port(domain="comb")
        ids = range(self._ids)
        tails = Array(Signal(POINTER_BITS, name=f"tail_{user_id}") for user_id in ids)
        heads = Array(Signal(POINTER_BITS, name=f"head_{user_id}") for user_id in ids)
        # Kept apart from the pointers: whether a request must wait is on the way to everyone's ready signal.
        full = Array(Signal(name=f"full_{user_id}") for user_id in ids)

        tail = tails[self.request.id]
        size = self.request.size
        m.d.comb += [
            self.full.eq(full[self.request.id]),
            write.en.eq(self.accepted),
            write.addr.eq(Cat(tail, self.request.id)),
            write.data.lane.eq(self.request.address >> exact_log2(PIECE_BITS // 8)),
            write.data.more.eq(Mux(size == 6, -1, size == 5)),
        ]
        with m.If(self.accepted):
            m.d.sync += tail.eq(tail + 1)

        head = heads[self.beat.p.id]
        m.d.comb += read.addr.eq(Cat(head, self.beat.p.id))
        answered = self.beat.valid & self.beat.ready & self.beat.p.last
        with m.If(answered):
            m.d.sync += head.eq(head + 1)

        for user_id in ids:
            more = self.accepted & (self.request.id == user_id)
            fewer = answered & (self.beat.p.id == user_id)
            with m.If(more & ~fewer):
                m.d.sync += full[user_id].eq((tails[user_id] + 2)[:POINTER_BITS] == heads[user_id])
            with m.Elif(fewer & ~more):
                m.d.sync += full[user_id].eq(0)
        return read.data
