"""The unit's own view of the ``mem`` port: reads of whole structures in 16-byte pieces, and single writes.

Walker, queue and events speak these streams; `nestwalk.bus.mem_port` turns them into AXI4 of any data width.
"""

from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out, Signature

from ..config import IommuConfig
from .axi import AxiResponse

__all__ = [
    "MemoryIds",
    "PIECE_BITS",
    "WRITE_BITS",
    "MemoryRead",
    "MemoryReadData",
    "MemoryReadSignature",
    "MemoryWrite",
    "MemoryWriteDone",
    "MemoryWriteSignature",
]

PIECE_BITS = 128
"""Structures are read in naturally aligned pieces of 16 bytes, each of them atomic (§2)."""

WRITE_BITS = 64
"""Widest value that the unit writes: a paging entry."""


class MemoryIds:
    """Who reads and writes at the ``mem`` port: AXI ids 0 to ``walk_slots`` - 1 are the walk slots' paging entries.

    Attributes
    ----------
    structures : int
        Reads of more than one piece by the walker (context and PASID-table entries), kept in order.
    update : int
        Exclusive pairs that set accessed and dirty bits.
    queue : int
        Descriptor fetches and status writes.
    event : int
        Interrupt messages and page requests.
    """

    def __init__(self, cfg: IommuConfig):
        self.structures = cfg.walk_slots
        self.update = cfg.walk_slots + 1
        self.queue = cfg.walk_slots + 2
        self.event = cfg.walk_slots + 3


class MemoryRead(data.StructLayout):
    """A read of one naturally aligned structure.

    Members: ``id`` names the reader, ``address`` (bytes) is aligned to the size, ``size`` is log2 of the bytes (3 to
    6), and ``exclusive`` asks for an AXI exclusive read (size 3 only). ``line`` (with a line buffer, size 6 only): the
    address may be that of any 8 bytes, and the piece with these comes first.
    """

    def __init__(self, cfg: IommuConfig):
        line = {"line": 1} if cfg.line_buffer_lines else {}
        super().__init__({"id": cfg.id_width, "address": cfg.haw, "size": 3, "exclusive": 1} | line)


class MemoryReadData(data.StructLayout):
    """One 16-byte piece of a structure, lowest address first; pieces of different ids may interleave.

    A structure of 8 bytes comes in the half of ``data`` that its address[3] names. ``last`` marks the last piece. After
    the first one of a ``line`` those at higher addresses follow, and then those from the line's beginning; with a port
    of 256 bits those of each half of the line stay together, so that the nth piece is the first one's number XOR n.
    """

    def __init__(self, cfg: IommuConfig):
        super().__init__({"id": cfg.id_width, "data": PIECE_BITS, "response": AxiResponse, "last": 1})


class MemoryWrite(data.StructLayout):
    """A write of one naturally aligned value of 4 or 8 bytes.

    ``size`` is log2 of the bytes (2 or 3); ``data`` carries the value in the byte lanes that its address names;
    ``exclusive`` asks for an AXI exclusive write.
    """

    def __init__(self, cfg: IommuConfig):
        super().__init__({"id": cfg.id_width, "address": cfg.haw, "size": 3, "data": WRITE_BITS, "exclusive": 1})


class MemoryWriteDone(data.StructLayout):
    """The answer to a write: it is visible in memory (or failed)."""

    def __init__(self, cfg: IommuConfig):
        super().__init__({"id": cfg.id_width, "response": AxiResponse})


class MemoryReadSignature(Signature):
    """Request and data streams, seen from the reader, who takes data whenever it comes."""

    def __init__(self, cfg: IommuConfig):
        super().__init__(
            {
                "request": Out(stream.Signature(MemoryRead(cfg))),
                "data": In(stream.Signature(MemoryReadData(cfg), always_ready=True)),
            }
        )


class MemoryWriteSignature(Signature):
    """Request and completion streams, seen from the writer, who takes completions whenever they come."""

    def __init__(self, cfg: IommuConfig):
        super().__init__(
            {
                "request": Out(stream.Signature(MemoryWrite(cfg))),
                "done": In(stream.Signature(MemoryWriteDone(cfg), always_ready=True)),
            }
        )
