"""Requests that the look-up could not answer, on their way to a walk slot."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..bus.translation import RootPointer, TranslationRequest
from ..config import IommuConfig
from .configuration import AddressSpace, ContextFields
from .structure_caches import StructureHint, structure_shapes

__all__ = ["SIGNATURE_BITS", "Configuration", "Knowledge", "Lookup", "Miss", "MissQueue"]


class Configuration(data.UnionLayout):
    """What the configuration caches know of a requester: its address space, or else its context entry."""

    def __init__(self, cfg: IommuConfig):
        kinds = {"space": AddressSpace(cfg)}
        super().__init__(kinds if cfg.context_cache is None else kinds | {"context": ContextFields(cfg)})


class Knowledge(data.StructLayout):
    """Which parts of a look-up count.

    ``space_hit``: ``configuration.space``, and ``hint_hit``: the ``hint`` for that space; else ``context_hit``:
    ``configuration.context``.
    """

    def __init__(self, cfg: IommuConfig):
        hits = {"space_hit": 1}
        if cfg.context_cache is not None:
            hits["context_hit"] = 1
        if structure_shapes(cfg):
            hits["hint_hit"] = 1
        super().__init__(hits)


SIGNATURE_BITS = 12
"""Of a request's page and requester: two that differ rarely share a signature, and only lose time if they do."""


class Lookup(data.StructLayout):
    """A request at the end of its look-up and what was found.

    ``signature`` is a hash of its requester and page; ``mergeable`` says that it may wait for the walk of another one,
    ``prefetch`` that nobody waits for it.
    """

    def __init__(self, cfg: IommuConfig):
        fields = {
            "request": TranslationRequest(cfg),
            "root_pointer": RootPointer(cfg),
            "configuration": Configuration(cfg),
        }
        if structure_shapes(cfg):
            fields["hint"] = StructureHint(cfg)
        if cfg.waiting_misses:
            fields |= {"signature": SIGNATURE_BITS, "mergeable": 1}
        if cfg.prefetch_streams:
            fields["prefetch"] = 1
        super().__init__(fields)


class Miss(data.StructLayout):
    """A request to walk for, and what the caches knew about its requester and its address when it was looked up."""

    def __init__(self, cfg: IommuConfig):
        super().__init__({"lookup": Lookup(cfg), "known": Knowledge(cfg)})


class MissQueue(wiring.Component):
    """FIFO of misses in LUT RAM, of which what the caches knew can be disowned at once.

    ::

        lookup ──> LUT RAM at ``tail`` ──> o      known ──> a bit for each row
        missed ──> ``tail`` + 1

    A look-up is written before it is known whether it missed, and stays if ``missed`` says so in the next cycle: it is
    then at ``o`` at once if nothing waits.

    Parameters
    ----------
    cfg : IommuConfig
        Widths.
    depth : int
        Entries, a power of two.

    Attributes
    ----------
    lookup : In(stream of Lookup)
        Never refused; ``level`` and the look-ups that follow tell who offers it whether there is room.
    missed, known : In(1), In(Knowledge)
        One cycle later: it is to be kept, and what of it counts.
    o : Out(stream of Miss)
    forget_configuration, forget_structures : In(1)
        Clear ``context_hit`` and ``space_hit``, or ``hint_hit``, of all entries, of one that arrives in this cycle too.
    level : Out
        Entries held.
    """

    def __init__(self, cfg: IommuConfig, depth: int):
        self.cfg = cfg
        self.depth = depth
        super().__init__(
            {
                "lookup": In(stream.Signature(Lookup(cfg), always_ready=True)),
                "missed": In(1),
                "known": In(Knowledge(cfg)),
                "o": Out(stream.Signature(Miss(cfg))),
                "forget_configuration": In(1),
                "forget_structures": In(1),
                "level": Out(range(depth + 1)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.storage = storage = Memory(shape=Lookup(self.cfg), depth=self.depth, init=[])
        write, read = storage.write_port(), storage.read_port(domain="comb")
        head, tail = Signal(exact_log2(self.depth)), Signal(exact_log2(self.depth))
        empty, take = Signal(), Signal()
        m.d.comb += [
            empty.eq(self.level == 0),
            take.eq(self.o.valid & self.o.ready),
            write.addr.eq(tail + self.missed),
            write.data.eq(self.lookup.payload),
            write.en.eq(self.lookup.valid),
            read.addr.eq(head),
            self.o.valid.eq(self.missed | ~empty),
            self.o.payload.lookup.eq(read.data),
        ]
        m.d.sync += [
            head.eq(head + take),
            tail.eq(tail + self.missed),
            self.level.eq(self.level + self.missed - take),
        ]
        for name, _ in Knowledge(self.cfg):
            counts = Signal(self.depth, name=name)
            m.d.comb += self.o.payload.known[name].eq(Mux(empty, self.known[name], counts.bit_select(head, 1)))
            with m.If(self.missed):
                m.d.sync += counts.bit_select(tail, 1).eq(self.known[name])
            with m.If(self.forget_structures if name == "hint_hit" else self.forget_configuration):
                m.d.sync += counts.eq(0)
        return m
