"""Faults: their reason codes, what the walker reports, and the fault recording register (§4, §1.8)."""

from amaranth.hdl import Value
from amaranth.lib import data, enum

from .structure import Structure, check_width

__all__ = ["UNQUALIFIED", "FaultEvent", "FaultReason", "FaultRecord", "is_qualified"]


class FaultReason(enum.Enum, shape=8):
    """Fault reason codes (§4.2 to §4.9) under the names of their condition groups: ``SPT_4`` is SPT.4.1 to SPT.4.4.

    The conditions of §4.9 have no names in the specification; ours start with ``INTERRUPT``. SGN.3 (82h) left the
    specification with revision 4.1.
    """

    NONE = 0x00
    # Legacy mode
    LRT_2 = 0x01
    LCT_2 = 0x02
    LCT_4 = 0x03
    LGN_1 = 0x04
    LGN_2 = 0x05
    LGN_3 = 0x06
    LSS_1 = 0x07
    LRT_1 = 0x08
    LCT_1 = 0x09
    LRT_3 = 0x0A
    LCT_3 = 0x0B
    LSS_2 = 0x0C
    LCT_5 = 0x0D
    LGN_4 = 0x0E
    # Interrupts
    INTERRUPT_REQUEST_RESERVED = 0x20
    INTERRUPT_INDEX = 0x21
    INTERRUPT_NOT_PRESENT = 0x22
    INTERRUPT_ACCESS = 0x23
    INTERRUPT_ENTRY_RESERVED = 0x24
    INTERRUPT_COMPATIBILITY = 0x25
    INTERRUPT_SOURCE_ID = 0x26
    INTERRUPT_POSTED_ACCESS = 0x27
    INTERRUPT_POSTED_RESERVED = 0x28
    INTERRUPT_BAD_REQUEST = 0x29
    INTERRUPT_EXTENDED_MODE = 0x2A
    INTERRUPT_REMAPPING_DISABLED = 0x2B
    # Root-table address register, scalable-mode root table
    RTA_1 = 0x30
    RTA_2 = 0x31
    RTA_3 = 0x32
    RTA_4 = 0x33
    RTA_5 = 0x34
    SRT_1 = 0x38
    SRT_2 = 0x39
    SRT_3 = 0x3A
    # Scalable-mode context table
    SCT_1 = 0x40
    SCT_2 = 0x41
    SCT_3 = 0x42
    SCT_4 = 0x43
    SCT_5 = 0x44
    SCT_6 = 0x45
    SCT_7 = 0x46
    SCT_8 = 0x47
    SCT_9 = 0x48
    SCT_10 = 0x49
    # PASID directory and PASID table
    SPD_1 = 0x50
    SPD_2 = 0x51
    SPD_3 = 0x52
    SPT_1 = 0x58
    SPT_2 = 0x59
    SPT_3 = 0x5A
    SPT_4 = 0x5B
    SPT_5 = 0x5C
    SPT_6 = 0x5D
    SPT_9 = 0x60
    # First stage
    SFS_1 = 0x70
    SFS_2 = 0x71
    SFS_3 = 0x72
    SFS_4 = 0x73
    SFS_5 = 0x74
    SFS_6 = 0x75
    SFS_7 = 0x76
    SFS_8 = 0x77
    # Second stage
    SSS_1 = 0x78
    SSS_2 = 0x79
    SSS_3 = 0x7A
    SSS_4 = 0x7B
    SSS_5 = 0x7C
    SSS_6 = 0x7D
    # General
    SGN_1 = 0x80
    SGN_2 = 0x81
    SGN_4 = 0x83
    SGN_5 = 0x84
    SGN_6 = 0x85
    SGN_7 = 0x86
    SGN_8 = 0x87
    SGN_10 = 0x89
    # First stage, continued
    SFS_9 = 0x90
    SFS_10 = 0x91
    # Host permission table
    HPT_1 = 0xA0
    HPT_2 = 0xA1
    HPT_3 = 0xA2
    HPT_4 = 0xA3
    HPT_5 = 0xA4
    HPT_6 = 0xA5


UNQUALIFIED = frozenset(
    {
        FaultReason.LRT_1,
        FaultReason.LRT_2,
        FaultReason.LRT_3,
        FaultReason.LCT_1,
        FaultReason.INTERRUPT_REQUEST_RESERVED,
        FaultReason.INTERRUPT_INDEX,
        FaultReason.INTERRUPT_ACCESS,
        FaultReason.INTERRUPT_COMPATIBILITY,
        FaultReason.INTERRUPT_BAD_REQUEST,
        FaultReason.INTERRUPT_EXTENDED_MODE,
        FaultReason.INTERRUPT_REMAPPING_DISABLED,
        FaultReason.RTA_1,
        FaultReason.RTA_2,
        FaultReason.RTA_3,
        FaultReason.RTA_4,
        FaultReason.RTA_5,
        FaultReason.SRT_1,
        FaultReason.SRT_2,
        FaultReason.SRT_3,
        FaultReason.SCT_1,
        FaultReason.SPD_1,
        FaultReason.SPT_1,
    }
)
"""Faults that are recorded whatever FPD says (column Q of §4)."""


def is_qualified(reason) -> Value:
    """FPD=1 in a visited entry suppresses the record of ``reason`` (a `FaultReason` signal): 1 bit, combinational."""
    return ~Value.cast(reason).matches(*sorted(code.value for code in UNQUALIFIED))


class FaultEvent(data.Struct):
    """A fault on its way to the log, already past the FPD check.

    ``access`` is encoded as `nestwalk.bus.translation.Access`, ``address_type`` as ``AddressType`` there, page requests
    included; ``page`` is address[63:12].
    """

    source_id: 16
    pasid_valid: 1
    pasid: 20
    privileged: 1
    execute: 1
    address_type: 2
    access: 2
    page: 52
    reason: FaultReason


class FaultRecord(Structure):
    """Fault recording register FRCD_REG[n], 128 bits (§1.8). T1 and T2 together give the kind of request:
    0 write, T1 read, T1 and T2 atomic, T2 page request."""

    rsvd0: 12
    fi: 52
    sid: 16
    rsvd1: 12
    t2: 1
    priv: 1
    exe: 1
    pp: 1
    fr: FaultReason
    pv: 20
    at: 2
    t1: 1
    f: 1


check_width(FaultRecord, 128)
