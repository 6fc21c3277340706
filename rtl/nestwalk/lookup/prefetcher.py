"""Notices who accesses one page after the other, and asks for the translations of the pages that come next."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..config import IommuConfig
from .requester_format import INPUT_PAGE_BITS

__all__ = ["PageAccess", "Prefetcher"]

REGION_BITS = 27
"""Pages of 512 GiB: every canonical or maximal address lies at a multiple of that, and no stream goes beyond one."""

STRIDE_BITS = 2
"""A steady stream may have gone on by up to 3 pages since it was seen last."""


class PageAccess(data.Struct):
    """A page as a requester accesses it; ``pasid`` is 0 without ``pasid_valid``."""

    source_id: 16
    pasid_valid: 1
    pasid: 20
    privileged: 1
    page: INPUT_PAGE_BITS


class _Stream(data.Struct):
    """A requester's access to ``page``, and how many pages after that have been asked for.

    ``steady`` says that it came there from the page before.
    """

    source_id: 16
    pasid_valid: 1
    pasid: 20
    page: INPUT_PAGE_BITS
    steady: 1
    asked: 4


class Prefetcher(wiring.Component):
    """Table of streams in LUT RAM, searched entry by entry for one access at a time.

    ::

        access ──now and then──> held ──> search ─┬─ of a stream ──> ask for the pages ahead of it ──> o
                                                  └─ a miss of none ──> becomes a stream

    Accesses are sampled at random moments, because a page has many of them. A miss that continues no stream takes the
    place of one that has not moved for a round of such misses. Nothing but time depends on what is remembered: the
    table is not cleared by a reset, and no invalidation concerns it.

    Parameters
    ----------
    cfg : IommuConfig
        ``cfg.prefetch_streams`` entries, ``cfg.prefetch_pages`` ahead.

    Attributes
    ----------
    valid, access, missed : In
        A request has been looked up in this cycle; whether it missed.
    spare : In(1)
        There is room for one more prefetch. What is not asked for without it is asked for at the stream's next sample.
    o : Out(stream of PageAccess)
        Pages to look up.
    """

    def __init__(self, cfg: IommuConfig):
        self.cfg = cfg
        super().__init__(
            {
                "valid": In(1),
                "access": In(PageAccess),
                "missed": In(1),
                "spare": In(1),
                "o": Out(stream.Signature(PageAccess)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        count = self.cfg.prefetch_streams
        m.submodules.streams = streams = Memory(shape=_Stream, depth=count, init=[])
        write, read = streams.write_port(), streams.read_port(domain="comb")
        self._held, missed = Signal(PageAccess, reset_less=True), Signal()
        self._stream, self._number = Signal(_Stream, reset_less=True), Signal(range(count))
        index, hand, recent = Signal(range(count + 2)), Signal(range(count)), Signal(count)
        chance = Signal(5, init=1)  # a shift register whose period of 31 fits no pattern of accesses
        m.d.sync += chance.eq(Cat(chance[4] ^ chance[2], chance[:4]))
        found = self._compare(m, read, index)
        held, known = self._held, self._stream
        m.d.comb += write.data.eq(known)

        with m.FSM(name="prefetch"):
            with m.State("IDLE"):
                m.d.sync += [held.eq(self.access), missed.eq(self.missed), index.eq(0)]
                with m.If(self.valid & chance[0]):
                    m.next = "SEARCH"
            with m.State("SEARCH"):
                m.d.sync += index.eq(index + 1)
                with m.If(found):
                    m.next = "ASK"
                with m.Elif(index == count + 1):
                    m.next = "IDLE"
                    with m.If(missed):
                        m.next = "BEGIN"
            with m.State("BEGIN"):
                m.d.sync += [hand.eq(hand + 1), recent.bit_select(hand, 1).eq(0)]
                m.d.comb += [
                    write.addr.eq(hand),
                    write.en.eq(~recent.bit_select(hand, 1)),
                    *(write.data[name].eq(held[name]) for name in ("source_id", "pasid_valid", "pasid", "page")),
                    write.data.steady.eq(0),
                    write.data.asked.eq(0),
                ]
                m.next = "IDLE"
            with m.State("ASK"):
                ahead = Signal(REGION_BITS + 1)
                m.d.comb += [
                    ahead.eq(known.page[:REGION_BITS] + known.asked + 1),
                    self.o.payload.eq(held),
                    self.o.payload.page.eq(Cat(ahead[:REGION_BITS], known.page[REGION_BITS:])),
                    self.o.valid.eq(
                        known.steady & (known.asked != self.cfg.prefetch_pages) & ~ahead[REGION_BITS] & self.spare
                    ),
                    write.addr.eq(self._number),
                ]
                with m.If(self.o.valid & self.o.ready):
                    m.d.sync += known.asked.eq(known.asked + 1)
                with m.Elif(~self.o.valid):
                    m.d.comb += write.en.eq(1)
                    with m.If(known.steady):
                        m.d.sync += recent.bit_select(self._number, 1).eq(1)
                    m.next = "IDLE"
        return m

    def _compare(self, m, read, index):
        """Look at an entry in each cycle; what is found, two cycles later, becomes the stream at work."""
        held, entry = self._held, Signal(_Stream, reset_less=True)
        same, distance, compared = Signal(), Signal(REGION_BITS, reset_less=True), Signal(_Stream, reset_less=True)
        tags = (entry[name] == held[name] for name in ("source_id", "pasid_valid", "pasid"))
        m.d.comb += read.addr.eq(index)
        m.d.sync += [
            entry.eq(read.data),
            same.eq(Cat(*tags, entry.page[REGION_BITS:] == held.page[REGION_BITS:]).all()),
            distance.eq(held.page[:REGION_BITS] - entry.page[:REGION_BITS]),
            compared.eq(entry),
        ]
        steps = distance[:STRIDE_BITS]
        continues = (distance[STRIDE_BITS:] == 0) & (compared.steady | ~steps[1])
        found = same & continues & (index > 1)
        stream_now = self._stream
        with m.If(found):
            m.d.sync += [
                stream_now.eq(compared),
                stream_now.page.eq(held.page),
                stream_now.steady.eq(compared.steady | steps[0]),
                stream_now.asked.eq(Mux(compared.asked > steps, compared.asked - steps, 0)),
                self._number.eq(index - 2),
            ]
        return found
