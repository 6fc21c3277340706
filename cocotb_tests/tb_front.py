"""The whole unit at its AXI ports: data of several devices really move, blocked accesses do not, and how fast it is.

cocotbext-axi plays the devices, the memory behind ``out`` and the one behind ``mem``. AxUSER says who asks
(`rtl.tests.front.by_user.Who`).
"""

import itertools
import logging
import os
import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiMaster, AxiResp, AxiSlave
from cocotbext.axi.address_space import Region

from nestwalk.config import preset
from nestwalk.registers.table import REGISTERS
from nestwalk_sim.builders import (
    FirstStageTables,
    GuestSpace,
    HostSpace,
    ScalableTables,
    SecondStageTables,
    first_stage_fields,
    nested_fields,
    second_stage_fields,
)
from nestwalk_sim.host.vtd.descriptors import IotlbInvalidate, PasidCacheInvalidate, Wait
from nestwalk_sim.memory import Memory
from rtl.tests.front.by_user import Who

from .axi_raw import be_quiet, pass_through

CONFIG = preset(os.environ["NESTWALK_PRESET"])
PAGE = 4096
BATCHES = 30
GUEST_BASE = 0x7F_1230_0000
PAGES = 12
TE, SRTP, QIE = 1 << 31, 1 << 30, 1 << 26


class HostMemory(Region):
    """Pages of host memory; what is not there or faulty answers with an error.

    Attributes
    ----------
    content : Memory
    faulty : set of int
        Numbers of pages that answer with an error.
    strays : list of int
        Addresses asked for where nothing is.
    """

    def __init__(self, content: Memory):
        super().__init__(1 << CONFIG.haw)
        self.content = content
        self.faulty: set[int] = set()
        self.strays: list[int] = []

    def _check(self, address: int) -> None:
        if address // PAGE not in self.content.pages:
            self.strays.append(address)
        if address // PAGE in self.faulty:
            raise LookupError(f"no answer from {address:#x}")

    async def _read(self, address, length, **kwargs):
        self._check(address)
        return self.content.read(address, length)

    async def _write(self, address, data, **kwargs):
        self._check(address)
        self.content.write(address, bytes(data))


class Device(NamedTuple):
    """Who asks, and what its pages are: good, hole, read_only or faulty."""

    user: int
    kinds: list[str]
    hosts: list[int]

    def expected(self, page: int, write: bool) -> bool:
        """Whether an access ends well."""
        return self.kinds[page] == "good" or (self.kinds[page] == "read_only" and not write)


class Platform:
    """Tables of five devices: second stage, first stage with PASID, nested with PASID, one whose tables cannot be read,
    one without a context entry."""

    def __init__(self, rng: random.Random):
        self.tables_memory, self.data_memory = Memory(), Memory()
        self.mem, self.out = HostMemory(self.tables_memory), HostMemory(self.data_memory)
        space = HostSpace(self.tables_memory)
        self.tables = ScalableTables(space)
        self._rng = rng
        self._next_host = itertools.count(1)
        self.devices: list[Device] = []
        second = SecondStageTables(space, 4)
        self._add(0, None, lambda: second_stage_fields(second), second)
        first = FirstStageTables(space, 4)
        self._add(1, 1, lambda: first_stage_fields(first), first)
        below = SecondStageTables(space, 3)
        above = FirstStageTables(GuestSpace(below, 39), 4)
        self._add(2, 2, lambda: nested_fields(above, below), above, below)
        unread = SecondStageTables(space, 4)
        self._add(3, None, lambda: second_stage_fields(unread), unread)
        self.mem.faulty.add(unread.root // PAGE)
        self.devices.append(Device(Who.const({"device": 4}).as_bits(), ["hole"] * PAGES, [0] * PAGES))
        self.devices[3].kinds[:] = ["hole"] * PAGES

    def _add(self, number: int, pasid: int | None, fields: Callable, tables, below=None) -> None:
        kinds, hosts = [], []
        for page in range(PAGES):
            kind = self._rng.choice(("good", "good", "good", "hole", "read_only", "faulty")) if page > 3 else "good"
            host = self._host_page()
            kinds.append(kind)
            hosts.append(host)
            if kind == "faulty":
                self.out.faulty.add(host // PAGE)
            if kind == "hole":
                continue
            write = {"W" if isinstance(tables, SecondStageTables) else "RW": int(kind != "read_only")}
            target = host
            if below is not None:
                target = 0x4000_0000 + page * PAGE
                below.map(target, host)
            tables.map(GUEST_BASE + page * PAGE, target, **write)
        self.tables.add_device(number * 8, PASIDE=1)
        self.tables.add_pasid(number * 8, pasid or 0, DID=number + 1, **fields())
        who = Who.const({"device": number, "pasid_valid": pasid is not None, "pasid": pasid or 0})
        self.devices.append(Device(who.as_bits(), kinds, hosts))

    def _host_page(self) -> int:
        host = (next(self._next_host) << 20 | self._rng.getrandbits(8) << 12) & (1 << CONFIG.haw) - 1
        self.data_memory.add_pages([host])
        self.data_memory.write(host, self._rng.randbytes(PAGE))
        return host


class Bench:
    """Clock, reset, registers, and the memory behind ``mem``."""

    def __init__(self, dut, platform: Platform):
        logging.getLogger(f"cocotb.{dut._name}").setLevel(logging.ERROR)
        self.dut, self.platform = dut, platform
        Clock(dut.clk, 2, unit="ns").start()
        self.csr = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "csr"), dut.clk, dut.rst)
        self.mem = AxiSlave(AxiBus.from_prefix(dut, "mem"), dut.clk, dut.rst, target=platform.mem)
        self._enabled = 0

    async def start(self) -> None:
        """Reset, set the root pointer, enable translation."""
        self._enabled = 0
        self.dut.rst.value = 1
        await ClockCycles(self.dut.clk, 4)
        self.dut.rst.value = 0
        state = self.platform.tables.state
        await self.csr.write_qword(REGISTERS["RTADDR"].offset, state.root_table | state.ttm << 10)
        await self.command(SRTP)
        await self.command(TE)

    async def command(self, bit: int) -> None:
        await self.csr.write_dword(REGISTERS["GCMD"].offset, self._enabled | bit)
        while not await self.csr.read_dword(REGISTERS["GSTS"].offset) & bit:
            pass
        if bit != SRTP:
            self._enabled |= bit

    def axi(self) -> tuple[AxiMaster, AxiSlave]:
        """Device and memory of `cocotbext.axi` on ``dma`` and ``out``."""
        dut = self.dut
        master = AxiMaster(AxiBus.from_prefix(dut, "dma"), dut.clk, dut.rst)
        return master, AxiSlave(AxiBus.from_prefix(dut, "out"), dut.clk, dut.rst, target=self.platform.out)


def rng_of(name: str) -> random.Random:
    return random.Random(f"{cocotb.RANDOM_SEED} {name}")


def pauses(rng: random.Random, share: float) -> Iterator[bool]:
    while True:
        yield rng.random() < share


def channels_of(*ends) -> Iterator:
    for end in ends:
        yield from (end.write_if.aw_channel, end.write_if.w_channel, end.write_if.b_channel)
        yield from (end.read_if.ar_channel, end.read_if.r_channel)


class Stream:
    """One id's traffic to pages of its own of one device, in batches of writes and reads, compared with a mirror."""

    def __init__(self, bench: Bench, master: AxiMaster, device: Device, axi_id: int, pages: range, rng: random.Random):
        self.master, self.device, self.axi_id, self.pages, self.rng = master, device, axi_id, pages, rng
        self.content = bench.platform.data_memory
        self.problems: list[str] = []
        self.blocked = self.bytes = 0

    async def run(self, batches: int) -> None:
        for batch in range(batches):
            events = []
            for page in self.rng.sample(self.pages, len(self.pages)):
                size = self.rng.randrange(CONFIG.data_width.bit_length() - 3)
                length = self.rng.choice((1, 4, 16, 64, 300, 1000)) if size > 2 else self.rng.randint(1, 40)
                offset = self.rng.randrange(PAGE - length)
                address = GUEST_BASE + page * PAGE + offset
                user = self.device.user
                if batch % 2:
                    found = self.master.init_read(address, length, arid=self.axi_id, size=size, user=user)
                    events.append((page, offset, length, None, found))
                else:
                    data = self.rng.randbytes(length)
                    done = self.master.init_write(address, data, awid=self.axi_id, size=size, user=user)
                    events.append((page, offset, length, data, done))
            before = {page: self._content(page) for page in self.pages}
            for event in events:
                await event[-1].wait()
            for page, offset, length, data, event in events:
                self._compare(before[page], page, offset, length, data, event.data)

    def _content(self, page: int) -> bytes:
        host = self.device.hosts[page]
        return self.content.read(host, PAGE) if host else bytes(PAGE)

    def _compare(self, before: bytes, page: int, offset: int, length: int, data: bytes | None, answer) -> None:
        fine = self.device.expected(page, data is not None)
        if answer.resp != (AxiResp.OKAY if fine else AxiResp.SLVERR):
            self.problems.append(f"{self.device.user:#x} page {page} {self.device.kinds[page]}: {answer}")
        after = self._content(page)
        if data is None:
            expected = before[offset : offset + length] if fine else bytes(length)
            if answer.data != expected:
                self.problems.append(
                    f"{self.device.user:#x} page {page}: read {answer.data.hex()}, not {expected.hex()}"
                )
        elif after != (before[:offset] + data + before[offset + length :] if fine else before):
            self.problems.append(f"{self.device.user:#x} page {page}: memory differs after a write")
        self.blocked += self.device.kinds[page] == "hole"
        self.bytes += length * fine


@cocotb.test()
async def data_move(dut):
    """Five devices, many ids, random stalls everywhere: data arrive where the tables say, or an error comes back."""
    rng = rng_of("data_move")
    bench = Bench(dut, Platform(rng))
    master, slave = bench.axi()
    for share in (0.0, 0.3):
        for channel in channels_of(master, slave, bench.mem):
            channel.set_pause_generator(pauses(rng, share * rng.random() * 2))
        await bench.start()
        streams = []
        for number, device in enumerate(bench.platform.devices):
            for half in range(2):
                pages = range(half * PAGES // 2, (half + 1) * PAGES // 2)
                axi_id = number if half else 2 * number + 16
                streams.append(Stream(bench, master, device, axi_id, pages, random.Random(rng.getrandbits(32))))
        tasks = [cocotb.start_soon(stream.run(BATCHES)) for stream in streams]
        for task in tasks:
            await task
        problems = [problem for stream in streams for problem in stream.problems]
        assert problems == [], "\n".join(problems[:5])
        assert bench.platform.out.strays == []
        assert sum(stream.blocked for stream in streams) > 10 * BATCHES
        assert sum(stream.bytes for stream in streams) > 1000 * BATCHES


@cocotb.test()
async def wait_descriptors_wait_for_the_traffic(dut):
    """The status of a wait is written when writes and reads with earlier translations have their answers."""
    platform = Platform(rng_of("wait_descriptors"))
    queue, status = 0x10_0000, 0x10_1000
    platform.tables_memory.add_pages([queue, status])
    bench = Bench(dut, platform)
    master, slave = bench.axi()
    _, _, answers, _, beats = channels_of(slave)
    await bench.start()
    await bench.csr.write_qword(REGISTERS["IQA"].offset, queue | 1 << 11)
    await bench.command(QIE)
    device = platform.devices[0]
    await master.write(GUEST_BASE, b"warm", user=device.user)
    invalidation = IotlbInvalidate(), PasidCacheInvalidate()
    tail = 0
    for ticket, (channel, start) in enumerate(
        (
            (answers, lambda: master.init_write(GUEST_BASE, b"late", user=device.user)),
            (beats, lambda: master.init_read(GUEST_BASE, 4, user=device.user)),
        ),
        start=1,
    ):
        channel.pause = True
        access = start()
        await ClockCycles(dut.clk, 40)
        for descriptor in (invalidation[ticket - 1], Wait(status, ticket)):
            content = b"".join(word.to_bytes(8, "little") for word in descriptor.words())
            platform.tables_memory.write(queue + tail, content)
            tail += 32
        await bench.csr.write_qword(REGISTERS["IQT"].offset, tail)
        await ClockCycles(dut.clk, 600)
        assert platform.tables_memory.read64(status) == ticket - 1
        assert not access.is_set()
        channel.pause = False
        await ClockCycles(dut.clk, 100)
        assert access.is_set()
        assert platform.tables_memory.read64(status) == ticket


@cocotb.test()
async def hits_go_through_one_each_cycle(dut):
    """Reads, writes, and both together, of one id and of many: no bubble, and at most 8 cycles from port to port."""
    rng = rng_of("hits")
    bench = Bench(dut, Platform(rng))
    be_quiet(dut)
    await bench.start()
    user = bench.platform.devices[0].user

    def bursts(kind: str, count: int, ids: int) -> list[tuple[bool, int, int]]:
        writes = {"reads": [False], "writes": [True], "both": [False, True]}[kind]
        return [
            (write, rng.randrange(ids), GUEST_BASE + rng.randrange(4) * PAGE + rng.randrange(PAGE // 4) * 4)
            for _ in range(count // len(writes))
            for write in writes
        ]

    for page in range(4):  # a fill that meets another may be dropped: fill one page after the other
        await pass_through(dut, [(True, 0, GUEST_BASE + page * PAGE)], user)
    for kind in ("reads", "writes", "both"):
        for ids in (1, 16):
            passages = await pass_through(dut, bursts(kind, 1024, ids), user)
            came = [passage.came for passage in passages]
            assert len(passages) / (max(came) - min(came) + 1) >= 0.99
            assert {passage.went - passage.came for passage in passages} == {7}
