"""The unit with a plain AXI4 port: AxUSER tells who asks, for masters that know no other sideband."""

from amaranth.hdl import Cat, Const, Module
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In

from nestwalk.bus.axi import Axi4Signature
from nestwalk.config import IommuConfig
from nestwalk.unit import Unit

__all__ = ["UnitByUser", "Who"]


class Who(data.Struct):
    """AxUSER: the device, whose requester id is ``device`` * 8, and its PASID if ``pasid_valid``."""

    device: 4
    pasid_valid: 1
    pasid: 2
    translated: 1


class UnitByUser(wiring.Component):
    """`Unit`, but that ``dma`` has no sideband."""

    def __init__(self, cfg: IommuConfig):
        self.unit = Unit(cfg)
        dma = Axi4Signature(
            address_width=64, data_width=cfg.data_width, id_width=cfg.id_width, user_width=cfg.user_width
        )
        ports = dict(self.unit.signature.members)
        super().__init__({**ports, "dma": In(dma)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.unit = unit = self.unit
        for name in ("out", "mem"):
            wiring.connect(m, getattr(unit, name), wiring.flipped(getattr(self, name)))
        wiring.connect(m, wiring.flipped(self.csr), unit.csr)
        for name, member in self.dma.signature.members.items():
            inside, outside = getattr(unit.dma, name), getattr(self.dma, name)
            m.d.comb += inside.eq(outside) if member.flow == In else outside.eq(inside)
        for channel in ("aw", "ar"):
            who = Who(getattr(self.dma, channel + "user"))
            m.d.comb += [
                getattr(unit.dma, channel + "mmusid").eq(Cat(Const(0, 3), who.device)),
                getattr(unit.dma, channel + "mmussidv").eq(who.pasid_valid),
                getattr(unit.dma, channel + "mmussid").eq(who.pasid),
                getattr(unit.dma, channel + "mmuatst").eq(who.translated),
            ]
        for name in ("irq_fault", "irq_invalidation", "irq_page_request"):
            m.d.comb += getattr(self, name).eq(getattr(unit, name))
        return m
