"""The register table (§1): what the register file, the driver's accessors and ``docs/registers.md`` are made from.

Plain data, no hardware. A register or field that comes with a later feature is a row here.
"""

from collections.abc import Mapping

from ..bus.sharing import PARTITIONS, WAY_BITS
from ..counters.counters import COUNTER_BITS
from ..counters.events import EVENTS
from .description import Attribute, Field, Register

__all__ = ["FAULT_RECORD_OFFSET", "IMPLEMENTATION_OFFSET", "IOTLB_OFFSET", "REGISTERS"]

FAULT_RECORD_OFFSET = 0x500
"""Byte offset of the first fault recording register, 16 * CAP.FRO: behind all other registers of the specification,
with room for 112 records below this implementation's own."""

IOTLB_OFFSET = 0xF0
"""Byte offset of IVA, which IOTLB follows: 16 * ECAP.IRO."""

IMPLEMENTATION_OFFSET = 0xC00
"""Byte offset of this implementation's own registers, up to DBFh, where the specification has none."""

RW, RO, WO, ROS = Attribute.RW, Attribute.RO, Attribute.WO, Attribute.ROS
RW1CS = Attribute.RW1CS


def _field(bits: str, name: str, attribute: Attribute, description: str, **more) -> Field:
    """A row of a register: ``bits`` is ``"31"`` or ``"15:8"``."""
    high, _, low = bits.partition(":")
    return Field(name=name, high=int(high), low=int(low or high), attribute=attribute, description=description, **more)


def _register(name: str, offset: int, width: int, section: str, description: str, *fields: Field, **more) -> Register:
    return Register(
        name=name, offset=offset, width=width, section=section, description=description, fields=fields, **more
    )


def _event_registers(letter: str, offset: int, section: str, event: str, *, when: str = "") -> tuple[Register, ...]:
    """Control, data and address registers of one event's interrupt message (§1.8, §1.9)."""
    return (
        _register(
            f"{letter}CTL",
            offset,
            32,
            section,
            f"{event} control",
            _field("31", "IM", RW, "interrupt mask", reset=1, when=when),
            _field("30", "IP", RO, "interrupt pending", when=when),
        ),
        _register(
            f"{letter}DATA",
            offset + 4,
            32,
            section,
            f"{event} message data",
            _field("15:0", "IMD", RW, "interrupt message data", when=when),
        ),
        _register(
            f"{letter}ADDR",
            offset + 8,
            32,
            section,
            f"{event} message address",
            _field("31:2", "MA", RW, "message address [31:2]", when=when),
        ),
        _register(
            f"{letter}UADDR",
            offset + 12,
            32,
            section,
            f"{event} message upper address",
            _field("31:0", "MUA", RW, "message address [63:32]", when=when),
        ),
    )


_CAPABILITIES = (
    _register(
        "VER",
        0x000,
        32,
        "§1.2",
        "Architecture version",
        _field("7:4", "MAX", RO, "major version"),
        _field("3:0", "MIN", RO, "minor version"),
    ),
    _register(
        "CAP",
        0x008,
        64,
        "§1.3",
        "Capabilities",
        _field("63", "ESRTPS", RO, "SRTP also invalidates all DMA-remapping caches"),
        _field("62", "ESIRTPS", RO, "SIRTP also invalidates the interrupt-entry cache"),
        _field("61", "ECMDS", RO, "enhanced command interface"),
        _field("60", "FS5LP", RO, "5-level first-stage paging"),
        _field("59", "PI", RO, "posted interrupts"),
        _field("56", "FS1GP", RO, "1 GiB first-stage pages"),
        _field("55", "DRD", RO, "read draining"),
        _field("54", "DWD", RO, "write draining"),
        _field("53:48", "MAMV", RO, "largest address mask of iotlb_inv_dsc"),
        _field("47:40", "NFR", RO, "number of fault recording registers - 1"),
        _field("39", "PSI", RO, "page-selective iotlb_inv_dsc"),
        _field("37:34", "SSLPS", RO, "second-stage large pages: 2 MiB, 1 GiB"),
        _field("33:24", "FRO", RO, "offset of the fault recording registers / 16"),
        _field("22", "ZLR", RO, "zero-length reads of write-only pages"),
        _field("21:16", "MGAW", RO, "maximum guest address width - 1"),
        _field("12:8", "SAGAW", RO, "second-stage levels: bit 1 three, bit 2 four, bit 3 five"),
        _field("7", "CM", RO, "caching mode"),
        _field("6", "PHMR", RO, "protected high-memory region"),
        _field("5", "PLMR", RO, "protected low-memory region"),
        _field("4", "RWBF", RO, "write-buffer flush needed"),
        _field("2:0", "ND", RO, "domain identifier width is 2 * ND + 4"),
    ),
    _register(
        "ECAP",
        0x010,
        64,
        "§1.4",
        "Extended capabilities",
        _field("62", "IRREQ", RO, "message interrupts blocked while interrupt remapping is off"),
        _field("61", "EIMER", RO, "extended interrupt mode required"),
        _field("60", "RDTS", RO, "resource director"),
        _field("59", "HPT1GPS", RO, "1 GiB entries in host permission tables"),
        _field("58", "SMS", RO, "stop markers"),
        _field("57", "SSIRWS", RO, "second-stage I/O read and write bits"),
        _field("56", "PTRS", RO, "PASID in translated requests"),
        _field("55", "HPTS", RO, "host permission tables"),
        _field("53", "RPRIVS", RO, "RID_PRIV"),
        _field("52", "ADMS", RO, "abort-DMA mode"),
        _field("51", "PMS", RO, "performance monitoring"),
        _field("50", "TDXCS", RO, "TDX Connect"),
        _field("49", "RPS", RO, "RID_PASID"),
        _field("48", "SMPWCS", RO, "first- and second-stage walks can snoop"),
        _field("47", "FSTS", RO, "first-stage translation"),
        _field("46", "SSTS", RO, "second-stage translation"),
        _field("45", "SSADS", RO, "second-stage accessed and dirty bits"),
        _field("44", "VCS", RO, "virtual command registers"),
        _field("43", "SMTS", RO, "scalable mode"),
        _field("42", "PDS", RO, "page-request drain in wait descriptors"),
        _field("41", "DIT", RO, "device-TLB invalidation throttling"),
        _field("40", "PASID", RO, "requests with PASID"),
        _field("39:35", "PSS", RO, "PASID width - 1"),
        _field("34", "EAFS", RO, "extended-accessed bit"),
        _field("33", "NWFS", RO, "no-write flag in translation requests"),
        _field("31", "SRS", RO, "supervisor-privilege requests"),
        _field("30", "ERS", RO, "execute requests"),
        _field("29", "PRS", RO, "page requests"),
        _field("26", "NEST", RO, "nested translation"),
        _field("25", "MTS", RO, "memory types"),
        _field("23:20", "MHMV", RO, "largest mask of iec_inv_dsc"),
        _field("17:8", "IRO", RO, "offset of the IOTLB registers / 16"),
        _field("7", "SC", RO, "snoop control"),
        _field("6", "PT", RO, "pass-through"),
        _field("4", "EIM", RO, "extended interrupt mode"),
        _field("3", "IR", RO, "interrupt remapping"),
        _field("2", "DT", RO, "device-TLBs"),
        _field("1", "QI", RO, "queued invalidation"),
        _field("0", "C", RO, "accesses to the tables snoop"),
    ),
)

_CONTROL = (
    _register(
        "GCMD",
        0x018,
        32,
        "§1.5",
        "Global commands",
        _field("31", "TE", WO, "translation enable"),
        _field("30", "SRTP", WO, "set root-table pointer", self_clearing=True),
        _field("27", "WBF", WO, "write-buffer flush", self_clearing=True, when="CAP.RWBF"),
        _field("26", "QIE", WO, "queued-invalidation enable"),
        _field("25", "IRE", WO, "interrupt-remapping enable", when="ECAP.IR"),
        _field("24", "SIRTP", WO, "set interrupt-remapping-table pointer", self_clearing=True, when="ECAP.IR"),
        _field("23", "CFI", WO, "compatibility-format interrupts", when="ECAP.IR"),
    ),
    _register(
        "GSTS",
        0x01C,
        32,
        "§1.5",
        "Global status",
        _field("31", "TES", RO, "translation enabled"),
        _field("30", "RTPS", RO, "root-table pointer set"),
        _field("27", "WBFS", RO, "write-buffer flush under way", when="CAP.RWBF"),
        _field("26", "QIES", RO, "queued invalidation enabled"),
        _field("25", "IRES", RO, "interrupt remapping enabled", when="ECAP.IR"),
        _field("24", "IRTPS", RO, "interrupt-remapping-table pointer set", when="ECAP.IR"),
        _field("23", "CFIS", RO, "compatibility-format interrupts", when="ECAP.IR"),
    ),
    _register(
        "RTADDR",
        0x020,
        64,
        "§1.6",
        "Root-table address, latched by GCMD.SRTP",
        _field("63:12", "RTA", RW, "root-table address [63:12]"),
        _field("11:10", "TTM", RW, "translation-table mode: 0 legacy, 1 scalable, 3 abort-DMA"),
        _field("7", "SSIRWE", RW, "second-stage I/O read and write bits enabled", when="ECAP.SSIRWS"),
    ),
    _register(
        "CCMD",
        0x028,
        64,
        "§1.7",
        "Context command (always fails from major version 6 on)",
        _field("63", "ICC", RW, "invalidate context cache", self_clearing=True),
        _field("62:61", "CIRG", RW, "requested granularity"),
        _field("60:59", "CAIG", RO, "actual granularity, 0 for failure"),
        _field("33:32", "FM", WO, "function mask"),
        _field("31:16", "SID", WO, "source identifier"),
        _field("15:0", "DID", RW, "domain identifier"),
    ),
)

_FAULT_EVENTS = (
    _register(
        "FSTS",
        0x034,
        32,
        "§1.8",
        "Fault status",
        _field("15:8", "FRI", ROS, "first record logged since PPF rose"),
        _field("6", "ITE", RW1CS, "device-TLB invalidation time-out", when="ECAP.DT"),
        _field("5", "ICE", RW1CS, "device-TLB invalidation completion error", when="ECAP.DT"),
        _field("4", "IQE", RW1CS, "invalidation queue error"),
        _field("1", "PPF", ROS, "some fault record is valid"),
        _field("0", "PFO", RW1CS, "a fault was lost"),
    ),
    *_event_registers("FE", 0x038, "§1.8", "Fault event"),
)

_INVALIDATION_QUEUE = (
    _register(
        "IQH",
        0x080,
        64,
        "§1.11",
        "Invalidation queue head",
        _field("18:4", "QH", RO, "next descriptor to process, byte offset [18:4]"),
    ),
    _register(
        "IQT",
        0x088,
        64,
        "§1.11",
        "Invalidation queue tail",
        _field("18:4", "QT", RW, "next descriptor that software writes, byte offset [18:4]"),
    ),
    _register(
        "IQA",
        0x090,
        64,
        "§1.11",
        "Invalidation queue address",
        _field("63:12", "IQA", RW, "queue address [63:12]"),
        _field("11", "DW", RW, "descriptor width: 0 for 128 bits, 1 for 256 bits"),
        _field("2:0", "QS", RW, "queue size: 2^QS pages"),
    ),
    _register(
        "ICS",
        0x09C,
        32,
        "§1.11",
        "Invalidation completion status",
        _field("0", "IWC", RW1CS, "a wait descriptor with IF=1 completed"),
    ),
    *_event_registers("IE", 0x0A0, "§1.8", "Invalidation event"),
    _register(
        "IQERCD",
        0x0B0,
        64,
        "§1.11",
        "Invalidation queue error record",
        _field("63:48", "ICESID", ROS, "source of the bad completion", when="ECAP.DT"),
        _field("47:32", "ITESID", ROS, "source of the timed-out request", when="ECAP.DT"),
        _field("3:0", "IQEI", ROS, "why the queue stopped, valid while FSTS.IQE is set"),
    ),
)

_PAGE_REQUEST_QUEUE = (
    _register(
        "PQH",
        0x0C0,
        64,
        "§1.13",
        "Page request queue head",
        _field("18:5", "PQH", RW, "next request that software takes, byte offset [18:5]", when="ECAP.PRS"),
    ),
    _register(
        "PQT",
        0x0C8,
        64,
        "§1.13",
        "Page request queue tail",
        _field(
            "18:5",
            "PQT",
            RW,
            "where the next request goes, byte offset [18:5]; moves on when one is in memory",
            hardware=True,
            when="ECAP.PRS",
        ),
    ),
    _register(
        "PQA",
        0x0D0,
        64,
        "§1.13",
        "Page request queue address",
        _field("63:12", "PQA", RW, "queue address [63:12]", when="ECAP.PRS"),
        _field("2:0", "PQS", RW, "queue size: 2^(PQS + 7) requests", when="ECAP.PRS"),
    ),
    _register(
        "PRS",
        0x0DC,
        32,
        "§1.13",
        "Page request status",
        _field("1", "PRO", RW1CS, "a request found no place; while this is set none is queued", when="ECAP.PRS"),
        _field("0", "PPR", RW1CS, "a request has been queued", when="ECAP.PRS"),
    ),
    *_event_registers("PE", 0x0E0, "§1.13", "Page request event", when="ECAP.PRS"),
)

_REGISTER_INVALIDATION = (
    _register(
        "IVA",
        IOTLB_OFFSET,
        64,
        "§1.7",
        "Invalidate address",
        _field("63:12", "ADDR", WO, "address [63:12]"),
        _field("6", "IH", WO, "keep non-leaf entries"),
        _field("5:0", "AM", WO, "address mask"),
    ),
    _register(
        "IOTLB",
        IOTLB_OFFSET + 8,
        64,
        "§1.7",
        "IOTLB invalidate (always fails from major version 6 on)",
        _field("63", "IVT", RW, "invalidate IOTLB", self_clearing=True),
        _field("61:60", "IIRG", RW, "requested granularity"),
        _field("58:57", "IAIG", RO, "actual granularity, 0 for failure"),
        _field("49", "DR", RW, "drain reads"),
        _field("48", "DW", RW, "drain writes"),
        _field("47:32", "DID", RW, "domain identifier"),
    ),
)

_FAULT_RECORDS = (
    _register(
        "FRCD",
        FAULT_RECORD_OFFSET,
        128,
        "§1.8",
        "Fault recording, one for each of CAP.NFR + 1 records",
        _field("127", "F", RW1CS, "record valid"),
        _field("126", "T1", ROS, "type of request: T1 T2 = 00 write, 10 read, 11 atomic, 01 page request"),
        _field("125:124", "AT", ROS, "address type of the request", when="ECAP.DT"),
        _field("123:104", "PV", ROS, "PASID, where PP is set", when="ECAP.PASID"),
        _field("103:96", "FR", ROS, "fault reason"),
        _field("95", "PP", ROS, "request with PASID", when="ECAP.PASID"),
        _field("94", "EXE", ROS, "execute requested", when="ECAP.PASID"),
        _field("93", "PRIV", ROS, "privileged mode requested", when="ECAP.PASID"),
        _field("92", "T2", ROS, "with T1"),
        _field("79:64", "SID", ROS, "source identifier"),
        _field("63:12", "FI", ROS, "address [63:12]"),
        array=True,
    ),
)

OWN = "implementation-specific"

_IMPLEMENTATION = (
    _register(
        "IMPCAP",
        IMPLEMENTATION_OFFSET,
        64,
        OWN,
        "Implementation-specific capabilities",
        _field("29:24", "NEC", RO, "number of event counters"),
        _field("20:16", "NWS", RO, "number of walk slots - 1"),
        _field("3", "ECS", RO, "event counters"),
        _field("2", "CPS", RO, "cache partitioning"),
        _field("1", "WLS", RO, "walk limit"),
        _field("0", "PFS", RO, "prefetch"),
    ),
    _register(
        "IMPCTL",
        IMPLEMENTATION_OFFSET + 0x08,
        32,
        OWN,
        "Implementation-specific control",
        _field(
            "12:8",
            "WL",
            RW,
            "walks in flight at once of requesters alike in devfn ^ reversed bus; 0 for no limit",
            when="IMPCAP.WLS",
        ),
        _field("0", "PFE", RW, "prefetch enable", reset=1, when="IMPCAP.PFS"),
    ),
    _register(
        "CPW",
        IMPLEMENTATION_OFFSET + 0x10,
        32,
        OWN,
        f"Cache partition ways: for domain identifiers equal modulo {PARTITIONS}, the ways that their entries may take",
        *(
            _field(
                f"{WAY_BITS * (number + 1) - 1}:{WAY_BITS * number}",
                f"W{number}",
                RW,
                f"ways of domains of remainder {number}; 0 for all",
                when="IMPCAP.CPS",
            )
            for number in reversed(range(PARTITIONS))
        ),
    ),
    _register(
        "EVCNT",
        IMPLEMENTATION_OFFSET + 0x40,
        64,
        OWN,
        "Event counters since reset, read as QWORDs",
        _field(f"{COUNTER_BITS - 1}:0", "CNT", RO, "number of events", when="IMPCAP.ECS"),
        array=True,
        length=len(EVENTS),
    ),
)

_VIRTUAL_COMMANDS = (
    _register(
        "VCMD",
        0xE00,
        64,
        "§1.18",
        "Virtual command, locked while VCRSP.IP is set",
        _field("63:16", "OA", RW, "operand: PASID in [35:16]", when="ECAP.VCS"),
        _field("7:0", "CMD", RW, "command: 1 allocates a PASID, 2 frees one", starts=True, when="ECAP.VCS"),
        lockable=True,
    ),
    _register(
        "VCMD_EO",
        0xE08,
        64,
        "§1.18",
        "Virtual command extended operand, locked while VCRSP.IP is set",
        _field("63:0", "OB", RW, "operand; no command has one", when="ECAP.VCS"),
        lockable=True,
    ),
    _register(
        "VCRSP",
        0xE10,
        64,
        "§1.18",
        "Virtual command response",
        _field("63:16", "RSLT", RO, "result: PASID in [35:16]", when="ECAP.VCS"),
        _field(
            "7:1", "SC", RO, "status: 0 success, 1 undefined command, 16 no PASID or an invalid one", when="ECAP.VCS"
        ),
        _field("0", "IP", RO, "command in progress", when="ECAP.VCS"),
    ),
    _register(
        "VCCAP",
        0xE30,
        64,
        "§1.18",
        "Virtual command capabilities",
        _field("2", "FPS", RO, "PASIDs are freed", when="ECAP.VCS"),
        _field("1", "PAS", RO, "PASIDs are allocated", when="ECAP.VCS"),
        _field("0", "NS", RO, "null command", when="ECAP.VCS"),
    ),
)

REGISTERS: Mapping[str, Register] = {
    register.name: register
    for register in (
        *_CAPABILITIES,
        *_CONTROL,
        *_FAULT_EVENTS,
        *_INVALIDATION_QUEUE,
        *_PAGE_REQUEST_QUEUE,
        *_REGISTER_INVALIDATION,
        *_FAULT_RECORDS,
        *_IMPLEMENTATION,
        *_VIRTUAL_COMMANDS,
    )
}
"""All registers by name, in the order of their offsets."""
