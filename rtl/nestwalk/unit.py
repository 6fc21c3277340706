"""The unit: device traffic in, translated traffic out, and the core between."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .bus.ats import AtsSignature
from .bus.axi import Axi4LiteSignature, Axi4Signature
from .config import IommuConfig
from .core import Core
from .front.front_end import FrontEnd
from .front.signature import DmaSignature
from .registers.bank import ADDRESS_BITS

__all__ = ["Unit"]


class Unit(wiring.Component):
    """IOMMU translation unit.

    ::

        dma ──> ┌──────────┐ ──> out
                │ FrontEnd │
                └─┬────────┘
          request │  ^ response, mark
                  v  │ draining
                ┌────┴─────┐ <── csr
        ats <─> │   Core   │ ──> mem
                └──────────┘ ──> irq_…

    Parameters
    ----------
    cfg : IommuConfig

    Attributes
    ----------
    dma : In(DmaSignature)
        Untranslated device traffic.
    out : Out(Axi4Signature)
        The same, translated.
    csr : In(Axi4LiteSignature)
        Register file, 12 address and 64 data bits.
    mem : Out(Axi4Signature)
        Tables, queue, status and event messages.
    ats : Out(AtsSignature)
        Messages from and to devices.
    irq_fault, irq_invalidation, irq_page_request : Out(1)
        Level-sensitive, high while the condition is set and unmasked.
    """

    def __init__(self, cfg: IommuConfig):
        self.cfg = cfg
        out = Axi4Signature(
            address_width=cfg.haw, data_width=cfg.data_width, id_width=cfg.id_width, user_width=cfg.user_width
        )
        super().__init__(
            {
                "dma": In(DmaSignature(cfg)),
                "out": Out(out),
                "csr": In(Axi4LiteSignature(address_width=ADDRESS_BITS, data_width=64)),
                "mem": Out(Axi4Signature(address_width=cfg.haw, data_width=cfg.mem_data_width, id_width=cfg.id_width)),
                "ats": Out(AtsSignature(cfg)),
                "irq_fault": Out(1),
                "irq_invalidation": Out(1),
                "irq_page_request": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.front_end = front_end = FrontEnd(self.cfg)
        m.submodules.core = core = Core(self.cfg)
        wiring.connect(m, wiring.flipped(self.dma), front_end.dma)
        wiring.connect(m, front_end.out, wiring.flipped(self.out))
        wiring.connect(m, front_end.request, core.request)
        wiring.connect(m, core.response, front_end.response)
        wiring.connect(m, wiring.flipped(self.csr), core.csr)
        wiring.connect(m, core.mem, wiring.flipped(self.mem))
        wiring.connect(m, core.ats, wiring.flipped(self.ats))
        m.d.comb += [
            front_end.mark.eq(core.mark),
            core.draining.eq(~front_end.drained),
            self.irq_fault.eq(core.irq_fault),
            self.irq_invalidation.eq(core.irq_invalidation),
            self.irq_page_request.eq(core.irq_page_request),
        ]
        return m
