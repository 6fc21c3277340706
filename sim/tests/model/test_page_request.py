"""Acceptance of page requests by the golden model (§7.1, §4)."""

from random import Random

import pytest

from nestwalk_sim.builders import HostSpace, ScalableTables, change_entry, first_stage_fields, pass_through_fields
from nestwalk_sim.builders.page_requesters import random_page_requesters, table_conditions
from nestwalk_sim.builders.paging import FirstStageTables
from nestwalk_sim.memory import Memory
from nestwalk_sim.model import (
    FAULT_CONDITIONS,
    ModelConfig,
    PageRequest,
    Structure,
    UnitState,
    accept_page_request,
    page_request_conditions,
)

CONFIG = ModelConfig()
SID = 0x0288
PASID = 70


class Platform:
    """A device that may ask for pages, first-stage translation under `PASID` and pass-through without."""

    def __init__(self):
        self.memory = Memory()
        space = HostSpace(self.memory)
        self.tables = ScalableTables(space)
        self.tables.add_device(SID, PASIDE=1, DTE=1, PRE=1, RID_PASID=5)
        self.tables.add_pasid(SID, 5, DID=0x55, **pass_through_fields())
        self.tables.add_pasid(SID, PASID, DID=0x77, **first_stage_fields(FirstStageTables(space, 4)))

    def context(self, **fields: int) -> None:
        change_entry(self.memory, Structure.SCALABLE_CONTEXT, self.tables.context_entry_address(SID), **fields)

    def ask(self, pasid: int | None = PASID, state: UnitState | None = None, **attributes):
        values = {"read": True, "write": False, "last": True, "group": 3} | attributes
        request = PageRequest(SID, pasid, 0x1234_5000, **values)
        return accept_page_request(self.memory, state or self.tables.state, CONFIG, request)


def test_every_condition_of_the_tables_with_and_without_pasid(rng: Random):
    seen = set()
    for _ in range(3):
        memory = Memory()
        tables = ScalableTables(HostSpace(memory, CONFIG.haw, rng))
        for device in random_page_requesters(rng, CONFIG, tables, sane=40, faulty=80):
            request = device.request(rng, group=0, last=True)
            verdict = accept_page_request(memory, tables.state, CONFIG, request)
            assert verdict.fault_condition == device.condition, device
            assert verdict.accepted == (device.condition is None)
            assert verdict.recorded or verdict.accepted or FAULT_CONDITIONS[device.condition or ""].qualified
            seen.add((device.condition, device.pasid is not None))
    of_pasid = {"SCT.6", "SCT.7", "SCT.9"}
    wanted = {(condition, True) for condition in table_conditions(CONFIG) | {None}}
    assert seen == wanted | {(condition, False) for condition, _ in wanted if condition not in of_pasid}


def test_conditions_of_the_root_table_address():
    platform = Platform()
    root = platform.tables.state.root_table
    for mode, condition in ((0, "RTA.3"), (2, "RTA.1.2"), (3, "RTA.1.1")):
        verdict = platform.ask(state=UnitState(True, root, mode))
        assert (verdict.accepted, verdict.fault_condition, verdict.recorded) == (False, condition, True)
    assert platform.ask(state=UnitState(True, 0x7777_0000, 1)).fault_condition == "SRT.1"
    disabled = platform.ask(state=UnitState(False, root, 1))
    assert (disabled.accepted, disabled.fault, disabled.recorded) == (False, None, False)
    known = table_conditions(CONFIG) | {"RTA.3", "RTA.1.2", "RTA.1.1", "SRT.1"}
    assert page_request_conditions(CONFIG) == known


def test_accepted_requests_tell_what_to_invalidate():
    platform = Platform()
    with_pasid, without = platform.ask(), platform.ask(None)
    assert (with_pasid.pasid, with_pasid.domain_id, with_pasid.translation_type) == (PASID, 0x77, 1)
    assert (without.pasid, without.domain_id, without.translation_type) == (5, 0x55, 4)
    assert len(with_pasid.accesses) == 4


def test_neither_privilege_nor_execution_matters():
    assert Platform().ask(privileged=True, execute=True).accepted


def test_order_of_the_gates():
    platform = Platform()
    platform.context(PASIDE=0, PRE=0)
    assert platform.ask().fault_condition == "SCT.6"
    platform.context(PASIDE=1)
    assert platform.ask(1 << 13).fault_condition == "SCT.8"
    platform.context(PRE=1)
    assert platform.ask(1 << 13).fault_condition == "SCT.7"
    assert platform.ask(5).fault_condition == "SCT.9"


@pytest.mark.parametrize("structure", ["context", "directory", "pasid"])
def test_fpd_suppresses_the_record_of_what_follows(structure: str):
    platform = Platform()
    tables = platform.tables
    place, kind = {
        "context": (tables.context_entry_address(SID), Structure.SCALABLE_CONTEXT),
        "directory": (tables.directory_entry_address(SID, PASID), Structure.PASID_DIRECTORY),
        "pasid": (tables.pasid_entry_address(SID, PASID), Structure.PASID_TABLE),
    }[structure]
    change_entry(platform.memory, Structure.PASID_TABLE, tables.pasid_entry_address(SID, PASID), P=0)
    assert platform.ask().recorded
    change_entry(platform.memory, kind, place, FPD=1)
    verdict = platform.ask()
    assert (verdict.fault_condition, verdict.recorded) == ("SPT.2", False)


def test_stop_markers_want_no_response():
    def wanted(pasid: int | None, **attributes) -> bool:
        return PageRequest(SID, pasid, 0, group=1, **attributes).wants_response

    assert wanted(PASID, read=True, write=False, last=True)
    assert not wanted(PASID, read=True, write=False, last=False)
    assert not wanted(PASID, read=False, write=False, last=True)
    assert wanted(None, read=False, write=False, last=True)
