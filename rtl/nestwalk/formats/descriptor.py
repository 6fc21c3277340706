"""Descriptors of the invalidation queue (§5.2): 128 bits (types 1 to 5) or 256 bits (types 6 to A)."""

from collections.abc import Iterable

from amaranth.hdl import Cat, Value
from amaranth.lib import enum

from ..config import IommuConfig
from .structure import FixedStructure, check_width

__all__ = [
    "DESCRIPTORS",
    "ContextCacheInvalidate",
    "DescriptorType",
    "DeviceTlbInvalidate",
    "HostPermissionInvalidate",
    "InterruptEntryInvalidate",
    "InvalidationError",
    "InvalidationWait",
    "IotlbInvalidate",
    "PageGroupResponse",
    "PasidCacheInvalidate",
    "PasidDeviceTlbInvalidate",
    "PasidIotlbInvalidate",
    "descriptor_type",
    "type_supported",
]


class DescriptorType(enum.Enum, shape=7):
    """The type of a descriptor: its bits 11:9 above its bits 3:0 (§5.1)."""

    CONTEXT_CACHE_INVALIDATE = 1
    IOTLB_INVALIDATE = 2
    DEVICE_TLB_INVALIDATE = 3
    INTERRUPT_ENTRY_INVALIDATE = 4
    INVALIDATION_WAIT = 5
    PASID_IOTLB_INVALIDATE = 6
    PASID_CACHE_INVALIDATE = 7
    PASID_DEVICE_TLB_INVALIDATE = 8
    PAGE_GROUP_RESPONSE = 9
    HOST_PERMISSION_INVALIDATE = 10


class InvalidationError(enum.Enum, shape=4):
    """IQERCD.IQEI: why the queue stopped (§1.11)."""

    NONE = 0
    INVALID_TAIL = 1
    FETCH = 2
    INVALID_TYPE = 3
    RESERVED_FIELD = 4
    INVALID_WIDTH = 5
    TAIL_ALIGNMENT = 6
    INVALID_MODE = 7


def descriptor_type(piece) -> Value:
    """The 7-bit type of a descriptor, from its first piece (at least 12 bits); compare with `DescriptorType` values."""
    bits = Value.cast(piece)
    return Value.cast(Cat(bits[:4], bits[9:12]))


def type_supported(cfg: IommuConfig, kind, scalable) -> Value:
    """``kind`` (`descriptor_type`, 7 bits) is a valid type: 1 bit, combinational (§5.1, IQEI 3 otherwise).

    ``scalable`` is 0 in legacy mode, where only the types up to 5 exist.
    """
    always = {
        DescriptorType.CONTEXT_CACHE_INVALIDATE: True,
        DescriptorType.IOTLB_INVALIDATE: True,
        DescriptorType.DEVICE_TLB_INVALIDATE: cfg.device_tlb,
        DescriptorType.INVALIDATION_WAIT: True,
    }
    in_scalable_mode = {
        DescriptorType.PASID_IOTLB_INVALIDATE: True,
        DescriptorType.PASID_CACHE_INVALIDATE: True,
        DescriptorType.PASID_DEVICE_TLB_INVALIDATE: cfg.device_tlb,
        DescriptorType.PAGE_GROUP_RESPONSE: cfg.page_requests,
    }

    def one_of(types: dict[DescriptorType, bool]) -> Value:
        return Value.cast(kind).matches(*(member.value for member, there in types.items() if there))

    return one_of(always) | (one_of(in_scalable_mode) & scalable)


class ContextCacheInvalidate(FixedStructure):
    """cc_inv_dsc. G: 1 global, 2 domain, 3 device."""

    type: 4
    g: 2
    rsvd0: 3
    type_high: 3
    rsvd1: 4
    did: 16
    sid: 16
    fm: 2
    rsvd2: 78

    def granularity_valid(self) -> Value:
        """G has a meaning (IQEI 3 otherwise)."""
        return self.g != 0


class IotlbInvalidate(FixedStructure):
    """iotlb_inv_dsc. G: 1 global, 2 domain, 3 page in domain. DW and DR are ignored, draining always happens."""

    type: 4
    g: 2
    dw: 1
    dr: 1
    rsvd0: 1
    type_high: 3
    rsvd1: 4
    did: 16
    rsvd2: 32
    am: 6
    ih: 1
    rsvd3: 5
    addr: 52

    def granularity_valid(self) -> Value:
        """G has a meaning (IQEI 3 otherwise)."""
        return self.g != 0

    def mask_supported(self, cfg: IommuConfig) -> Value:
        """AM counts only for page granularity, and is at most CAP.MAMV."""
        return (self.g != 3) | (self.am <= cfg.max_address_mask)


class DeviceTlbInvalidate(FixedStructure):
    """dev_tlb_inv_dsc."""

    type: 4
    rsvd0: 5
    type_high: 3
    pfsid_low: 4
    mip: 5
    rsvd1: 11
    sid: 16
    rsvd2: 4
    pfsid_high: 12
    s: 1
    rsvd3: 11
    addr: 52


class InterruptEntryInvalidate(FixedStructure):
    """iec_inv_dsc. G: 0 global, 1 by index."""

    type: 4
    g: 1
    rsvd0: 4
    type_high: 3
    rsvd1: 15
    im: 5
    iidx: 16
    rsvd2: 80


class InvalidationWait(FixedStructure):
    """inv_wait_dsc: ``if_`` is IF, ``status_address`` holds address[63:2]."""

    type: 4
    if_: 1
    sw: 1
    fn: 1
    pd: 1
    rsvd0: 1
    type_high: 3
    rsvd1: 20
    status_data: 32
    rsvd2: 2
    status_address: 62

    @classmethod
    def also_reserved(cls, cfg: IommuConfig) -> Iterable[int]:
        if not cfg.page_requests:
            yield cls.mask("pd")


class PasidIotlbInvalidate(FixedStructure):
    """p_iotlb_inv_dsc. G: 2 PASID, 3 page in PASID; AM is not limited by CAP.MAMV."""

    type: 4
    g: 2
    rsvd0: 3
    type_high: 3
    rsvd1: 4
    did: 16
    pasid: 20
    rsvd2: 12
    am: 6
    ih: 1
    rsvd3: 5
    addr: 52
    rsvd4: 128

    def granularity_valid(self) -> Value:
        """G has a meaning (IQEI 3 otherwise)."""
        return self.g[1]


class PasidCacheInvalidate(FixedStructure):
    """pc_inv_dsc. G: 0 domain, 1 PASID within domain, 3 global."""

    type: 4
    g: 2
    rsvd0: 3
    type_high: 3
    rsvd1: 4
    did: 16
    pasid: 20
    rsvd2: 12
    rsvd3: 192

    def granularity_valid(self) -> Value:
        """G has a meaning (IQEI 3 otherwise)."""
        return self.g != 2


class PasidDeviceTlbInvalidate(FixedStructure):
    """p_dev_tlb_inv_dsc."""

    type: 4
    mip: 5
    type_high: 3
    pfsid_low: 4
    sid: 16
    pasid: 20
    pfsid_high: 12
    gi: 1
    rsvd0: 10
    s: 1
    addr: 52
    rsvd1: 128


class PageGroupResponse(FixedStructure):
    """page_grp_resp_dsc (§7.2). RC: 0 success, 1 invalid request, Fh response failure."""

    type: 4
    pp: 1
    rsvd0: 4
    type_high: 3
    rc: 4
    rid: 16
    pasid: 20
    rsvd1: 14
    ign: 1
    prgi: 9
    rsvd2: 52
    rsvd3: 128


class HostPermissionInvalidate(FixedStructure):
    """hpt_inv_dsc. G: 1 global, 2 domain, 3 page in domain."""

    type: 4
    g: 2
    rsvd0: 3
    type_high: 3
    rsvd1: 4
    hptdid: 16
    rsvd2: 32
    am: 6
    ih: 2
    rsvd3: 4
    addr: 52
    rsvd4: 128


DESCRIPTORS: dict[DescriptorType, type[FixedStructure]] = {
    DescriptorType.CONTEXT_CACHE_INVALIDATE: ContextCacheInvalidate,
    DescriptorType.IOTLB_INVALIDATE: IotlbInvalidate,
    DescriptorType.DEVICE_TLB_INVALIDATE: DeviceTlbInvalidate,
    DescriptorType.INTERRUPT_ENTRY_INVALIDATE: InterruptEntryInvalidate,
    DescriptorType.INVALIDATION_WAIT: InvalidationWait,
    DescriptorType.PASID_IOTLB_INVALIDATE: PasidIotlbInvalidate,
    DescriptorType.PASID_CACHE_INVALIDATE: PasidCacheInvalidate,
    DescriptorType.PASID_DEVICE_TLB_INVALIDATE: PasidDeviceTlbInvalidate,
    DescriptorType.PAGE_GROUP_RESPONSE: PageGroupResponse,
    DescriptorType.HOST_PERMISSION_INVALIDATE: HostPermissionInvalidate,
}
"""The format of each type."""

for _type, _format in DESCRIPTORS.items():
    check_width(_format, 128 if _type.value <= 5 else 256)
