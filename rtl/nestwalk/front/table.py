"""A word for each burst of one direction that is in translation."""

from amaranth.hdl import Module
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from ..config import IommuConfig
from .signature import index_shape

__all__ = ["Table"]


class Table(wiring.Component):
    """LUT RAM: written at a clock edge, read at once.

    Parameters
    ----------
    cfg : IommuConfig
        ``dma_translations`` words.
    shape : ShapeLike
        Of a word.
    readers : int

    Attributes
    ----------
    write, write_index, value : In
    index : In, array of ``readers``
    word : Out, array of ``readers``
        The word at ``index``.
    """

    def __init__(self, cfg: IommuConfig, shape, *, readers: int = 1):
        self._cfg, self._shape, self._readers = cfg, shape, readers
        index = index_shape(cfg)
        super().__init__(
            {
                "write": In(1),
                "write_index": In(index),
                "value": In(shape),
                "index": In(index).array(readers),
                "word": Out(shape).array(readers),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.ram = ram = memory.Memory(shape=self._shape, depth=self._cfg.dma_translations, init=[])
        write = ram.write_port()
        m.d.comb += [write.en.eq(self.write), write.addr.eq(self.write_index), write.data.eq(self.value)]
        for n in range(self._readers):
            read = ram.read_port(domain="comb")
            m.d.comb += [read.addr.eq(self.index[n]), self.word[n].eq(read.data)]
        return m
