"""The register table, the capabilities and the document made from them."""

from pathlib import Path

import pytest

from nestwalk.config import PRESETS, IommuConfig
from nestwalk.registers.capability import capability, extended_capability, version
from nestwalk.registers.description import Attribute, Field, Register
from nestwalk.registers.document import render
from nestwalk.registers.table import REGISTERS

DEFAULT = PRESETS["DEFAULT"]

OFFSETS = """
000 VER 008 CAP 010 ECAP 018 GCMD 01C GSTS 020 RTADDR 028 CCMD 034 FSTS 038 FECTL 03C FEDATA 040 FEADDR 044 FEUADDR
080 IQH 088 IQT 090 IQA 09C ICS 0A0 IECTL 0A4 IEDATA 0A8 IEADDR 0AC IEUADDR 0B0 IQERCD
0C0 PQH 0C8 PQT 0D0 PQA 0DC PRS 0E0 PECTL 0E4 PEDATA 0E8 PEADDR 0EC PEUADDR 0F0 IVA 0F8 IOTLB 500 FRCD
300 PERFCAP 310 PERFCFGOFF 314 PERFFRZOFF 318 PERFOVFOFF 31C PERFCNTROFF 324 PERFINTRSTS 328 PERFINTRCTL
32C PERFINTRDATA 330 PERFINTRADDR 334 PERFINTRUADDR 380 PERFEVNTCAP0 388 PERFEVNTCAP1 390 PERFEVNTCAP2 398 PERFEVNTCAP3
400 ECMD 408 ECEO 410 ECRSP 448 ECCAP3 800 CNTR 900 CNTRCFG0 A00 CNTRCFG1 B00 FRZSTS B08 OVFSTS
C08 IMPCAP C10 IMPCTL C18 CPW C40 EVCNT E00 VCMD E08 VCMD_EO E10 VCRSP E30 VCCAP
"""

FIELDS = """
GCMD.TE 31 31 GCMD.SRTP 30 30 GCMD.QIE 26 26 GSTS.TES 31 31 GSTS.RTPS 30 30 GSTS.QIES 26 26 RTADDR.RTA 63 12
RTADDR.TTM 11 10 CCMD.ICC 63 63 CCMD.CIRG 62 61 CCMD.CAIG 60 59 CCMD.FM 33 32 CCMD.SID 31 16 CCMD.DID 15 0 FSTS.FRI 15 8
FSTS.ITE 6 6 FSTS.ICE 5 5 FSTS.IQE 4 4 FSTS.PPF 1 1 FSTS.PFO 0 0 FECTL.IM 31 31 FECTL.IP 30 30 FEDATA.IMD 15 0
FEADDR.MA 31 2 FEUADDR.MUA 31 0 IQH.QH 18 4 IQT.QT 18 4 IQA.IQA 63 12 IQA.DW 11 11 IQA.QS 2 0 ICS.IWC 0 0
IQERCD.ICESID 63 48 IQERCD.ITESID 47 32 IQERCD.IQEI 3 0 PQH.PQH 18 5 PQT.PQT 18 5
PQA.PQA 63 12 PQA.PQS 2 0 PRS.PRO 1 1 PRS.PPR 0 0 PECTL.IM 31 31 PECTL.IP 30 30 PEDATA.IMD 15 0 PEADDR.MA 31 2
PEUADDR.MUA 31 0 IVA.ADDR 63 12 IVA.IH 6 6 IVA.AM 5 0 IOTLB.IVT 63 63
IOTLB.IIRG 61 60 IOTLB.IAIG 58 57 IOTLB.DR 49 49 IOTLB.DW 48 48 IOTLB.DID 47 32 FRCD.F 127 127 FRCD.T1 126 126
FRCD.AT 125 124 FRCD.PV 123 104 FRCD.FR 103 96 FRCD.PP 95 95 FRCD.EXE 94 94 FRCD.PRIV 93 93 FRCD.T2 92 92
FRCD.SID 79 64 FRCD.FI 63 12 VCMD.OA 63 16 VCMD.CMD 7 0 VCMD_EO.OB 63 0 VCRSP.RSLT 63 16 VCRSP.SC 7 1 VCRSP.IP 0 0
VCCAP.FPS 2 2 VCCAP.PAS 1 1 VCCAP.NS 0 0 PERFCAP.CS 54 52 PERFCAP.PCCS 51 51 PERFCAP.IOS 50 50 PERFCAP.GFS 49 49
PERFCAP.CWE 48 48 PERFCAP.PTLFS 36 36 PERFCAP.ATFS 35 35 PERFCAP.PASIDFS 34 34 PERFCAP.DIDFS 33 33 PERFCAP.RIDFS 32 32
PERFCAP.EGCNT 28 24 PERFCAP.CW 22 16 PERFCAP.NCNTR 15 0 PERFINTRSTS.PIS 0 0 PERFEVNTCAP0.ES 27 0 ECMD.OA 63 16
ECMD.CMD 7 0 ECRSP.SC 7 1 ECRSP.IP 0 0 ECCAP3.ECNTS 48 48 ECCAP3.DCNTS 49 49 ECCAP3.FCNTS 52 52 ECCAP3.UFCNTS 53 53
CNTRCFG0.ES 59 32 CNTRCFG0.EGI 11 8 CNTRCFG1.GFO 2 2 CNTRCFG1.IO 1 1 CNTRCFG1.EN 0 0
"""


def test_registers_are_where_the_specification_has_them():
    words = OFFSETS.split()
    assert {name: int(offset, 16) for offset, name in zip(words[::2], words[1::2], strict=True)} == {
        register.name: register.offset for register in REGISTERS.values()
    }
    words = FIELDS.split()
    for name, high, low in zip(words[::3], words[1::3], words[2::3], strict=True):
        register, field = name.split(".")
        found = REGISTERS[register].by_name[field]
        assert (name, found.high, found.low) == (name, int(high), int(low))


def test_registers_do_not_overlap():
    taken = set()
    for register in REGISTERS.values():
        for instance in range(register.count(fault_records=8)):
            start = register.place(instance)
            taken_here = set(range(start, start + register.width // 8))
            assert not taken_here & taken, register.name
            taken |= taken_here


FAULT_RECORDS_ELSEWHERE = (0x50 - 0x22) << 24
"""FRO: the examples have the records at 220h, this unit at 500h."""


def test_announced_capabilities_are_the_worked_examples():
    """The images of §9.2, which a Linux driver accepts."""
    usual = DEFAULT.replace(performance_monitoring=False)
    assert capability(DEFAULT) ^ capability(usual) == 1 << 61
    assert extended_capability(DEFAULT) ^ extended_capability(usual) == 1 << 51
    levels = usual.replace(second_stage_levels=frozenset({4, 5}))
    assert capability(levels) == 0x91D2_078C_2278_0C06 + FAULT_RECORDS_ELSEWHERE
    four = usual.replace(second_stage_levels=frozenset({4}), haw=48, mgaw=48, first_stage_5_level=False)
    assert capability(four) == 0x81D2_078C_226F_0406 + FAULT_RECORDS_ELSEWHERE
    plain = usual.replace(device_tlb=False, page_requests=False, nested=False)
    assert extended_capability(plain) == 0x0003_C998_8000_0FC3
    # All but NWFS, SSADS and ADMS of the full example.
    assert extended_capability(usual) == 0x0013_ED9A_A400_0FC7 & ~(1 << 33 | 1 << 45 | 1 << 52)
    legacy = IommuConfig(
        scalable_mode=False, first_stage=False, nested=False, first_stage_5_level=False, first_stage_1g=False,
        page_walk_snoop=False, supervisor_requests=False, rid_pasid=False, page_requests=False,
        performance_monitoring=False,
    )  # fmt: skip
    assert extended_capability(legacy) == 1 << 46 | 0x0FC7
    assert (version(DEFAULT), version(PRESETS["TINY"])) == (0x50, 0x60)


def test_a_wrong_table_is_refused():
    def field(name, high, low, **more):
        return Field(name=name, high=high, low=low, attribute=Attribute.RW, description="", **more)

    def register(*fields, offset=0):
        return Register(name="R", offset=offset, width=32, section="", description="", fields=fields)

    assert register(field("A", 3, 0), field("B", 7, 4)).pack({"A": 5, "B": 10}) == 0xA5
    with pytest.raises(ValueError, match="field B does not fit R"):
        register(field("A", 3, 0), field("B", 4, 3))
    with pytest.raises(ValueError, match="not aligned"):
        register(offset=2)
    with pytest.raises(ValueError, match="cannot reset to 0x10"):
        field("A", 3, 0, reset=16)
    with pytest.raises(ValueError, match="R has no field C"):
        register(field("A", 3, 0)).pack({"C": 1})
    with pytest.raises(ValueError, match=r"0x10 does not fit R\.A of 4 bits"):
        register(field("A", 3, 0)).pack({"A": 16})


def test_the_document_is_current():
    document = Path(__file__).parents[3] / "docs" / "registers.md"
    assert document.read_text(encoding="utf-8") == render(), (
        "run: python -m nestwalk.registers.document > docs/registers.md"
    )
