"""Verifies a descriptor of the invalidation queue and says what it asks for (§5.2, §5.3)."""

from amaranth.hdl import Module, Signal
from amaranth.lib import enum, wiring
from amaranth.lib.wiring import In, Out

from ..bus.memory import PIECE_BITS
from ..config import IommuConfig
from ..formats.descriptor import (
    DESCRIPTORS,
    ContextCacheInvalidate,
    DescriptorType,
    InvalidationError,
    IotlbInvalidate,
    PasidCacheInvalidate,
    PasidIotlbInvalidate,
    descriptor_type,
    type_supported,
)
from .command import Invalidation, Scope

__all__ = ["Action", "DescriptorDecoder"]

WITH_GRANULARITY = (ContextCacheInvalidate, IotlbInvalidate, PasidIotlbInvalidate, PasidCacheInvalidate)


class Action(enum.Enum, shape=2):
    """What executes a descriptor."""

    INVALIDATE = 0  # the caches
    WAIT = 1  # the queue itself
    MESSAGE = 2  # the devices: device-TLB invalidations, page group responses


class DescriptorDecoder(wiring.Component):
    """Decodes a descriptor, combinationally.

    Errors are found in this order: invalid type and reserved granularity (IQEI 3), then reserved bits set and an
    address mask above CAP.MAMV in a page-selective iotlb_inv_dsc (IQEI 4; the specification leaves the last one
    open, and an error tells software more than a silently coarser invalidation would).

    Parameters
    ----------
    cfg : IommuConfig

    Members
    -------
    descriptor : 128, in
        Bits 127:0; bits 255:128 are reserved in every type.
    padding_set : 1, in
        One of bits 255:128 is set.
    scalable : 1, in
        TTM is scalable or abort-DMA mode, not legacy.
    error : `InvalidationError`, out
        NONE when the descriptor is valid.
    action : `Action`, out
    invalidation : `Invalidation`, out
        For `Action.INVALIDATE`. Fields that the scope does not name mean nothing.
    """

    def __init__(self, cfg: IommuConfig):
        self._cfg = cfg
        super().__init__(
            {
                "descriptor": In(PIECE_BITS),
                "padding_set": In(1),
                "scalable": In(1),
                "error": Out(InvalidationError),
                "action": Out(Action),
                "invalidation": Out(Invalidation),
            }
        )

    def elaborate(self, platform):
        m = Module()
        self._verify(m)
        self._decode(m)
        return m

    def _verify(self, m: Module):
        kind = descriptor_type(self.descriptor)
        granularity_valid = Signal(init=1)
        mask_supported = Signal(init=1)
        reserved_set = Signal()
        with m.Switch(kind):
            for member, layout in DESCRIPTORS.items():
                view = layout.at_piece(0, self.descriptor)
                with m.Case(member.value):
                    m.d.comb += reserved_set.eq(layout.reserved_in_piece(self._cfg, 0, self.descriptor))
                    if isinstance(view, WITH_GRANULARITY):
                        m.d.comb += granularity_valid.eq(view.granularity_valid())
                    if isinstance(view, IotlbInvalidate):
                        m.d.comb += mask_supported.eq(view.mask_supported(self._cfg))

        with m.If(~type_supported(self._cfg, kind, self.scalable) | ~granularity_valid):
            m.d.comb += self.error.eq(InvalidationError.INVALID_TYPE)
        with m.Elif(reserved_set | self.padding_set | ~mask_supported):
            m.d.comb += self.error.eq(InvalidationError.RESERVED_FIELD)

    def _decode(self, m: Module):
        invalidation = self.invalidation
        # Fields that several types have are in the same bits in all of them.
        context = ContextCacheInvalidate.at_piece(0, self.descriptor)
        iotlb = IotlbInvalidate.at_piece(0, self.descriptor)
        pasid_iotlb = PasidIotlbInvalidate.at_piece(0, self.descriptor)
        pasid_cache = PasidCacheInvalidate.at_piece(0, self.descriptor)
        m.d.comb += [
            invalidation.domain_id.eq(iotlb.did & (1 << self._cfg.domain_bits) - 1),
            invalidation.source_id.eq(context.sid),
            invalidation.function_mask.eq(context.fm),
            invalidation.pasid.eq(pasid_iotlb.pasid),
            invalidation.page.eq(pasid_iotlb.addr),
            invalidation.address_mask.eq(iotlb.am),
            invalidation.hint.eq(iotlb.ih),
            self.action.eq(Action.MESSAGE),
        ]

        def invalidate(target, scope):
            return [self.action.eq(Action.INVALIDATE), target.eq(1), invalidation.scope.eq(scope)]

        with m.Switch(descriptor_type(self.descriptor)):
            with m.Case(DescriptorType.CONTEXT_CACHE_INVALIDATE.value):
                m.d.comb += invalidate(invalidation.context, Scope.GLOBAL)
                with m.If(context.g == 3):
                    m.d.comb += invalidation.scope.eq(Scope.DEVICE)
                # Scalable-mode context entries have no domain: there it means all of them.
                with m.Elif((context.g == 2) & ~self.scalable):
                    m.d.comb += invalidation.scope.eq(Scope.DOMAIN)

            with m.Case(DescriptorType.IOTLB_INVALIDATE.value):
                m.d.comb += invalidate(invalidation.iotlb, Scope.GLOBAL)
                m.d.comb += invalidation.page.eq(iotlb.addr[: self._cfg.mgaw - 12])
                with m.If(iotlb.g == 3):
                    m.d.comb += invalidation.scope.eq(Scope.PAGE_IN_DOMAIN)
                with m.Elif(iotlb.g == 2):
                    m.d.comb += invalidation.scope.eq(Scope.DOMAIN)

            with m.Case(DescriptorType.PASID_IOTLB_INVALIDATE.value):
                m.d.comb += invalidate(invalidation.iotlb, Scope.PASID)
                with m.If(pasid_iotlb.g == 3):
                    m.d.comb += invalidation.scope.eq(Scope.PAGE_IN_PASID)

            with m.Case(DescriptorType.PASID_CACHE_INVALIDATE.value):
                m.d.comb += invalidate(invalidation.pasid_cache, Scope.GLOBAL)
                with m.If(pasid_cache.g == 0):
                    m.d.comb += invalidation.scope.eq(Scope.DOMAIN)
                with m.Elif(pasid_cache.g == 1):
                    m.d.comb += invalidation.scope.eq(Scope.PASID)

            with m.Case(DescriptorType.INVALIDATION_WAIT.value):
                m.d.comb += self.action.eq(Action.WAIT)
