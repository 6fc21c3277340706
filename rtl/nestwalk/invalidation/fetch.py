"""Reads descriptors of the invalidation queue ahead of their execution (§5.1)."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..bus.axi import AxiResponse
from ..bus.memory import PIECE_BITS, MemoryIds, MemoryReadSignature
from ..bus.queue import Queue
from ..config import IommuConfig

__all__ = ["PREFETCH", "DescriptorFetch", "FetchedDescriptor", "next_offset", "offset_mask"]

PREFETCH = 4
"""Descriptors read ahead, the executing one included."""


class FetchedDescriptor(data.Struct):
    """A descriptor as it came from memory.

    ``descriptor`` holds bits 127:0, ``padding_set`` says that one of bits 255:128 is set, ``failed`` that memory
    answered with an error.
    """

    descriptor: PIECE_BITS
    padding_set: 1
    failed: 1


def offset_mask(size):
    """The offsets (units of 16 bytes, 15 bits) within a queue of 2^``size`` pages of 4 KiB."""
    return Cat(Const(0xFF, 8), *(size > page_bit for page_bit in range(7)))


def next_offset(offset, size, wide):
    """The offset of the descriptor after the one at ``offset``, both in units of 16 bytes."""
    following = offset + Mux(wide, 2, 1)
    return Cat(following[0] & ~wide, following[1:]) & offset_mask(size)


class DescriptorFetch(wiring.Component):
    """Fetches descriptors from ``head`` up to ``tail``, in order, and holds them until they have been executed.

    ::

        head --restart--> offset, offset + 1 ... tail --> read.request
        read.data --> first piece, OR of the second --> Queue (PREFETCH) --> descriptors

    Up to `PREFETCH` descriptors are on their way or held. One request starts every other cycle; a descriptor is on
    ``descriptors`` two cycles after its last piece came.

    Parameters
    ----------
    cfg : IommuConfig

    Members
    -------
    base, size, wide, tail, head : page_bits, 3, 1, 15, 15, in
        As in `QueueControlSignature`.
    restart : 1, in
        While high all descriptors on their way or held are dropped; fetching then starts again at ``head``.
    permit : 1, in
        Allows new reads.
    idle : 1, out
        No descriptor is on its way or held.
    descriptors : stream of `FetchedDescriptor`, out
    read : `MemoryReadSignature`, out
        With the id `MemoryIds.queue`.
    """

    def __init__(self, cfg: IommuConfig):
        self._cfg = cfg
        super().__init__(
            {
                "base": In(cfg.page_bits),
                "size": In(3),
                "wide": In(1),
                "tail": In(15),
                "head": In(15),
                "restart": In(1),
                "permit": In(1),
                "idle": Out(1),
                "descriptors": Out(stream.Signature(FetchedDescriptor)),
                "read": Out(MemoryReadSignature(cfg)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.held = held = Queue(FetchedDescriptor, PREFETCH)
        self._request(m, taken=held.o.valid & held.o.ready)
        self._collect(m, held.i)
        m.d.comb += [
            self.descriptors.valid.eq(held.o.valid & ~self.restart),
            self.descriptors.payload.eq(held.o.payload),
            held.o.ready.eq(self.descriptors.ready | self.restart),
        ]
        return m

    def _request(self, m: Module, *, taken):
        """Start reads while there is room; ``claimed`` places are on their way or held."""
        request = self.read.request
        offset = Signal.like(self.head)
        claimed = Signal(range(PREFETCH + 1))
        start = Signal()
        m.d.comb += [
            start.eq(self.permit & ~self.restart & ~request.valid & (offset != self.tail) & (claimed != PREFETCH)),
            self.idle.eq(claimed == 0),
        ]
        m.d.sync += claimed.eq(claimed + start - taken)
        with m.If(start):
            # A 256-bit descriptor is read aligned, wherever software put the offset.
            place = Cat(offset[:1] & ~self.wide, offset[1:8])
            m.d.sync += [
                request.valid.eq(1),
                request.p.id.eq(MemoryIds(self._cfg).queue),
                request.p.address.eq(Cat(Const(0, 4), place, (self.base + offset[8:])[: self._cfg.page_bits])),
                request.p.size.eq(Mux(self.wide, 5, 4)),
                offset.eq(next_offset(offset, self.size, self.wide)),
            ]
        with m.Elif(request.ready):
            m.d.sync += request.valid.eq(0)
        with m.If(self.restart):
            m.d.sync += offset.eq(self.head)

    def _collect(self, m: Module, fetched):
        """Join the pieces of each descriptor. There is always room for what was asked for."""
        piece = self.read.data
        failed = piece.p.response != AxiResponse.OKAY
        collected = Signal(FetchedDescriptor)
        padding = Signal(PIECE_BITS // 8)  # a bit for each byte of the second piece
        second = Signal()
        arrived = Signal()
        m.d.sync += arrived.eq(piece.valid & piece.p.last)
        with m.If(piece.valid):
            m.d.sync += second.eq(~piece.p.last)
            with m.If(second):
                m.d.sync += [
                    padding.eq(Cat(piece.p.data.word_select(byte, 8).any() for byte in range(PIECE_BITS // 8))),
                    collected.failed.eq(collected.failed | failed),
                ]
            with m.Else():
                m.d.sync += [collected.descriptor.eq(piece.p.data), padding.eq(0), collected.failed.eq(failed)]
        m.d.comb += [
            fetched.valid.eq(arrived),
            fetched.p.descriptor.eq(collected.descriptor),
            fetched.p.padding_set.eq(padding.any()),
            fetched.p.failed.eq(collected.failed),
        ]
