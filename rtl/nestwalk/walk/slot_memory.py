"""What walk slots remember between two memory reads, in LUT RAM."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..bus.translation import TranslationRequest
from ..config import IommuConfig
from ..lookup.configuration import AddressSpace
from .state import Identity, Progress

__all__ = ["SlotMemory", "SlotState"]


class SlotState(data.StructLayout):
    """A walk's request, what its tables said of the requester, and where its page walk is.

    ``address``, ``entry`` and ``leaf`` are told by `Progress`.
    """

    def __init__(self, cfg: IommuConfig):
        super().__init__(
            {
                "request": TranslationRequest(cfg),
                "identity": Identity,
                "space": AddressSpace(cfg),
                "progress": Progress,
                "entry": cfg.haw - 3,
                "address": cfg.haw,
                "leaf": 64,
            }
        )


class SlotMemory(wiring.Component):
    """A RAM for each part of `SlotState`, so that each is written only where it changes.

    ::

        starts, start_slot, request ──┐
        decided, after, sets_PART ────┴──> [parts] ── slot ──> registers ──> state

    Parameters
    ----------
    cfg : IommuConfig

    Attributes
    ----------
    slot : In(range)
        Whose state is read.
    state : Out(SlotState)
        One cycle later.
    knows_level, level : In
        Instead of the second-stage level that the slot remembers.
    starts, start_slot, request : In
        A walk begins with this request.
    decided, after : In(range), In(SlotState)
        New state of that slot, of those parts whose ``sets_PART`` is high.
    """

    def __init__(self, cfg: IommuConfig):
        self.cfg = cfg
        self._parts = [name for name, _shape in SlotState(cfg) if name != "request"]
        slot = range(cfg.walk_slots)
        super().__init__(
            {
                "slot": In(slot),
                "state": Out(SlotState(cfg)),
                "knows_level": In(1),
                "level": In(3),
                "starts": In(1),
                "start_slot": In(slot),
                "request": In(TranslationRequest(cfg)),
                "decided": In(slot),
                "after": In(SlotState(cfg)),
                **{f"sets_{name}": In(1) for name in self._parts},
            }
        )

    def elaborate(self, platform):
        m = Module()
        for name, field in SlotState(self.cfg):
            m.submodules[name] = memory = Memory(shape=field.shape, depth=self.cfg.walk_slots, init=[])
            read, write = memory.read_port(domain="comb"), memory.write_port()
            register = Signal(field.shape, name=name, reset_less=True)
            m.d.comb += [read.addr.eq(self.slot), self.state[name].eq(register)]
            m.d.sync += register.eq(read.data)
            if name == "request":
                m.d.comb += [write.addr.eq(self.start_slot), write.data.eq(self.request), write.en.eq(self.starts)]
            else:
                m.d.comb += [
                    write.addr.eq(self.decided),
                    write.data.eq(self.after[name]),
                    write.en.eq(getattr(self, f"sets_{name}")),
                ]
            if name == "progress":
                with m.If(self.knows_level):
                    m.d.sync += register.second_level.eq(self.level)
        return m
