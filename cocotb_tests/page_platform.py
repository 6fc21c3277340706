"""Devices that ask for pages, a driver that reads the queue, and the golden model of both beside them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from nestwalk.registers.table import REGISTERS
from nestwalk_sim.builders import HostSpace, ScalableTables
from nestwalk_sim.builders.page_requesters import PageRequester, random_page_requesters
from nestwalk_sim.host.vtd.descriptors import PageGroupResponse, Wait
from nestwalk_sim.memory import PAGE_SIZE, Memory
from nestwalk_sim.model import PageRequest, PageResponse, UnitState, accept_page_request
from nestwalk_sim.model.page_request import Acceptance
from nestwalk_sim.model_unit.caches import Caches
from nestwalk_sim.model_unit.page_requests import PageRequests
from nestwalk_sim.model_unit.register_file import RegisterFile
from nestwalk_sim.rtl.driver import Driver, Queue
from nestwalk_sim.rtl.unit import Bench

from .session import CONFIG, MODEL

__all__ = ["Platform", "expected_record", "response_of"]

FAULT_ADDRESS = (1 << 57) - 0x1000
DESCRIPTOR = 32


def expected_record(request: PageRequest, verdict: Acceptance) -> int | None:
    """The fault recording register that a refused request leaves (§1.8), None where nothing is recorded."""
    if verdict.fault is None or not verdict.recorded:
        return None
    with_pasid = request.pasid is not None
    executes = request.execute and (request.read or not request.write)
    record = 1 << 127 | 1 << 92 | verdict.fault << 96 | request.source_id << 64 | request.address & FAULT_ADDRESS
    if with_pasid:
        record |= 1 << 95 | (request.pasid or 0) << 104 | request.privileged << 93 | executes << 94
    return record


def response_of(record) -> PageResponse:
    """A `PAGE_RESPONSE` record as the model has it."""
    pasid = int(record["pasid"]) if record["pasid_valid"] else None
    return PageResponse(int(record["source_id"]), pasid, int(record["group"]), int(record["code"]))


class _Model(PageRequests):
    """The golden model, with its responses in their order."""

    def __init__(self, registers: RegisterFile, memory: Memory, accept):
        super().__init__(registers, memory, Caches(), accept)
        self.told: list[PageResponse] = []

    def respond(self, response: PageResponse) -> None:
        self.told.append(response)


@dataclass
class Platform:
    """A unit with tables in memory, page requests switched on.

    ``twin`` is the memory of the model; ``status`` is where waits for page requests write how many there were;
    ``records`` are the fault records that are due.
    """

    bench: Bench
    driver: Driver
    random: Random
    devices: list[PageRequester]
    state: UnitState
    twin: Memory
    queue: Queue
    base: int
    size: int
    status: int
    records: list[int] = field(default_factory=list)
    met: Counter = field(default_factory=Counter)
    """Verdicts: by fault condition, with or without PASID, recorded or not."""

    def __post_init__(self):
        self.registers = RegisterFile(CONFIG)
        self.registers.set_field("PQA", "PQA", self.base >> 12)
        self.registers.set_field("PQA", "PQS", self.size)
        self.model = _Model(self.registers, self.twin, self._accept)
        self.slots = 128 << self.size
        self.compared = self.waits = 0

    @classmethod
    async def start(
        cls, bench: Bench, driver: Driver, random: Random, *, sane: int = 30, faulty: int = 0, size: int = 0
    ) -> "Platform":
        """Tables for so many devices, and a queue of 2^(``size`` + 7) requests."""
        memory = Memory()
        space = HostSpace(memory, MODEL.haw, random)
        tables = ScalableTables(space)
        devices = list(random_page_requesters(random, MODEL, tables, sane=sane, faulty=faulty))
        return await cls.program(bench, driver, random, tables, devices, size)

    @classmethod
    async def program(
        cls,
        bench: Bench,
        driver: Driver,
        random: Random,
        tables: ScalableTables,
        devices: list[PageRequester],
        size: int = 0,
    ) -> "Platform":
        """Load tables, and switch all on."""
        space = tables.space
        queue_base, base, status = space.unused(3), space.new_pages(1 << size), space.new_pages()
        bench.memory.load(space.memory.image())
        await driver.set_root(tables.state)
        queue = await driver.start_queue(queue_base, wide=True)
        platform = cls(bench, driver, random, devices, tables.state, space.memory, queue, base, size, status)
        await platform.write("PQA", PQA=base >> 12, PQS=size)
        return platform

    async def write(self, name: str, **fields: int) -> None:
        register = REGISTERS[name]
        await self.bench.csr_write(register.offset, register.pack(fields), register.width // 8)

    async def read(self, name: str) -> dict[str, int]:
        register = REGISTERS[name]
        return register.unpack(await self.bench.csr_read(register.offset, register.width // 8))

    def _accept(self, request: PageRequest) -> Acceptance:
        verdict = accept_page_request(self.twin, self.state, MODEL, request)
        record = expected_record(request, verdict)
        self.records += [record] if record is not None else []
        suppressed = verdict.fault is not None and record is None
        self.met[verdict.fault_condition, request.pasid is not None, suppressed] += 1
        return verdict

    def recorded(self, request: PageRequest) -> bool:
        """Whether a request leaves a fault record."""
        return expected_record(request, accept_page_request(self.twin, self.state, MODEL, request)) is not None

    async def send(self, requests: Sequence[PageRequest]) -> None:
        """Send requests, wait until all are where they belong, and compare everything with the model."""
        await self.bench.pages.send(requests)
        for request in requests:
            self.model.send(request)
        await self.drain()
        await self.compare()

    async def drain(self) -> None:
        """A wait for page requests."""
        self.waits += 1
        await self.queue.submit([Wait(self.status, self.waits, drain_page_requests=True)])
        await self.bench.memory_equals(self.status, self.waits)

    async def answer(self, responses: Sequence[PageResponse]) -> None:
        """Software's answers to groups."""
        await self.queue.submit([PageGroupResponse(*response) for response in responses])
        self.model.told += responses

    async def compare(self) -> None:
        """Queue, status, responses and fault records are the model's."""
        told = [response_of(record) for record in self.bench.pages.responses(self.compared)]
        assert told == self.model.told[self.compared :]
        self.compared += len(told)
        assert await self.read("PQT") == {"PQT": self.registers.field("PQT", "PQT")}
        assert await self.read("PRS") == {name: self.registers.field("PRS", name) for name in ("PRO", "PPR")}
        for page in range(self.base, self.base + self.slots * DESCRIPTOR, PAGE_SIZE):
            assert self.bench.memory.read(page, PAGE_SIZE) == self.twin.read(page, PAGE_SIZE)
        records, lost = await self.driver.drain_faults()
        assert [f"{record:032x}" for record in records] == [f"{record:032x}" for record in self.records]
        assert not lost
        self.records.clear()

    async def take(self, head: int) -> None:
        """Software has taken the requests up to ``head``."""
        self.registers.set_field("PQH", "PQH", head)
        await self.write("PQH", PQH=head)

    async def clear(self, *names: str) -> None:
        """Clear status bits."""
        await self.write("PRS", **dict.fromkeys(names, 1))
        for name in names:
            self.registers.set_field("PRS", name, 0)

    @property
    def tail(self) -> int:
        return self.registers.field("PQT", "PQT")

    async def queued(self, count: int, limit: int = 10_000) -> None:
        """Wait until PQT is ``count`` behind the beginning of the queue."""
        field_of_tail = REGISTERS["PQT"].by_name["PQT"]
        offset = REGISTERS["PQT"].offset
        await self.bench.csr_poll(offset, field_of_tail.mask, count << field_of_tail.low, 8, limit)
