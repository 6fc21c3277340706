"""The software unit's page requests as a driver and a device see them (§7)."""

from random import Random

import pytest

from nestwalk.config import IommuConfig
from nestwalk.registers.table import REGISTERS
from nestwalk_sim.builders import FirstStageTables, HostSpace, ScalableTables, change_entry, first_stage_fields
from nestwalk_sim.host.vtd.descriptors import PasidDeviceTlbInvalidate, Wait
from nestwalk_sim.model import PageRequest, PageResponse, Request, ResponseCode, Structure
from nestwalk_sim.model_unit import ModelTransport, ModelUnit

SID = 0x0510
PASID = 33
MAPPED, UNMAPPED = 0x4000_0000, 0x5000_0000
IQA, PQA, STATUS = 0x10_0000, 0x20_0000, 0x30_0000
SLOTS = 128


class Platform:
    """A unit at work with a device that may ask for pages of one address space."""

    def __init__(self, config: IommuConfig | None = None):
        self.transport = ModelTransport(1 << 22, config)
        self.unit = self.transport.unit
        self.memory = self.transport.memory
        space = HostSpace(self.memory, 52, Random(1))
        self.tables = ScalableTables(space)
        self.first = FirstStageTables(space, 4)
        self.first.map(MAPPED, 0x123_4000)
        self.tables.add_device(SID, PASIDE=1, DTE=1, PRE=1)
        self.tables.add_pasid(SID, PASID, DID=9, **first_stage_fields(self.first))
        self.write("RTADDR", RTA=self.tables.root >> 12, TTM=1)
        self.write("GCMD", SRTP=1)
        self.write("GCMD", TE=1)
        self.write("IQA", IQA=IQA >> 12, DW=1)
        self.write("GCMD", TE=1, QIE=1)
        self.write("PQA", PQA=PQA >> 12)
        self.tail = 0

    def write(self, name: str, **fields: int) -> None:
        register = REGISTERS[name]
        self.unit.write(register.offset, register.width // 8, register.pack(fields))

    def read(self, name: str) -> dict[str, int]:
        register = REGISTERS[name]
        return register.unpack(self.unit.read(register.offset, register.width // 8))

    def submit(self, *descriptors: tuple[int, ...]) -> None:
        """Queue descriptors, given as their words."""
        for words in descriptors:
            content = b"".join(word.to_bytes(8, "little") for word in words)
            self.memory.write(IQA + 32 * self.tail, content.ljust(32, b"\0"))
            self.tail += 1
        self.write("IQT", QT=2 * self.tail)

    def ask(self, group: int = 0, *, last: bool = True, pasid: int | None = PASID, source_id: int = SID) -> PageRequest:
        request = PageRequest(source_id, pasid, UNMAPPED, read=True, write=True, last=last, group=group)
        self.unit.request_page(request)
        return request

    def queued(self, index: int) -> int:
        return int.from_bytes(self.memory.read(PQA + 32 * index, 32), "little")

    def responses(self) -> list[tuple[int, int]]:
        return [(response.group, response.code) for response in self.transport.page_responses(SID)]


def test_a_request_is_queued_and_answered_by_a_descriptor():
    platform = Platform()
    request = platform.ask(0x1AB)
    assert platform.read("PQT") == {"PQT": 1}
    assert platform.read("PRS") == {"PPR": 1, "PRO": 0}
    low, high = request.descriptor() & (1 << 64) - 1, request.descriptor() >> 64
    assert (low, high) == (1 | 1 << 8 | SID << 16 | PASID << 32, 7 | 0x1AB << 3 | UNMAPPED)
    assert platform.queued(0) == request.descriptor()
    assert platform.responses() == []
    response = (9 | 1 << 4 | ResponseCode.INVALID_REQUEST << 12 | SID << 16 | PASID << 32, 0x1AB << 3 | 4)
    platform.submit(response)
    assert platform.transport.page_responses(SID) == [PageResponse(SID, PASID, 0x1AB, ResponseCode.INVALID_REQUEST)]
    assert platform.read("FSTS")["IQE"] == 0


def test_overflow_answers_whole_groups_until_software_makes_room():
    """At every place where the queue fills up within a group of three."""
    for place in range(3):
        platform = Platform()
        for number in range(SLOTS - 1 - place):
            platform.ask(number, last=False)
        for _ in range(2):
            platform.ask(7, last=False)
        platform.ask(7)
        assert platform.read("PRS")["PRO"] == 1
        if place == 2:
            # Two requests of the group have found a place, its last one has not.
            assert platform.queued(SLOTS - 2) == PageRequest(SID, PASID, UNMAPPED, True, True, False, 7).descriptor()
        assert platform.responses() == [(7, ResponseCode.SUCCESS)]
        platform.write("PQH", PQH=SLOTS - 1)
        platform.ask(8)
        assert platform.responses() == [(8, ResponseCode.SUCCESS)], "nothing is queued while PRO is set"
        platform.write("PRS", PPR=1, PRO=1)
        platform.ask(9)
        assert platform.responses() == []
        assert platform.read("PQT") == {"PQT": 0}
        assert platform.read("PRS") == {"PPR": 1, "PRO": 0}


def test_a_fault_is_recorded_and_the_group_refused():
    platform = Platform()
    change_entry(platform.memory, Structure.SCALABLE_CONTEXT, platform.tables.context_entry_address(SID), PRE=0)
    platform.ask(5, last=False)
    platform.ask(5)
    assert platform.responses() == [(5, ResponseCode.INVALID_REQUEST)]
    assert platform.read("PRS") == {"PPR": 0, "PRO": 0}
    records = [platform.unit.registers[f"FRCD{number}"] for number in range(3)]
    wanted = {"F": 1, "T1": 0, "T2": 1, "FR": 0x47, "SID": SID, "PP": 1, "PV": PASID, "FI": UNMAPPED >> 12, "AT": 0}
    for record in records[:2]:
        fields = REGISTERS["FRCD"].unpack(record)
        assert {name: fields[name] for name in wanted} == wanted
    assert not records[2]


def test_what_a_request_shows_to_be_of_no_use_is_forgotten():
    platform = Platform()
    request = Request(SID, PASID, MAPPED)
    before = platform.unit.translate(request).address
    platform.first.set_fields(platform.first.path(MAPPED)[-1], ADDR=0x567_8000)
    platform.ask()
    assert platform.unit.translate(request).address == before, "another page"
    platform.unit.request_page(PageRequest(SID, PASID, MAPPED, True, False, True, 1))
    assert platform.unit.translate(request).address == 0x567_8000


def test_a_queue_in_no_memory_overflows():
    platform = Platform()
    platform.write("PQA", PQA=0xF_0000_0000)
    platform.ask(3)
    assert platform.read("PRS") == {"PPR": 0, "PRO": 1}
    assert platform.responses() == [(3, ResponseCode.SUCCESS)]


def test_requests_on_the_way_are_pushed_by_the_devices_invalidation():
    platform = Platform()
    platform.unit.page_requests.slow = True
    platform.ask(1)
    platform.ask(2, source_id=SID + 8)
    assert platform.read("PQT") == {"PQT": 0}
    invalidate, wait = PasidDeviceTlbInvalidate(SID, PASID, 0, 0), Wait(STATUS, 0x77, drain_page_requests=True)
    platform.submit(invalidate.words(), wait.words())
    assert platform.memory.read64(STATUS) == 0x77
    assert platform.read("PQT") == {"PQT": 1}
    platform.unit.page_requests.push()
    assert platform.read("PQT") == {"PQT": 1}, "the other device has no tables"


def test_events_are_masked_pending_and_sent():
    platform = Platform()
    platform.write("PEADDR", MA=0x3_0000 >> 2)
    platform.write("PEDATA", IMD=0x51)
    platform.ask()
    assert platform.read("PECTL") == {"IM": 1, "IP": 1}
    assert platform.unit.events.sent == []
    platform.write("PECTL", IM=0)
    assert platform.read("PECTL") == {"IM": 0, "IP": 0}
    assert platform.unit.events.sent == [(0x3_0000, 0x51)]
    assert platform.memory.read(0x3_0000, 4) == b"\x51\0\0\0"
    platform.ask()
    assert len(platform.unit.events.sent) == 1, "PPR is still set"
    platform.write("PRS", PPR=1)
    platform.ask()
    assert len(platform.unit.events.sent) == 2
    platform.write("PECTL", IM=1)
    platform.write("PRS", PPR=1)
    platform.ask()
    platform.write("PRS", PPR=1)
    assert platform.read("PECTL") == {"IM": 1, "IP": 0}
    assert len(platform.unit.events.sent) == 2


@pytest.mark.parametrize("descriptor", [(9 | SID << 16, 0), (5 | 1 << 7, 0)], ids=["response", "drain"])
def test_without_page_requests_there_are_neither_registers_nor_descriptors(descriptor: tuple[int, int]):
    config = IommuConfig(page_requests=False)
    unit = ModelUnit(ModelTransport().memory, config)
    unit.write(REGISTERS["PQA"].offset, 8, (1 << 64) - 1)
    assert unit.read(REGISTERS["PQA"].offset, 8) == unit.read(REGISTERS["PECTL"].offset, 4) == 0
    queue = ModelTransport(1 << 22, config)
    queue.memory.write(IQA, b"".join(word.to_bytes(8, "little") for word in descriptor).ljust(32, b"\0"))
    for name, fields in (("RTADDR", {"TTM": 1}), ("IQA", {"IQA": IQA >> 12, "DW": 1}), ("GCMD", {"SRTP": 1, "QIE": 1})):
        queue.unit.write(REGISTERS[name].offset, REGISTERS[name].width // 8, REGISTERS[name].pack(fields))
    queue.unit.write(REGISTERS["IQT"].offset, 8, 32)
    assert REGISTERS["FSTS"].unpack(queue.unit.read(REGISTERS["FSTS"].offset, 4))["IQE"] == 1
