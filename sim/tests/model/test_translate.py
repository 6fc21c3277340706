"""Directed translations: the rows of §11 that requests can show, and the rules that no capture shows."""

from dataclasses import dataclass, field

import pytest

from nestwalk_sim.builders import (
    FirstStageTables,
    GuestSpace,
    HostSpace,
    LegacyTables,
    ScalableTables,
    SecondStageTables,
    change_entry,
    first_stage_fields,
    nested_fields,
    pass_through_fields,
    second_stage_fields,
)
from nestwalk_sim.memory import Memory
from nestwalk_sim.model import (
    Access,
    AccessKind,
    AddressType,
    Mode,
    ModelConfig,
    Request,
    Structure,
    UnitState,
    translate,
)

SID = 0x0128
PASID = 70
INPUT = 0x1234_5678_9ABC
GUEST = 0x12_3456_7000
HOST = 0x9_8765_4000


@dataclass
class Platform:
    """A device whose page at INPUT lies at HOST in every mode: the second stage maps it too, as GUEST under nesting."""

    mode: Mode = Mode.SECOND_STAGE
    config: ModelConfig = field(default_factory=ModelConfig)
    leaf: dict = field(default_factory=dict)

    def __post_init__(self):
        self.memory = Memory()
        space = HostSpace(self.memory)
        self.tables = ScalableTables(space)
        self.tables.add_device(SID, PASIDE=1)
        self.second = SecondStageTables(space, 4)
        page = INPUT & ~0xFFF
        if self.mode is Mode.NESTED:
            self.first = FirstStageTables(GuestSpace(self.second, 48), 4)
            self.first.map(page, GUEST)
            self.second.map(GUEST, HOST, **self.leaf)
            fields = nested_fields(self.first, self.second)
        elif self.mode is Mode.FIRST_STAGE:
            self.first = FirstStageTables(space, 4)
            self.first.map(page, HOST, **self.leaf)
            fields = first_stage_fields(self.first)
        elif self.mode is Mode.SECOND_STAGE:
            self.second.map(page, HOST, **self.leaf)
            fields = second_stage_fields(self.second)
        else:
            fields = pass_through_fields()
        self.tables.add_pasid(SID, 0, **fields)
        self.tables.add_pasid(SID, PASID, **fields)

    def change(self, structure: Structure, **fields: int) -> None:
        place = {
            Structure.SCALABLE_ROOT: lambda: self.tables.root_entry_address(SID),
            Structure.SCALABLE_CONTEXT: lambda: self.tables.context_entry_address(SID),
            Structure.PASID_DIRECTORY: lambda: self.tables.directory_entry_address(SID, PASID),
            Structure.PASID_TABLE: lambda: self.tables.pasid_entry_address(SID, PASID),
        }[structure]()
        change_entry(self.memory, structure, place, **fields)

    def ask(self, access=Access.READ, pasid: int | None = PASID, address: int = INPUT, **attributes):
        request = Request(SID, pasid, address, access, **attributes)
        return translate(self.memory, self.tables.state, self.config, request)


def expect_fault(result, condition: str, code: int, recorded: bool = True) -> None:
    found = (result.granted, result.fault_condition, result.fault, result.recorded)
    assert found == (False, condition, code, recorded)


def test_01_root_half_not_present_is_recorded_always():
    platform = Platform()
    platform.change(Structure.SCALABLE_CONTEXT, FPD=1)
    platform.change(Structure.SCALABLE_ROOT, LP=0, UP=1)
    expect_fault(platform.ask(), "SRT.2", 0x39)


def test_02_context_not_present_with_fpd_is_not_recorded():
    platform = Platform()
    platform.change(Structure.SCALABLE_CONTEXT, P=0, FPD=1)
    expect_fault(platform.ask(), "SCT.2", 0x41, recorded=False)


def test_03_reserved_bit_of_the_pasid_directory():
    platform = Platform()
    directory = platform.tables.directory_entry_address(SID, PASID)
    platform.memory.write64(directory, platform.memory.read64(directory) | 4)
    expect_fault(platform.ask(), "SPD.3", 0x52)


def test_04_and_05_pasids_that_the_context_entry_refuses():
    platform = Platform()
    expect_fault(platform.ask(pasid=1 << 13), "SCT.7", 0x46)
    expect_fault(platform.ask(pasid=0), "SCT.9", 0x48)
    platform.change(Structure.SCALABLE_CONTEXT, PASIDE=0)
    expect_fault(platform.ask(), "SCT.6", 0x45)
    assert platform.ask(pasid=None).granted


def test_06_nested_type_without_nesting():
    platform = Platform(Mode.NESTED, ModelConfig(nested=False))
    expect_fault(platform.ask(), "SPT.4.2", 0x5B)


def test_07_first_stage_input_must_be_canonical():
    platform = Platform(Mode.FIRST_STAGE)
    expect_fault(platform.ask(address=INPUT | 1 << 47), "SGN.1", 0x80)
    assert platform.ask(address=INPUT | 1 << 47).accesses[-1].structure is Structure.PASID_TABLE


def test_08_bit_7_of_the_top_level_is_reserved():
    platform = Platform(Mode.FIRST_STAGE)
    platform.first.flip(platform.first.path(INPUT)[0], 7)
    expect_fault(platform.ask(), "SFS.3", 0x72)


def test_09_bit_11_of_a_second_stage_table_entry_is_reserved():
    platform = Platform()
    platform.second.flip(platform.second.path(INPUT)[1], 11)
    expect_fault(platform.ask(), "SSS.3", 0x7A)


@pytest.mark.parametrize("mode", [Mode.SECOND_STAGE, Mode.NESTED])
def test_10_zero_length_reads_of_write_only_pages_follow_zlr(mode):
    allowed = Platform(mode, leaf={"R": 0})
    assert allowed.ask(Access.ZERO_LENGTH_READ).granted
    expect_fault(allowed.ask(Access.READ), "SGN.7", 0x86)
    refused = Platform(mode, ModelConfig(zero_length_read=False), {"R": 0})
    expect_fault(refused.ask(Access.ZERO_LENGTH_READ), "SGN.7", 0x86)


@pytest.mark.parametrize("mode", [Mode.SECOND_STAGE, Mode.NESTED])
def test_11_and_12_second_stage_permissions(mode):
    expect_fault(Platform(mode, leaf={"W": 0}).ask(Access.WRITE), "SGN.6", 0x85)
    expect_fault(Platform(mode, leaf={"R": 0, "W": 0}).ask(), "SSS.2", 0x79)


def backing(platform: Platform, level: int):
    """The second-stage leaf that maps the first-stage entry of a level."""
    place = platform.first.path(INPUT)[4 - level]
    return platform.second.path(place.address)[-1]


def test_13_tables_that_the_second_stage_does_not_let_read():
    for level, condition, code in ((4, "SFS.6", 0x75), (3, "SFS.7", 0x76), (1, "SFS.7", 0x76)):
        platform = Platform(Mode.NESTED)
        platform.second.set_fields(backing(platform, level), R=0)
        expect_fault(platform.ask(), condition, code)


def test_14_an_update_of_a_table_that_the_second_stage_does_not_let_write():
    platform = Platform(Mode.NESTED)
    platform.second.set_fields(backing(platform, 2), W=0)
    assert platform.ask().granted
    platform.first.set_fields(platform.first.path(INPUT)[2], A=0)
    expect_fault(platform.ask(), "SFS.8", 0x77)


def test_15_second_stage_accessed_bits_make_table_reads_need_write_permission():
    platform = Platform(Mode.NESTED, ModelConfig(second_stage_accessed_dirty=True))
    platform.change(Structure.PASID_TABLE, SSADE=1)
    platform.second.set_fields(backing(platform, 3), W=0)
    expect_fault(platform.ask(), "SFS.7", 0x76)
    platform.second.set_fields(backing(platform, 4), W=0)
    expect_fault(platform.ask(), "SFS.6", 0x75)


@pytest.mark.parametrize("mode", [Mode.FIRST_STAGE, Mode.SECOND_STAGE, Mode.NESTED])
def test_16_outputs_in_the_interrupt_range_are_blocked(mode):
    platform = Platform(mode)
    tables, address = (platform.second, GUEST) if mode is Mode.NESTED else (None, INPUT)
    tables = tables or (platform.first if mode is Mode.FIRST_STAGE else platform.second)
    tables.set_fields(tables.path(address)[-1], ADDR=0xFEE0_1000)
    expect_fault(platform.ask(Access.WRITE, one_dword=True), "SGN.8.1", 0x87)


def test_requests_to_the_interrupt_range():
    platform = Platform(Mode.PASS_THROUGH)
    address = 0xFEE0_0014
    interrupt = platform.ask(Access.WRITE, None, address, one_dword=True)
    assert (interrupt.granted, interrupt.address, interrupt.accesses) == (True, address, [])
    assert platform.ask(Access.ZERO_LENGTH_READ, None, address).granted
    for access in (Access.READ, Access.WRITE, Access.ATOMIC):
        expect_fault(platform.ask(access, None, address), "INT.1", 0x29)
    expect_fault(platform.ask(Access.WRITE, PASID, address, one_dword=True), "SGN.8.1", 0x87)


def test_pass_through_ends_at_the_host_width():
    platform = Platform(Mode.PASS_THROUGH)
    last = (1 << 52) - 1
    result = platform.ask(Access.WRITE, address=last)
    assert (result.granted, result.address, result.page_size) == (True, last, 0)
    expect_fault(platform.ask(address=last + 1), "SGN.4.2", 0x83)


def test_privilege_and_execute_count_with_pasid_only():
    platform = Platform(Mode.FIRST_STAGE, leaf={"RW": 0, "US": 0})
    expect_fault(platform.ask(privileged=True), "SPT.6", 0x5D)
    platform.change(Structure.PASID_TABLE, SRE=1)
    assert platform.ask(privileged=True).granted
    assert platform.ask(Access.WRITE, privileged=True).granted
    expect_fault(platform.ask(), "SGN.2", 0x81)
    expect_fault(platform.ask(Access.WRITE), "SGN.2", 0x81)
    expect_fault(platform.ask(pasid=None, privileged=True, execute=True), "SGN.2", 0x81)
    platform.change(Structure.PASID_TABLE, WPE=1)
    expect_fault(platform.ask(Access.WRITE, privileged=True), "SGN.6", 0x85)
    expect_fault(platform.ask(execute=True), "SPT.5", 0x5C)
    platform.config = ModelConfig(version_major=8)
    expect_fault(platform.ask(execute=True), "RTA.5", 0x34)


def test_atomic_operations_need_both_permissions():
    assert Platform().ask(Access.ATOMIC).granted
    expect_fault(Platform(leaf={"W": 0}).ask(Access.ATOMIC), "SGN.6", 0x85)
    expect_fault(Platform(leaf={"R": 0}).ask(Access.ATOMIC), "SGN.7", 0x86)
    assert Platform(leaf={"R": 0}).ask(Access.WRITE).granted


def test_root_table_address_decides_before_any_table():
    memory, config = Memory(), ModelConfig()
    request = Request(SID, PASID, INPUT)
    cases = [
        (UnitState(True, 0x1000, 2), config, "RTA.1.2", 0x30),
        (UnitState(True, 0x1000, 3), config, "RTA.1.1", 0x30),
        (UnitState(True, 0x1000, 3), ModelConfig(abort_dma=True), "RTA.4", 0x33),
        (UnitState(True, 0x1000, 1), ModelConfig(scalable_mode=False), "RTA.1.3", 0x30),
        (UnitState(True, 0x1000, 0), config, "RTA.2", 0x31),
    ]
    for state, announced, condition, code in cases:
        result = translate(memory, state, announced, request)
        expect_fault(result, condition, code)
        assert result.accesses == []
    assert translate(memory, UnitState(False, 0, 3), config, request).address == INPUT


def test_state_comes_from_the_root_table_address_register():
    assert UnitState.from_register(0x1_4094_8400) == UnitState(True, 0x1_4094_8000, 1)


def legacy_platform(levels: int = 3, **leaf: int):
    memory = Memory()
    space = HostSpace(memory)
    tables = LegacyTables(space)
    second = SecondStageTables(space, levels)
    second.map(GUEST, HOST, **leaf)
    tables.add_device(SID, second)
    tables.add_device(SID + 1, None, AW=3)

    def ask(access: Access, address: int = GUEST, source_id: int = SID):
        return translate(memory, tables.state, ModelConfig(), Request(source_id, None, address, access))

    return second, ask


def test_legacy_permissions_are_lost_level_by_level():
    second, ask = legacy_platform(W=0)
    assert ask(Access.READ).address == HOST
    expect_fault(ask(Access.WRITE), "LGN.2", 0x05)
    second.set_fields(second.path(GUEST)[0], R=0)
    result = ask(Access.READ)
    expect_fault(result, "LGN.3", 0x06)
    assert len(result.accesses) == 3
    second.set_fields(second.path(GUEST)[0], W=0)
    expect_fault(ask(Access.ATOMIC), "LGN.2", 0x05)


def test_legacy_widths_and_pass_through():
    _, ask = legacy_platform()
    expect_fault(ask(Access.READ, 1 << 39), "LGN.1.1", 0x04)
    assert ask(Access.WRITE, 1 << 39, SID + 1).address == 1 << 39
    expect_fault(ask(Access.READ, 1 << 52, SID + 1), "LGN.1.3", 0x04)
    expect_fault(ask(Access.READ, GUEST, SID + 2), "LCT.2", 0x02)
    expect_fault(ask(Access.READ, GUEST, 0x0328), "LRT.2", 0x01)


def test_accesses_of_a_nested_walk_come_in_order():
    platform = Platform(Mode.NESTED)
    reads = [(access.structure, access.level, access.size) for access in platform.ask().accesses]
    second = [(Structure.SECOND_STAGE, level, 8) for level in (4, 3, 2, 1)]
    expected = [
        (Structure.SCALABLE_ROOT, 0, 16),
        (Structure.SCALABLE_CONTEXT, 0, 32),
        (Structure.PASID_DIRECTORY, 0, 8),
        (Structure.PASID_TABLE, 0, 64),
    ]
    for level in (4, 3, 2, 1):
        expected += [*second, (Structure.FIRST_STAGE, level, 8)]
    assert reads == expected + second
    addresses = [access.address for access in platform.ask().accesses if access.structure is Structure.FIRST_STAGE]
    assert addresses == [place.host for place in platform.first.path(INPUT)]


def test_only_untranslated_requests_are_answered():
    with pytest.raises(ValueError, match="TRANSLATED"):
        Platform().ask(address_type=AddressType.TRANSLATED)


def test_failed_reads_are_listed():
    platform = Platform()
    platform.change(Structure.PASID_DIRECTORY, SMPTBLPTR=0xDEAD_0000)
    result = platform.ask()
    expect_fault(result, "SPT.1", 0x58)
    last = result.accesses[-1]
    assert (last.kind, last.failed, last.address) == (AccessKind.READ, True, 0xDEAD_0000 + 64 * (PASID & 63))
