"""The ``mem`` port: everyone's reads and writes on one AXI4 manager."""

from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..config import IommuConfig
from .arbiter import RoundRobin, Turns, selected
from .axi import Axi4Signature, AxiResponse
from .memory import PIECE_BITS, WRITE_BITS, MemoryRead, MemoryReadSignature, MemoryWrite, MemoryWriteSignature
from .wide_reads import WideReads

__all__ = ["CACHEABLE", "NON_CACHEABLE", "MemPort"]

CACHEABLE = 0b1111
"""AxCACHE of ordinary accesses: write-back, read- and write-allocate, bufferable. The tables are the processor's
own cached memory, and only a cacheable access looks into its caches: what §1.4 calls snooped."""

NON_CACHEABLE = 0b0011
"""AxCACHE of exclusive accesses: normal, non-cacheable, bufferable. AXI forbids cacheable ones, which a cache could
keep from the monitor that watches the exclusive pair."""

INCR = 0b01


class MemPort(wiring.Component):
    """Joins readers and writers on one AXI4 manager port of 128, 256 or 512 data bits.

    ::

        readers[n].request --> RoundRobin --> (WideReads) --> AR
        readers[n].data <----- by id range <-- (WideReads) <-- R
        writers[n].request --> by turns ----------------------> AW, W
        writers[n].done <----- by id range <------------------ B

    A read of up to one beat is one beat of its own size at its exact address; larger ones are INCR bursts of whole
    beats. A read appears on AR in the cycle in which it is offered, a write on AW and W one cycle later; it is accepted
    when both have taken it, so that nothing stores a write twice. With 128 data bits R passes to the reader
    in the same cycle and RREADY is always 1; wider beats are split into pieces by `WideReads`, one cycle later.
    Writes are single beats, AW and W go out independently, and any number may be outstanding.

    Parameters
    ----------
    cfg : IommuConfig
        Gives the widths of the port.
    readers, writers : sequence of range
        The AXI ids of each user. Answers with an id of nobody's are dropped.

    Members
    -------
    readers, writers : arrays of `MemoryReadSignature` and `MemoryWriteSignature`, in
        In the order of the parameters.
    mem : `Axi4Signature`, out

    Raises
    ------
    ValueError
        When the ids of two readers or two writers overlap or do not fit the port.
    """

    def __init__(self, cfg: IommuConfig, *, readers: Sequence[range], writers: Sequence[range]):
        for users in (readers, writers):
            ids = [user_id for user in users for user_id in user]
            if len(set(ids)) != len(ids):
                raise ValueError(f"two users of the memory port share an id: {list(users)}")
            if not all(0 <= user_id < 1 << cfg.id_width for user_id in ids):
                raise ValueError(f"ids of {cfg.id_width} bits cannot name all of {list(users)}")
        self._cfg = cfg
        self._reader_ids = readers
        self._writer_ids = writers
        super().__init__(
            {
                "readers": In(MemoryReadSignature(cfg)).array(len(readers)),
                "writers": In(MemoryWriteSignature(cfg)).array(len(writers)),
                "mem": Out(Axi4Signature(address_width=cfg.haw, data_width=cfg.mem_data_width, id_width=cfg.id_width)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        self._read(m)
        self._write(m)
        return m

    def _read(self, m: Module):
        mem = self.mem
        m.submodules.reads = reads = RoundRobin(MemoryRead(self._cfg), len(self.readers))
        for index, reader in enumerate(self.readers):
            wiring.connect(m, wiring.flipped(reader.request), reads.i[index])

        request = reads.o
        beat = exact_log2(self._cfg.mem_data_width // 8)
        size = request.p.size
        m.d.comb += [
            mem.arvalid.eq(request.valid),
            mem.arid.eq(request.p.id),
            mem.araddr.eq(request.p.address),
            mem.arsize.eq(Mux(size > beat, beat, size)),
            mem.arlen.eq(Mux(size == 6, (64 >> beat) - 1, Mux(size == 5, (32 >> beat) - 1 if beat < 5 else 0, 0))),
            mem.arburst.eq(INCR),
            mem.arlock.eq(request.p.exclusive),
            mem.arcache.eq(Mux(request.p.exclusive, NON_CACHEABLE, CACHEABLE)),
            request.ready.eq(mem.arready),
        ]

        piece_valid = Signal()
        piece = Signal.like(self.readers[0].data.payload)
        if self._cfg.mem_data_width == PIECE_BITS:
            m.d.comb += [
                mem.rready.eq(1),
                piece_valid.eq(mem.rvalid),
                piece.id.eq(mem.rid),
                piece.data.eq(mem.rdata),
                piece.response.eq(AxiResponse(mem.rresp)),
                piece.last.eq(mem.rlast),
            ]
        else:
            m.submodules.wide = wide = WideReads(self._cfg, ids=max(user.stop for user in self._reader_ids))
            m.d.comb += [
                wide.request.eq(request.p),
                wide.accepted.eq(request.valid & request.ready),
                mem.arvalid.eq(request.valid & ~wide.full),
                request.ready.eq(mem.arready & ~wide.full),
                wide.beat.valid.eq(mem.rvalid),
                mem.rready.eq(wide.beat.ready),
                wide.beat.p.id.eq(mem.rid),
                wide.beat.p.data.eq(mem.rdata),
                wide.beat.p.response.eq(AxiResponse(mem.rresp)),
                wide.beat.p.last.eq(mem.rlast),
                piece_valid.eq(wide.piece.valid),
                piece.eq(wide.piece.p),
            ]
        for reader, ids in zip(self.readers, self._reader_ids, strict=True):
            m.d.comb += [reader.data.valid.eq(piece_valid & within(piece.id, ids)), reader.data.payload.eq(piece)]

    def _write(self, m: Module):
        mem = self.mem
        m.submodules.turns = turns = Turns(len(self.writers))
        writing, choice = Signal(), Signal(len(self.writers))
        request = Signal(MemoryWrite(self._cfg))
        address_sent, data_sent, sent = Signal(), Signal(), Signal()
        m.d.comb += [
            turns.waiting.eq(Cat(writer.request.valid for writer in self.writers)),
            turns.passes.eq(turns.grant & (~writing).replicate(len(self.writers))),
            Value.cast(request).eq(selected(choice, (writer.request.payload for writer in self.writers))),
            mem.awvalid.eq(writing & ~address_sent),
            mem.awid.eq(request.id),
            mem.awaddr.eq(request.address),
            mem.awsize.eq(request.size),
            mem.awburst.eq(INCR),
            mem.awlock.eq(request.exclusive),
            mem.awcache.eq(Mux(request.exclusive, NON_CACHEABLE, CACHEABLE)),
            mem.wvalid.eq(writing & ~data_sent),
            mem.wdata.eq(request.data.replicate(self._cfg.mem_data_width // WRITE_BITS)),
            mem.wstrb.eq(strobes(request.address, request.size, self._cfg.mem_data_width)),
            mem.wlast.eq(1),
            sent.eq(writing & (mem.awready | address_sent) & (mem.wready | data_sent)),
        ]
        m.d.sync += [
            address_sent.eq(writing & ~sent & (mem.awready | address_sent)),
            data_sent.eq(writing & ~sent & (mem.wready | data_sent)),
        ]
        with m.If(~writing):
            m.d.sync += [writing.eq(turns.waiting.any()), choice.eq(turns.grant)]
        with m.Elif(sent):
            m.d.sync += writing.eq(0)
        for index, writer in enumerate(self.writers):
            m.d.comb += writer.request.ready.eq(choice[index] & sent)

        m.d.comb += mem.bready.eq(1)
        for writer, ids in zip(self.writers, self._writer_ids, strict=True):
            m.d.comb += [
                writer.done.valid.eq(mem.bvalid & within(mem.bid, ids)),
                writer.done.p.id.eq(mem.bid),
                writer.done.p.response.eq(AxiResponse(mem.bresp)),
            ]


def within(user_id, ids: range):
    """Whether ``user_id`` is one of ``ids``: a comparison of a few bits for each aligned block of them, no carry."""
    start, blocks = ids.start, []
    while start < ids.stop:
        size = start & -start or 1 << len(user_id)
        while start + size > ids.stop:
            size >>= 1
        blocks.append(user_id[exact_log2(size) :] == start >> exact_log2(size))
        start += size
    return Cat(blocks).any()


def strobes(address, size, data_width: int):
    """WSTRB for a naturally aligned value of 4 or 8 bytes."""
    lanes = exact_log2(data_width // 8)

    def strobe(byte: int):
        """A byte is written when it lies in the same 4 or 8 bytes as the address."""
        same = [address[bit] == (byte >> bit) & 1 for bit in range(2, lanes)]
        return Cat(same[1:]).all() & ((size == 3) | same[0])

    return Cat(strobe(byte) for byte in range(data_width // 8))
