"""Global commands of the translation path: set the root-table pointer, enable and disable translation."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..bus.translation import RootPointer
from ..config import IommuConfig

__all__ = ["GlobalCommands"]


class GlobalCommands(wiring.Component):
    """Carries out GCMD.SRTP and the changes of GCMD.TE, one at a time, SRTP first (§1.5.1, §1.5.2).

    ::

        SRTP ---> latch the root pointer --------> invalidate all caches --> RTPS=1
        TE=1 ---> translate new requests --------> invalidate all caches --> drain older requests ---> TES=1
        TE=0 ---> pass new requests through -----> invalidate all caches --> TES=0

    Parameters
    ----------
    cfg : IommuConfig

    Members
    -------
    set_root_pointer, set_root_pointer_done : In(1), Out(1)
        GCMD.SRTP, a level until it is done (one cycle).
    translation_enable : In(1)
        GCMD.TE.
    mode, root_table : In(2), In(52)
        RTADDR.TTM and RTA.
    rtps, tes : Out(1), Out(1)
        GSTS.RTPS and TES.
    root_pointer : Out(`RootPointer`)
        What requests are accepted under, from the next one on. ``enabled`` leads TES.
    global_invalidate, global_invalidate_done : Out(1), In(1)
        High until all caches have forgotten everything, which a pulse tells.
    drained : In(1)
        Everything accepted before the last global invalidation was done has left the unit: after the one that enabling
        translation brings, all that passed through. Looked at from the cycle after ``global_invalidate_done`` on.
    """

    def __init__(self, cfg: IommuConfig):
        self._cfg = cfg
        super().__init__(
            {
                "set_root_pointer": In(1),
                "set_root_pointer_done": Out(1),
                "translation_enable": In(1),
                "mode": In(2),
                "root_table": In(52),
                "rtps": Out(1),
                "tes": Out(1),
                "root_pointer": Out(RootPointer(cfg)),
                "global_invalidate": Out(1),
                "global_invalidate_done": In(1),
                "drained": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        with m.FSM():
            with m.State("IDLE"):
                with m.If(self.set_root_pointer):
                    m.d.sync += [
                        self.root_pointer.mode.eq(self.mode),
                        self.root_pointer.root_table.eq(self.root_table),
                        self.rtps.eq(0),
                    ]
                    m.next = "INVALIDATE_FOR_ROOT_POINTER"
                with m.Elif(self.translation_enable & ~self.tes):
                    m.d.sync += self.root_pointer.enabled.eq(1)
                    m.next = "INVALIDATE_FOR_ENABLE"
                with m.Elif(~self.translation_enable & self.tes):
                    m.d.sync += self.root_pointer.enabled.eq(0)
                    m.next = "INVALIDATE_FOR_DISABLE"
            with m.State("INVALIDATE_FOR_ROOT_POINTER"):
                m.d.comb += self.global_invalidate.eq(1)
                with m.If(self.global_invalidate_done):
                    m.d.comb += self.set_root_pointer_done.eq(1)
                    m.d.sync += self.rtps.eq(1)
                    m.next = "IDLE"
            with m.State("INVALIDATE_FOR_ENABLE"):
                # Nothing is cached that would have to go, but only invalidations draw the line for ``drained``.
                m.d.comb += self.global_invalidate.eq(1)
                with m.If(self.global_invalidate_done):
                    m.next = "DRAIN"
            with m.State("DRAIN"):
                with m.If(self.drained):
                    m.d.sync += self.tes.eq(1)
                    m.next = "IDLE"
            with m.State("INVALIDATE_FOR_DISABLE"):
                m.d.comb += self.global_invalidate.eq(1)
                with m.If(self.global_invalidate_done):
                    m.d.sync += self.tes.eq(0)
                    m.next = "IDLE"
        return m
