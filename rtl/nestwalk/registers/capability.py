"""What a configuration announces in VER, CAP, ECAP (§1.2 to §1.4) and IMPCAP. Plain integers, no hardware."""

from ..config import IommuConfig
from ..counters.counters import MONITORS
from ..counters.events import EVENTS
from ..counters.monitored import EVENT_GROUPS, monitored_events
from .description import Field
from .table import FAULT_RECORD_OFFSET, IOTLB_OFFSET, REGISTERS

__all__ = [
    "capability",
    "constants",
    "extended_capability",
    "implementation_capability",
    "is_announced",
    "performance_capabilities",
    "version",
    "virtual_command_capability",
]


def version(cfg: IommuConfig) -> int:
    """Value of VER (32 bits)."""
    return REGISTERS["VER"].pack({"MAX": cfg.version_major})


def capability(cfg: IommuConfig) -> int:
    """Value of CAP (64 bits). Fields that are not listed are announced 0."""
    return REGISTERS["CAP"].pack(
        {
            "ESRTPS": 1,
            "ECMDS": cfg.performance_monitoring,
            "FS5LP": cfg.first_stage_5_level,
            "FS1GP": cfg.first_stage_1g,
            "DRD": 1,
            "DWD": 1,
            "MAMV": cfg.max_address_mask,
            "NFR": cfg.fault_records - 1,
            "PSI": 1,
            "SSLPS": cfg.second_stage_2m | cfg.second_stage_1g << 1,
            "FRO": FAULT_RECORD_OFFSET // 16,
            "ZLR": cfg.zero_length_read,
            "MGAW": cfg.mgaw - 1,
            "SAGAW": cfg.sagaw,
            "ND": (cfg.domain_bits - 4) // 2,
        }
    )


def extended_capability(cfg: IommuConfig) -> int:
    """Value of ECAP (64 bits). Fields that are not listed are announced 0."""
    return REGISTERS["ECAP"].pack(
        {
            "PMS": cfg.performance_monitoring,
            "RPS": cfg.rid_pasid,
            "SMPWCS": cfg.page_walk_snoop,
            "FSTS": cfg.first_stage,
            "SSTS": cfg.second_stage,
            "SSADS": cfg.second_stage_accessed_dirty,
            "VCS": cfg.virtual_command_pasids != 0,
            "SMTS": cfg.scalable_mode,
            "PDS": cfg.page_requests,
            "PASID": cfg.scalable_mode,
            "PSS": cfg.pasid_bits - 1 if cfg.scalable_mode else 0,
            "EAFS": cfg.extended_accessed,
            "SRS": cfg.supervisor_requests,
            "PRS": cfg.page_requests,
            "NEST": cfg.nested,
            "IRO": IOTLB_OFFSET // 16,
            "SC": cfg.snoop_control,
            "PT": cfg.pass_through,
            "DT": cfg.device_tlb,
            "QI": 1,
            "C": 1,
        }
    )


def virtual_command_capability(cfg: IommuConfig) -> int:
    """Value of VCCAP (64 bits): PASIDs are allocated and freed, the null command is none."""
    there = cfg.virtual_command_pasids != 0
    return REGISTERS["VCCAP"].pack({"FPS": there, "PAS": there})


def performance_capabilities(cfg: IommuConfig) -> dict[str, int]:
    """Values of PERFCAP, the offsets behind it, PERFEVNTCAP and ECCAP3; none without performance monitoring.

    There are no filters, and software cannot write the counters.
    """
    if not cfg.performance_monitoring:
        return {}
    counting = {"IOS": 1, "EGCNT": EVENT_GROUPS, "CW": cfg.performance_counter_bits, "NCNTR": MONITORS}
    values = {"PERFCAP": REGISTERS["PERFCAP"].pack(counting)}
    for name, register in (("CFG", "CNTRCFG0"), ("FRZ", "FRZSTS"), ("OVF", "OVFSTS"), ("CNTR", "CNTR")):
        values[f"PERF{name}OFF"] = REGISTERS[register].offset
    for group in range(EVENT_GROUPS):
        bits = sum(1 << event.bit for event in monitored_events(cfg) if event.group == group)
        values[f"PERFEVNTCAP{group}"] = bits
    values["ECCAP3"] = REGISTERS["ECCAP3"].pack({"ECNTS": 1, "DCNTS": 1, "FCNTS": 1, "UFCNTS": 1})
    return values


def constants(cfg: IommuConfig) -> dict[str, int]:
    """Values of all registers that never change, by their names."""
    return {
        "VER": version(cfg),
        "CAP": capability(cfg),
        "ECAP": extended_capability(cfg),
        "IMPCAP": implementation_capability(cfg),
        "VCCAP": virtual_command_capability(cfg),
        **performance_capabilities(cfg),
    }


def implementation_capability(cfg: IommuConfig) -> int:
    """Value of IMPCAP (64 bits)."""
    return REGISTERS["IMPCAP"].pack(
        {
            "NEC": len(EVENTS) if cfg.counters else 0,
            "NWS": cfg.walk_slots - 1,
            "ECS": cfg.counters,
            "CPS": cfg.partitioning,
            "WLS": cfg.walk_slot_limit,
            "PFS": cfg.prefetch_streams != 0,
        }
    )


def is_announced(cfg: IommuConfig, field: Field) -> bool:
    """Whether ``field`` exists under ``cfg``: the capability in its ``when`` (like ``ECAP.DT``) is not 0."""
    if not field.when:
        return True
    register, _, name = field.when.partition(".")
    values = {"CAP": capability, "ECAP": extended_capability, "IMPCAP": implementation_capability}
    return REGISTERS[register].by_name[name].extract(values[register](cfg)) != 0
