"""The register table (§1): what the register file, the driver's accessors and ``docs/registers.md`` are made from.

Plain data, no hardware. A register or field that comes with a later feature is a row here.
"""

from collections.abc import Mapping

from ..bus.sharing import PARTITIONS, WAY_BITS
from ..counters.counters import COUNTER_BITS
from ..counters.events import EVENTS
from .capability_rows import CAPABILITIES
from .description import Register
from .performance_rows import COUNTERS, ENHANCED_COMMANDS, PERFORMANCE, PERFORMANCE_OFFSET
from .rows import RO, ROS, RW, RW1CS, WO, event_registers, field, register

__all__ = ["FAULT_RECORD_OFFSET", "IMPLEMENTATION_OFFSET", "IOTLB_OFFSET", "PERFORMANCE_OFFSET", "REGISTERS"]

FAULT_RECORD_OFFSET = 0x500
"""Byte offset of the first fault recording register, 16 * CAP.FRO: behind all other registers at fixed places, with
room for 48 records below those of performance monitoring, and for 112 without these."""

IOTLB_OFFSET = 0xF0
"""Byte offset of IVA, which IOTLB follows: 16 * ECAP.IRO."""

IMPLEMENTATION_OFFSET = 0xC08
"""Byte offset of this implementation's own registers, up to DBFh, where the specification has none."""

_CONTROL = (
    register(
        "GCMD",
        0x018,
        32,
        "§1.5",
        "Global commands",
        field("31", "TE", WO, "translation enable"),
        field("30", "SRTP", WO, "set root-table pointer", self_clearing=True),
        field("27", "WBF", WO, "write-buffer flush", self_clearing=True, when="CAP.RWBF"),
        field("26", "QIE", WO, "queued-invalidation enable"),
        field("25", "IRE", WO, "interrupt-remapping enable", when="ECAP.IR"),
        field("24", "SIRTP", WO, "set interrupt-remapping-table pointer", self_clearing=True, when="ECAP.IR"),
        field("23", "CFI", WO, "compatibility-format interrupts", when="ECAP.IR"),
    ),
    register(
        "GSTS",
        0x01C,
        32,
        "§1.5",
        "Global status",
        field("31", "TES", RO, "translation enabled"),
        field("30", "RTPS", RO, "root-table pointer set"),
        field("27", "WBFS", RO, "write-buffer flush under way", when="CAP.RWBF"),
        field("26", "QIES", RO, "queued invalidation enabled"),
        field("25", "IRES", RO, "interrupt remapping enabled", when="ECAP.IR"),
        field("24", "IRTPS", RO, "interrupt-remapping-table pointer set", when="ECAP.IR"),
        field("23", "CFIS", RO, "compatibility-format interrupts", when="ECAP.IR"),
    ),
    register(
        "RTADDR",
        0x020,
        64,
        "§1.6",
        "Root-table address, latched by GCMD.SRTP",
        field("63:12", "RTA", RW, "root-table address [63:12]"),
        field("11:10", "TTM", RW, "translation-table mode: 0 legacy, 1 scalable, 3 abort-DMA"),
        field("7", "SSIRWE", RW, "second-stage I/O read and write bits enabled", when="ECAP.SSIRWS"),
    ),
    register(
        "CCMD",
        0x028,
        64,
        "§1.7",
        "Context command (always fails from major version 6 on)",
        field("63", "ICC", RW, "invalidate context cache", self_clearing=True),
        field("62:61", "CIRG", RW, "requested granularity"),
        field("60:59", "CAIG", RO, "actual granularity, 0 for failure"),
        field("33:32", "FM", WO, "function mask"),
        field("31:16", "SID", WO, "source identifier"),
        field("15:0", "DID", RW, "domain identifier"),
    ),
)

_FAULT_EVENTS = (
    register(
        "FSTS",
        0x034,
        32,
        "§1.8",
        "Fault status",
        field("15:8", "FRI", ROS, "first record logged since PPF rose"),
        field("6", "ITE", RW1CS, "device-TLB invalidation time-out", when="ECAP.DT"),
        field("5", "ICE", RW1CS, "device-TLB invalidation completion error", when="ECAP.DT"),
        field("4", "IQE", RW1CS, "invalidation queue error"),
        field("1", "PPF", ROS, "some fault record is valid"),
        field("0", "PFO", RW1CS, "a fault was lost"),
    ),
    *event_registers("FE", 0x038, "§1.8", "Fault event"),
)

_INVALIDATION_QUEUE = (
    register(
        "IQH",
        0x080,
        64,
        "§1.11",
        "Invalidation queue head",
        field("18:4", "QH", RO, "next descriptor to process, byte offset [18:4]"),
    ),
    register(
        "IQT",
        0x088,
        64,
        "§1.11",
        "Invalidation queue tail",
        field("18:4", "QT", RW, "next descriptor that software writes, byte offset [18:4]"),
    ),
    register(
        "IQA",
        0x090,
        64,
        "§1.11",
        "Invalidation queue address",
        field("63:12", "IQA", RW, "queue address [63:12]"),
        field("11", "DW", RW, "descriptor width: 0 for 128 bits, 1 for 256 bits"),
        field("2:0", "QS", RW, "queue size: 2^QS pages"),
    ),
    register(
        "ICS",
        0x09C,
        32,
        "§1.11",
        "Invalidation completion status",
        field("0", "IWC", RW1CS, "a wait descriptor with IF=1 completed"),
    ),
    *event_registers("IE", 0x0A0, "§1.8", "Invalidation event"),
    register(
        "IQERCD",
        0x0B0,
        64,
        "§1.11",
        "Invalidation queue error record",
        field("63:48", "ICESID", ROS, "source of the bad completion", when="ECAP.DT"),
        field("47:32", "ITESID", ROS, "source of the timed-out request", when="ECAP.DT"),
        field("3:0", "IQEI", ROS, "why the queue stopped, valid while FSTS.IQE is set"),
    ),
)

_PAGE_REQUEST_QUEUE = (
    register(
        "PQH",
        0x0C0,
        64,
        "§1.13",
        "Page request queue head",
        field("18:5", "PQH", RW, "next request that software takes, byte offset [18:5]", when="ECAP.PRS"),
    ),
    register(
        "PQT",
        0x0C8,
        64,
        "§1.13",
        "Page request queue tail",
        field(
            "18:5",
            "PQT",
            RW,
            "where the next request goes, byte offset [18:5]; moves on when one is in memory",
            hardware=True,
            when="ECAP.PRS",
        ),
    ),
    register(
        "PQA",
        0x0D0,
        64,
        "§1.13",
        "Page request queue address",
        field("63:12", "PQA", RW, "queue address [63:12]", when="ECAP.PRS"),
        field("2:0", "PQS", RW, "queue size: 2^(PQS + 7) requests", when="ECAP.PRS"),
    ),
    register(
        "PRS",
        0x0DC,
        32,
        "§1.13",
        "Page request status",
        field("1", "PRO", RW1CS, "a request found no place; while this is set none is queued", when="ECAP.PRS"),
        field("0", "PPR", RW1CS, "a request has been queued", when="ECAP.PRS"),
    ),
    *event_registers("PE", 0x0E0, "§1.13", "Page request event", when="ECAP.PRS"),
)

_REGISTER_INVALIDATION = (
    register(
        "IVA",
        IOTLB_OFFSET,
        64,
        "§1.7",
        "Invalidate address",
        field("63:12", "ADDR", WO, "address [63:12]"),
        field("6", "IH", WO, "keep non-leaf entries"),
        field("5:0", "AM", WO, "address mask"),
    ),
    register(
        "IOTLB",
        IOTLB_OFFSET + 8,
        64,
        "§1.7",
        "IOTLB invalidate (always fails from major version 6 on)",
        field("63", "IVT", RW, "invalidate IOTLB", self_clearing=True),
        field("61:60", "IIRG", RW, "requested granularity"),
        field("58:57", "IAIG", RO, "actual granularity, 0 for failure"),
        field("49", "DR", RW, "drain reads"),
        field("48", "DW", RW, "drain writes"),
        field("47:32", "DID", RW, "domain identifier"),
    ),
)

_FAULT_RECORDS = (
    register(
        "FRCD",
        FAULT_RECORD_OFFSET,
        128,
        "§1.8",
        "Fault recording, one for each of CAP.NFR + 1 records",
        field("127", "F", RW1CS, "record valid"),
        field("126", "T1", ROS, "type of request: T1 T2 = 00 write, 10 read, 11 atomic, 01 page request"),
        field("125:124", "AT", ROS, "address type of the request", when="ECAP.DT"),
        field("123:104", "PV", ROS, "PASID, where PP is set", when="ECAP.PASID"),
        field("103:96", "FR", ROS, "fault reason"),
        field("95", "PP", ROS, "request with PASID", when="ECAP.PASID"),
        field("94", "EXE", ROS, "execute requested", when="ECAP.PASID"),
        field("93", "PRIV", ROS, "privileged mode requested", when="ECAP.PASID"),
        field("92", "T2", ROS, "with T1"),
        field("79:64", "SID", ROS, "source identifier"),
        field("63:12", "FI", ROS, "address [63:12]"),
        array=True,
    ),
)

OWN = "implementation-specific"

_IMPLEMENTATION = (
    register(
        "IMPCAP",
        IMPLEMENTATION_OFFSET,
        64,
        OWN,
        "Implementation-specific capabilities",
        field("29:24", "NEC", RO, "number of event counters"),
        field("20:16", "NWS", RO, "number of walk slots - 1"),
        field("3", "ECS", RO, "event counters"),
        field("2", "CPS", RO, "cache partitioning"),
        field("1", "WLS", RO, "walk limit"),
        field("0", "PFS", RO, "prefetch"),
    ),
    register(
        "IMPCTL",
        IMPLEMENTATION_OFFSET + 0x08,
        32,
        OWN,
        "Implementation-specific control",
        field(
            "12:8",
            "WL",
            RW,
            "walks in flight at once of requesters alike in devfn ^ reversed bus; 0 for no limit",
            when="IMPCAP.WLS",
        ),
        field("0", "PFE", RW, "prefetch enable", reset=1, when="IMPCAP.PFS"),
    ),
    register(
        "CPW",
        IMPLEMENTATION_OFFSET + 0x10,
        32,
        OWN,
        f"Cache partition ways: for domain identifiers equal modulo {PARTITIONS}, the ways that their entries may take",
        *(
            field(
                f"{WAY_BITS * (number + 1) - 1}:{WAY_BITS * number}",
                f"W{number}",
                RW,
                f"ways of domains of remainder {number}; 0 for all",
                when="IMPCAP.CPS",
            )
            for number in reversed(range(PARTITIONS))
        ),
    ),
    register(
        "EVCNT",
        IMPLEMENTATION_OFFSET + 0x38,
        64,
        OWN,
        "Event counters since reset, read as QWORDs",
        field(f"{COUNTER_BITS - 1}:0", "CNT", RO, "number of events", when="IMPCAP.ECS"),
        array=True,
        length=len(EVENTS),
    ),
)

_VIRTUAL_COMMANDS = (
    register(
        "VCMD",
        0xE00,
        64,
        "§1.18",
        "Virtual command, locked while VCRSP.IP is set",
        field("63:16", "OA", RW, "operand: PASID in [35:16]", when="ECAP.VCS"),
        field("7:0", "CMD", RW, "command: 1 allocates a PASID, 2 frees one", starts=True, when="ECAP.VCS"),
        lockable=True,
    ),
    register(
        "VCMD_EO",
        0xE08,
        64,
        "§1.18",
        "Virtual command extended operand, locked while VCRSP.IP is set",
        field("63:0", "OB", RW, "operand; no command has one", when="ECAP.VCS"),
        lockable=True,
    ),
    register(
        "VCRSP",
        0xE10,
        64,
        "§1.18",
        "Virtual command response",
        field("63:16", "RSLT", RO, "result: PASID in [35:16]", when="ECAP.VCS"),
        field(
            "7:1", "SC", RO, "status: 0 success, 1 undefined command, 16 no PASID or an invalid one", when="ECAP.VCS"
        ),
        field("0", "IP", RO, "command in progress", when="ECAP.VCS"),
    ),
    register(
        "VCCAP",
        0xE30,
        64,
        "§1.18",
        "Virtual command capabilities",
        field("2", "FPS", RO, "PASIDs are freed", when="ECAP.VCS"),
        field("1", "PAS", RO, "PASIDs are allocated", when="ECAP.VCS"),
        field("0", "NS", RO, "null command", when="ECAP.VCS"),
    ),
)

REGISTERS: Mapping[str, Register] = {
    row.name: row
    for row in (
        *CAPABILITIES,
        *_CONTROL,
        *_FAULT_EVENTS,
        *_INVALIDATION_QUEUE,
        *_PAGE_REQUEST_QUEUE,
        *_REGISTER_INVALIDATION,
        *PERFORMANCE,
        *ENHANCED_COMMANDS,
        *_FAULT_RECORDS,
        *COUNTERS,
        *_IMPLEMENTATION,
        *_VIRTUAL_COMMANDS,
    )
}
"""All registers by name, in the order of their offsets."""
