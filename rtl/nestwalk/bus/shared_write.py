"""Two writers at one place of the memory port."""

from amaranth.hdl import Module, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..config import IommuConfig
from .memory import MemoryWriteSignature

__all__ = ["SharedWrite"]


class SharedWrite(wiring.Component):
    """Joins two writers that know of each other: while one of them writes, from its request to the last completion,
    the other one's request is not valid and all zeros. So no multiplexer is needed.

    Parameters
    ----------
    cfg : IommuConfig

    Members
    -------
    writers : array of 2 `MemoryWriteSignature`, in
        Both see every completion.
    write : `MemoryWriteSignature`, out
    """

    def __init__(self, cfg: IommuConfig):
        super().__init__(
            {"writers": In(MemoryWriteSignature(cfg)).array(2), "write": Out(MemoryWriteSignature(cfg))},
        )

    def elaborate(self, platform):
        m = Module()
        first, second = self.writers
        request = self.write.request
        m.d.comb += [
            request.valid.eq(first.request.valid | second.request.valid),
            Value.cast(request.payload).eq(Value.cast(first.request.payload) | Value.cast(second.request.payload)),
        ]
        for writer in self.writers:
            m.d.comb += [
                writer.request.ready.eq(request.ready),
                writer.done.valid.eq(self.write.done.valid),
                writer.done.payload.eq(self.write.done.payload),
            ]
        return m
