"""Reads descriptors of the invalidation queue ahead of their execution (§5.1)."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from ..bus.axi import AxiResponse
from ..bus.memory import PIECE_BITS, MemoryIds, MemoryReadSignature
from ..bus.queue import Queue
from ..config import IommuConfig

__all__ = ["PREFETCH", "DescriptorFetch", "FetchedDescriptor", "next_offset", "offset_mask"]

PREFETCH = 8
"""Descriptors read ahead, the executing one included."""


class FetchedDescriptor(data.Struct):
    """A descriptor as it came from memory.

    ``descriptor`` holds bits 127:0, ``padding_set`` says that one of bits 255:128 is set, ``failed`` that memory
    answered with an error.
    """

    descriptor: PIECE_BITS
    padding_set: 1
    failed: 1


class _Found(data.Struct):
    """What was found out about a descriptor, as in `FetchedDescriptor`."""

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
        read.data --+-- first piece ---> LUT RAM (PREFETCH) --> register --> descriptors
                    `-- OR of the second --> Queue (PREFETCH) ---------------'

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
        m.submodules.held = held = Queue(_Found, PREFETCH)
        taken = Signal()
        self._request(m, taken)
        self._collect(m, held.i)
        self._keep(m, taken)
        m.d.comb += [
            self.descriptors.valid.eq(held.o.valid & ~self.restart),
            self.descriptors.p.padding_set.eq(held.o.p.padding_set),
            self.descriptors.p.failed.eq(held.o.p.failed),
            held.o.ready.eq(self.descriptors.ready | self.restart),
            taken.eq(held.o.valid & held.o.ready),
        ]
        return m

    def _request(self, m: Module, taken: Signal):
        """Start reads while there is room; ``claimed`` places are on their way or held."""
        request = self.read.request
        offset = Signal.like(self.head)
        claimed = Signal(range(PREFETCH + 1))
        start = Signal()
        m.d.comb += [
            request.p.id.eq(MemoryIds(self._cfg).queue),
            start.eq(self.permit & ~self.restart & ~request.valid & (offset != self.tail) & (claimed != PREFETCH)),
            self.idle.eq(claimed == 0),
        ]
        m.d.sync += claimed.eq(claimed + start - taken)
        with m.If(start):
            # A 256-bit descriptor is read aligned, wherever software put the offset.
            place = Cat(offset[:1] & ~self.wide, offset[1:8])
            m.d.sync += [
                request.valid.eq(1),
                request.p.address.eq(Cat(Const(0, 4), place, (self.base + offset[8:])[: self._cfg.page_bits])),
                request.p.size.eq(Mux(self.wide, 5, 4)),
                offset.eq(next_offset(offset, self.size, self.wide)),
            ]
        with m.Elif(request.ready):
            m.d.sync += request.valid.eq(0)
        with m.If(self.restart):
            m.d.sync += offset.eq(self.head)

    def _collect(self, m: Module, fetched):
        """Look at all pieces of each descriptor. There is always room for what was asked for."""
        piece = self.read.data
        wrong = piece.p.response != AxiResponse.OKAY
        failed = Signal()
        padding = Signal(PIECE_BITS // 8)  # a bit for each byte of the second piece
        self._second = second = Signal()
        arrived = Signal()
        m.d.sync += arrived.eq(piece.valid & piece.p.last)
        with m.If(piece.valid):
            m.d.sync += second.eq(~piece.p.last)
            with m.If(second):
                m.d.sync += [
                    padding.eq(Cat(piece.p.data.word_select(byte, 8).any() for byte in range(PIECE_BITS // 8))),
                    failed.eq(failed | wrong),
                ]
            with m.Else():
                m.d.sync += [padding.eq(0), failed.eq(wrong)]
        m.d.comb += [fetched.valid.eq(arrived), fetched.p.padding_set.eq(padding.any()), fetched.p.failed.eq(failed)]

    def _keep(self, m: Module, taken: Signal):
        """Keep the first pieces; the one to be executed next is read a cycle ahead."""
        m.submodules.ram = ram = memory.Memory(shape=PIECE_BITS, depth=PREFETCH, init=[])
        write, read = ram.write_port(), ram.read_port(domain="comb")
        piece, second = self.read.data, self._second
        newest, oldest = Signal(range(PREFETCH)), Signal(range(PREFETCH))
        descriptor = Signal(PIECE_BITS, reset_less=True)
        m.d.comb += [
            write.en.eq(piece.valid & ~second),
            write.addr.eq(newest),
            write.data.eq(piece.p.data),
            read.addr.eq(oldest + taken),
            self.descriptors.p.descriptor.eq(descriptor),
        ]
        m.d.sync += [
            newest.eq(newest + (piece.valid & piece.p.last)),
            oldest.eq(oldest + taken),
            descriptor.eq(read.data),
        ]
