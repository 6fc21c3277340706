"""Rows of the register table: performance monitoring and enhanced commands (§1.15, §1.16)."""

from ..counters.counters import COUNTER_BITS, MONITORS
from ..counters.monitored import EVENT_GROUPS
from .description import Register
from .rows import RO, RW, RW1C, WO, event_registers, field, register

__all__ = ["COUNTERS", "ENHANCED_COMMANDS", "PERFORMANCE", "PERFORMANCE_OFFSET"]

PERFORMANCE_OFFSET = 0x800
"""Byte offset of the first of the counters of performance monitoring, and what belongs to them behind it; the other
counter is a stride of 400h further."""

PMS, ECMDS = "ECAP.PMS", "CAP.ECMDS"

PERFORMANCE: tuple[Register, ...] = (
    register(
        "PERFCAP",
        0x300,
        64,
        "§1.15",
        "Performance monitoring capabilities",
        field("54:52", "CS", RO, "counters are 2^(CS + 10) bytes apart", when=PMS),
        field("51", "PCCS", RO, "capabilities of single counters", when=PMS),
        field("50", "IOS", RO, "interrupt on overflow", when=PMS),
        field("49", "GFS", RO, "freeze on overflow", when=PMS),
        field("48", "CWE", RO, "software can write counters", when=PMS),
        field("36", "PTLFS", RO, "page-table level filter", when=PMS),
        field("35", "ATFS", RO, "address type filter", when=PMS),
        field("34", "PASIDFS", RO, "PASID filter", when=PMS),
        field("33", "DIDFS", RO, "domain filter", when=PMS),
        field("32", "RIDFS", RO, "requester filter", when=PMS),
        field("28:24", "EGCNT", RO, "number of event groups", when=PMS),
        field("22:16", "CW", RO, "width of a counter", when=PMS),
        field("15:0", "NCNTR", RO, "number of counters", when=PMS),
    ),
    *(
        register(
            f"PERF{name}OFF",
            0x310 + 4 * number,
            32,
            "§1.15",
            f"Offset of {what}",
            field("31:0", "OFF", RO, "bytes", when=PMS),
        )
        for number, (name, what) in enumerate(
            (("CFG", "CNTRCFG0"), ("FRZ", "FRZSTS"), ("OVF", "OVFSTS"), ("CNTR", "CNTR 0"))
        )
    ),
    register(
        "PERFINTRSTS",
        0x324,
        32,
        "§1.15",
        "Performance event status",
        field("0", "PIS", RW1C, "a counter that asks for it has passed its largest value", when=PMS),
    ),
    *event_registers("PERFINTR", 0x328, "§1.15", "Performance event", when=PMS),
    *(
        register(
            f"PERFEVNTCAP{group}",
            0x380 + 8 * group,
            64,
            "§1.15",
            f"Events of group {group}",
            field("27:0", "ES", RO, "those that there are", when=PMS),
        )
        for group in range(EVENT_GROUPS)
    ),
)

ENHANCED_COMMANDS: tuple[Register, ...] = (
    register(
        "ECMD",
        0x400,
        64,
        "§1.16",
        "Enhanced command, locked while ECRSP.IP is set",
        field("63:16", "OA", WO, "operand: number of a counter", when=ECMDS),
        field(
            "7:0",
            "CMD",
            WO,
            "command: 240 enables a counter, 241 disables one, 244 freezes all, 245 unfreezes all",
            starts=True,
            when=ECMDS,
        ),
        lockable=True,
    ),
    register(
        "ECEO",
        0x408,
        64,
        "§1.16",
        "Enhanced command extended operand",
        field("63:0", "OB", WO, "operand; no command has one", when=ECMDS),
    ),
    register(
        "ECRSP",
        0x410,
        64,
        "§1.16",
        "Enhanced command response",
        field(
            "7:1",
            "SC",
            RO,
            "status: 0 success, 1 undefined command, 2 aborted by a global command under way, 16 no such counter or a "
            "configuration that cannot be",
            when=ECMDS,
        ),
        field("0", "IP", RO, "command in progress", when=ECMDS),
    ),
    register(
        "ECCAP3",
        0x448,
        64,
        "§1.16",
        "Enhanced commands from 192 on",
        field("53", "UFCNTS", RO, "unfreeze all counters", when=ECMDS),
        field("52", "FCNTS", RO, "freeze all counters", when=ECMDS),
        field("49", "DCNTS", RO, "disable a counter", when=ECMDS),
        field("48", "ECNTS", RO, "enable a counter", when=ECMDS),
    ),
)

COUNTERS: tuple[Register, ...] = (
    register(
        "CNTR",
        PERFORMANCE_OFFSET,
        64,
        "§1.15",
        "Performance counters, read as QWORDs",
        field(f"{COUNTER_BITS - 1}:0", "CNT", RO, "number of events; PERFCAP.CW bits", when=PMS),
        array=True,
        length=MONITORS,
        stride=0x400,
    ),
    *(
        register(
            f"CNTRCFG{counter}",
            PERFORMANCE_OFFSET + 0x100 * (counter + 1),
            64,
            "§1.15",
            f"Configuration of counter {counter}, locked while it is enabled",
            field("59:32", "ES", RW, "events of the group that are counted", when=PMS),
            field("11:8", "EGI", RW, "event group", when=PMS),
            field("2", "GFO", RW, "freeze on overflow, which this unit cannot", when=PMS),
            field("1", "IO", RW, "interrupt on overflow", when=PMS),
            field("0", "EN", RO, "enabled", when=PMS),
            lockable=True,
        )
        for counter in range(MONITORS)
    ),
    register(
        "FRZSTS",
        PERFORMANCE_OFFSET + 0x300,
        64,
        "§1.15",
        "Which counters are frozen",
        field(f"{MONITORS - 1}:0", "FRZ", RO, "a bit for each", when=PMS),
    ),
    register(
        "OVFSTS",
        PERFORMANCE_OFFSET + 0x308,
        64,
        "§1.15",
        "Which counters have passed their largest value",
        *(
            field(f"{counter}", f"OVF{counter}", RW1C, f"counter {counter}", when=PMS)
            for counter in reversed(range(MONITORS))
        ),
    ),
)
