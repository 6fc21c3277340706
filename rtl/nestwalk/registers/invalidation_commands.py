"""Invalidations that registers command: of everything after global commands, and register-based ones (§1.5.2, §1.7)."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import IommuConfig
from ..invalidation.command import Invalidation, Scope

__all__ = ["ContextCommand", "Granularity", "InvalidationCommands", "IotlbCommand"]


FAILING = 6
"""The first major version in which register-based invalidation always fails (§0.4)."""


class Granularity:
    """CIRG and IIRG, CAIG and IAIG; the narrowest one is a device for CCMD and a page for IOTLB."""

    NONE = 0
    GLOBAL = 1
    DOMAIN = 2
    NARROW = 3


class ContextCommand(data.Struct):
    """Fields of CCMD."""

    cirg: 2
    fm: 2
    sid: 16
    did: 16


class IotlbCommand(data.Struct):
    """Fields of IOTLB and IVA. DR and DW are not among them: draining always happens."""

    iirg: 2
    did: 16
    addr: 52
    ih: 1
    am: 6


class InvalidationCommands(wiring.Component):
    """Carries out one invalidation at a time; one for a global command goes first.

    ::

        IDLE --everything--> EVERYTHING ----------------------> IDLE
             --ICC, IVT----> VERIFY --> OFFER --> DRAIN --> IDLE, granularity
                                `---- error ----------> IDLE, granularity 0

    Register-based invalidation is for legacy mode and major versions below 6; otherwise, and for a reserved granularity
    or an address mask above CAP.MAMV, a command ends at once with granularity 0. It is carried out in the granularity
    asked for, and drains like a wait descriptor before it ends. It works beside an enabled invalidation queue, too,
    although software should not use both.

    Parameters
    ----------
    cfg : IommuConfig

    Members
    -------
    everything, everything_done : In(1), Out(1)
        A level, and the pulse that ends it: all caches have forgotten all.
    mode : In(2)
        TTM as latched by SRTP.
    icc, icc_done, context, caig : In(1), Out(1), In(`ContextCommand`), Out(2)
        CCMD. ``icc`` is a level until ``icc_done`` pulses; ``caig`` is valid from the next cycle on.
    ivt, ivt_done, iotlb, iaig : In(1), Out(1), In(`IotlbCommand`), Out(2)
        IOTLB and IVA, likewise.
    invalidations : stream of `Invalidation`, out
        A transfer means that the invalidation has taken effect everywhere. None has a PASID. The payload counts in the
        first cycle; if software writes to the registers before the transfer, it changes.
    drained : In(1)
        Nothing with a translation from before the last transfer is in flight. Looked at from the next cycle on.
    """

    def __init__(self, cfg: IommuConfig):
        self._cfg = cfg
        super().__init__(
            {
                "everything": In(1),
                "everything_done": Out(1),
                "mode": In(2),
                "icc": In(1),
                "icc_done": Out(1),
                "context": In(ContextCommand),
                "caig": Out(2),
                "ivt": In(1),
                "ivt_done": Out(1),
                "iotlb": In(IotlbCommand),
                "iaig": Out(2),
                "invalidations": Out(stream.Signature(Invalidation)),
                "drained": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        if self._cfg.version_major >= FAILING:
            self._fail_always(m)
            return m
        of_context = Signal()  # the command under way is CCMD's
        everything = Signal()
        granularity = Mux(of_context, self.context.cirg, self.iotlb.iirg)

        def finish(result):
            with m.If(of_context):
                m.d.comb += self.icc_done.eq(1)
                m.d.sync += self.caig.eq(result)
            with m.Else():
                m.d.comb += self.ivt_done.eq(1)
                m.d.sync += self.iaig.eq(result)

        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += of_context.eq(self.icc)
                with m.If(self.everything):
                    m.next = "EVERYTHING"
                with m.Elif(self.icc | self.ivt):
                    m.next = "VERIFY"
            with m.State("EVERYTHING"):
                m.d.comb += [
                    everything.eq(1),
                    self.invalidations.valid.eq(1),
                    self.everything_done.eq(self.invalidations.ready),
                ]
                with m.If(self.invalidations.ready):
                    m.next = "IDLE"
            with m.State("VERIFY"):
                m.next = "OFFER"
                with m.If(self._refused(of_context, granularity)):
                    finish(Granularity.NONE)
                    m.next = "IDLE"
            with m.State("OFFER"):
                m.d.comb += self.invalidations.valid.eq(1)
                with m.If(self.invalidations.ready):
                    m.next = "DRAIN"
            with m.State("DRAIN"):
                with m.If(self.drained):
                    finish(granularity)
                    m.next = "IDLE"
        self._describe(m, everything, of_context, granularity)
        return m

    def _fail_always(self, m: Module):
        """Nothing is ever offered but the invalidation of everything."""
        offered = self.invalidations
        m.d.comb += [
            self.icc_done.eq(1),
            self.ivt_done.eq(1),
            offered.valid.eq(self.everything),
            self.everything_done.eq(offered.valid & offered.ready),
            *(reached.eq(1) for reached in (offered.p.context, offered.p.pasid_cache, offered.p.iotlb)),
        ]

    def _refused(self, of_context, granularity):
        """Why a command ends without having done anything."""
        too_large = ~of_context & (granularity == Granularity.NARROW) & (self.iotlb.am > self._cfg.max_address_mask)
        return (self.mode != 0) | (granularity == Granularity.NONE) | too_large

    def _describe(self, m: Module, everything, of_context, granularity):
        """The invalidation as the caches understand it."""
        cfg, invalidation = self._cfg, self.invalidations.payload
        domain_id = Mux(of_context, self.context.did, self.iotlb.did)
        m.d.comb += [
            invalidation.context.eq(everything | of_context),
            invalidation.pasid_cache.eq(everything),
            invalidation.iotlb.eq(everything | ~of_context),
            invalidation.domain_id.eq(domain_id & (1 << cfg.domain_bits) - 1),
            invalidation.source_id.eq(self.context.sid),
            invalidation.function_mask.eq(self.context.fm),
            invalidation.page.eq(self.iotlb.addr[: cfg.mgaw - 12]),
            invalidation.address_mask.eq(self.iotlb.am),
            invalidation.hint.eq(self.iotlb.ih),
        ]
        narrow = Mux(of_context, Scope.DEVICE, Scope.PAGE_IN_DOMAIN)
        with m.If(everything | (granularity == Granularity.GLOBAL)):
            m.d.comb += invalidation.scope.eq(Scope.GLOBAL)
        with m.Elif(granularity == Granularity.DOMAIN):
            m.d.comb += invalidation.scope.eq(Scope.DOMAIN)
        with m.Else():
            m.d.comb += invalidation.scope.eq(narrow)
