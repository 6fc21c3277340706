"""Accessed and dirty bits in memory (§3.8)."""

import pytest

from nestwalk_sim.builders import (
    FirstStageTables,
    GuestSpace,
    HostSpace,
    ScalableTables,
    SecondStageTables,
    nested_fields,
)
from nestwalk_sim.memory import ErrorKind, Memory
from nestwalk_sim.model import Access, AccessKind, ModelConfig, Request, Structure, translate

SID, PASID = 0x10, 5
INPUT, GUEST, HOST = 0x4000_0000_3000, 0x8000_5000, 0x6000_7000
FIRST_A, FIRST_D, FIRST_EA = 0x20, 0x40, 0x400
SECOND_A, SECOND_D = 0x100, 0x200
CONFIG = ModelConfig(second_stage_accessed_dirty=True, extended_accessed=True)


class Nested:
    """A nested page without any accessed or dirty bit."""

    def __init__(self, **entry: int):
        self.memory = Memory()
        space = HostSpace(self.memory)
        tables = ScalableTables(space)
        self.state = tables.state
        self.second = SecondStageTables(space, 4)
        self.first = FirstStageTables(GuestSpace(self.second, 48), 4)
        self.first.map(INPUT, GUEST)
        self.second.map(GUEST, HOST)
        for place in self.first.path(INPUT):
            self.first.set_fields(place, A=0, D=0)
        tables.add_device(SID, PASIDE=1)
        tables.add_pasid(SID, PASID, **nested_fields(self.first, self.second) | entry)

    def ask(self, access: Access = Access.READ, config: ModelConfig = CONFIG, updating: bool = True):
        return translate(self.memory, self.state, config, Request(SID, PASID, INPUT, access), updating=updating)

    def first_bits(self, mask: int = FIRST_A | FIRST_D | FIRST_EA) -> list[int]:
        return [self.memory.read64(place.host) & mask for place in self.first.path(INPUT)]

    def second_bits(self, address: int) -> list[int]:
        return [self.memory.read64(place.host) & (SECOND_A | SECOND_D) for place in self.second.path(address)]


def updates(result):
    return [access for access in result.accesses if access.kind is AccessKind.UPDATE]


def test_a_read_sets_accessed_level_by_level_and_the_leaf_after_the_final_walk():
    platform = Nested()
    result = platform.ask()
    assert result.granted
    assert platform.first_bits() == [FIRST_A] * 4
    kinds = [(access.kind, access.structure, access.level) for access in result.accesses]
    upper = kinds.index((AccessKind.READ, Structure.FIRST_STAGE, 3))
    assert (AccessKind.UPDATE, Structure.FIRST_STAGE, 4) in kinds[:upper]
    assert kinds[-1] == (AccessKind.UPDATE, Structure.FIRST_STAGE, 1)
    assert kinds[-2] == (AccessKind.READ, Structure.SECOND_STAGE, 1)
    assert updates(platform.ask()) == []


def test_a_write_sets_accessed_and_dirty_of_the_leaf_at_once():
    platform = Nested()
    last = updates(platform.ask(Access.WRITE))[-1]
    assert (last.level, last.new_value ^ last.value) == (1, FIRST_A | FIRST_D)
    assert platform.first_bits() == [FIRST_A, FIRST_A, FIRST_A, FIRST_A | FIRST_D]
    assert platform.memory.read64(last.address) == last.new_value


def test_a_write_after_a_read_sets_dirty_alone():
    platform = Nested()
    platform.ask()
    assert [access.new_value ^ access.value for access in updates(platform.ask(Access.WRITE))] == [FIRST_D]


@pytest.mark.parametrize("denied", ["second stage", "interrupt range"])
def test_a_write_that_is_denied_at_the_end_leaves_the_leaf_alone(denied):
    platform = Nested()
    leaf = platform.second.path(GUEST)[-1]
    platform.second.set_fields(leaf, **({"W": 0} if denied == "second stage" else {"ADDR": 0xFEE0_0000}))
    assert platform.ask(Access.WRITE).fault in (0x85, 0x87)
    assert platform.first_bits() == [FIRST_A, FIRST_A, FIRST_A, 0]


def test_extended_accessed_is_set_with_accessed():
    platform = Nested(EAFE=1)
    platform.ask(Access.WRITE)
    both = FIRST_A | FIRST_EA
    assert platform.first_bits() == [both, both, both, both | FIRST_D]


def test_second_stage_bits_of_tables_and_of_the_final_page():
    platform = Nested(SSADE=1)
    platform.ask()
    assert platform.second_bits(GUEST) == [SECOND_A] * 4
    table = platform.first.path(INPUT)[0].address
    assert platform.second_bits(table) == [SECOND_A, SECOND_A, SECOND_A, SECOND_A | SECOND_D]
    last = updates(platform.ask(Access.WRITE))[-1]
    assert (last.structure, last.new_value ^ last.value) == (Structure.SECOND_STAGE, SECOND_D)


@pytest.mark.parametrize(
    ("entry", "config", "condition", "code"),
    [
        ({"PWSNP": 0}, CONFIG, "SFS.9", 0x90),
        ({"PWSNP": 0}, ModelConfig(page_walk_snoop=False), "SFS.9", 0x90),
        ({"PWSNP": 0, "SSADE": 1}, CONFIG, "SSS.5", 0x7C),
    ],
)
def test_a_walk_that_is_not_snooped_cannot_update(entry, config, condition, code):
    platform = Nested(**entry)
    before = platform.memory.image()
    result = platform.ask(config=config)
    assert (result.fault_condition, result.fault, updates(result)) == (condition, code, [])
    assert platform.memory.image() == before


@pytest.mark.parametrize(("entry", "condition", "code"), [({}, "SFS.10", 0x91), ({"SSADE": 1}, "SSS.6", 0x7D)])
def test_memory_that_cannot_update_is_a_fault(entry, condition, code):
    platform = Nested(**entry)
    tables = platform.second if entry else platform.first
    place = tables.path(platform.first.root if entry else INPUT)[0]
    platform.memory.inject_error(place.host, 8, ErrorKind.UPDATE)
    result = platform.ask()
    assert (result.fault_condition, result.fault) == (condition, code)
    assert updates(result)[-1].failed


def test_memory_stays_as_it_is_without_updating():
    platform = Nested(SSADE=1)
    before = platform.memory.image()
    told = updates(platform.ask(Access.WRITE, updating=False))
    assert platform.memory.image() == before
    assert {access.structure for access in told} == {Structure.FIRST_STAGE, Structure.SECOND_STAGE}
