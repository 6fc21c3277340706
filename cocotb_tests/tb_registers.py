"""Random accesses to the whole page of registers, compared with the register model after each of them."""

from collections import Counter
from random import Random

import cocotb

from nestwalk.bus.memory import MemoryIds
from nestwalk.registers.capability import capability, extended_capability, implementation_capability, version
from nestwalk_sim.host.vtd.descriptors import Wait
from nestwalk_sim.memory import PAGE_SIZE, Memory
from nestwalk_sim.model import Access, Request
from nestwalk_sim.rtl.unit import Bench, Interrupt

from .register_model import (
    CPW,
    FAULT_RECORDS,
    FSTS,
    GCMD,
    GSTS,
    ICS,
    IMPCTL,
    IQA,
    IQH,
    IQT,
    KNOWN,
    QIE,
    SRTP,
    TE,
    RegisterModel,
)
from .session import CONFIG, MODEL, count_of, random_timing, rng_of, start

EVENT_COUNTS = range(0xC40, 0xDB0)
"""How often things have happened is for other tests."""

COMMANDS = TE | SRTP | QIE
IF = 1 << 4
QUEUE, STATUS = 0x7000_0000, 0x7010_0000
SETTLED = 400
"""Cycles in which everything but a global command is over."""


def new_model(memory: Memory) -> RegisterModel:
    """The registers of a unit that was just reset."""
    constants = {
        0x00: version(CONFIG),
        0x08: capability(CONFIG),
        0x10: extended_capability(CONFIG),
        0xC00: implementation_capability(CONFIG),
    }
    control = CONFIG.walk_slot_limit * 0x1F00 | (CONFIG.prefetch_streams != 0)
    own = {IMPCTL: control, CPW: CONFIG.partitioning * 0xFFFF}
    return RegisterModel(MODEL, CONFIG.fault_records, constants, own, memory)


class Life:
    """A unit and its model, and what is done to both.

    ``done`` counts what was done.
    """

    def __init__(self, bench: Bench, random: Random):
        self.bench, self.random = bench, random
        self.memory = Memory()
        self.memory.add_pages((QUEUE, QUEUE + PAGE_SIZE, STATUS))
        bench.memory.add_pages((QUEUE, QUEUE + PAGE_SIZE, STATUS))
        bench.memory.tracing = True
        self.model = new_model(self.memory)
        self.done: Counter[str] = Counter()
        self._places = [*KNOWN, *range(FAULT_RECORDS, FAULT_RECORDS + 16 * CONFIG.fault_records, 4)]

    # --- accesses

    def place(self) -> tuple[int, int]:
        """Where an access goes, and its bytes: mostly where there is something."""
        random = self.random
        place = random.choice(self._places) if random.random() < 0.8 else random.randrange(0, PAGE_SIZE, 4)
        return (place, 4) if random.random() < 0.5 else (place & -8, 8)

    def value(self, size: int) -> int:
        """Anything, or few ones, or few zeros."""
        bits = [self.random.getrandbits(8 * size) for _ in range(3)]
        return self.random.choice((bits[0], bits[0] & bits[1] & bits[2], bits[0] | bits[1] | bits[2]))

    async def read(self, offset: int, size: int) -> None:
        found = await self.bench.csr_read(offset, size)
        if offset not in EVENT_COUNTS:
            different = (found ^ self.model.read(offset, size)) & ~self.model.meaningless(offset, size)
            wanted = self.model.read(offset, size)
            assert not different, f"{offset:03x}h reads {found:0{2 * size}x}h, not {wanted:0{2 * size}x}h"

    async def write(self, offset: int, size: int, value: int) -> None:
        await self.bench.csr_write(offset, value, size)
        self.model.write(offset, size, value)

    async def command(self, bit: int) -> None:
        """One global command by the protocol of §1.5.1, reserved bits anyhow."""
        levels = self.model.read(GSTS, 4) & (TE | QIE)
        junk = self.random.getrandbits(64) & ~COMMANDS
        size = self.random.choice((4, 8))
        await self.write(GCMD, size, (levels ^ bit | junk) & (1 << 8 * size) - 1)
        await self.bench.csr_poll(GSTS, COMMANDS, self.model.read(GSTS, 4))

    async def settle(self) -> None:
        """Let everything end, and look at what is not in registers: messages and wires."""
        await self.bench.cycles(SETTLED)
        trace = self.bench.memory.trace()
        sent = trace[(trace["write"] == 1) & (trace["id"] == MemoryIds(CONFIG).event)]
        found = [(int(message["address"]), int(message["data"])) for message in sent]
        haw = (1 << CONFIG.haw) - 1
        assert found == [(address & haw, data) for address, data in self.model.messages]
        levels = tuple(map(self.bench.interrupt_level, (Interrupt.FAULT, Interrupt.INVALIDATION)))
        assert levels == self.model.lines

    # --- things to do

    async def random_read(self) -> None:
        await self.read(*self.place())

    async def random_write(self) -> None:
        offset, size = self.place()
        if offset <= GCMD < offset + size:
            await self.random_command()
            return
        await self.write(offset, size, self.value(size))
        await self.settle()

    async def random_command(self) -> None:
        await self.command(self.random.choice((TE, SRTP, QIE)))
        await self.settle()

    async def recover(self) -> None:
        """Drain the fault records and clear every status, as a driver does, or half of it."""
        whole = self.random.random() < 0.5
        for record in range(CONFIG.fault_records):
            if whole or self.random.random() < 0.5:
                await self.write(FAULT_RECORDS + 16 * record + 12, 4, 1 << 31)
        for status in (FSTS, ICS):
            if whole or self.random.random() < 0.5:
                await self.write(status, 4, 0x7F)
        await self.settle()

    async def device(self) -> None:
        """A few requests, one after the other."""
        for _ in range(self.random.randrange(1, CONFIG.fault_records + 3)):
            pasid = self.random.choice((None, self.random.getrandbits(20)))
            privileged, execute = self.random.random() < 0.3, self.random.random() < 0.1
            request = Request(
                self.random.getrandbits(16), pasid, self.random.getrandbits(self.random.choice((40, 56, 64))),
                self.random.choice(list(Access)), privileged, execute,
            )  # fmt: skip
            await self.bench.translate([request])
            self.model.request(request)
        await self.settle()

    async def work(self) -> None:
        """A queue in order, with wait descriptors of all kinds, up to its end or to one that is no descriptor."""
        random, model = self.random, self.model
        if model.read(GSTS, 4) & QIE:
            await self.command(QIE)
        for status in (FSTS, ICS):
            await self.write(status, 4, 0x7F)
        if model.state.ttm == 2:
            await self.write(0x20, 8, random.choice((0, 1)) << 10)
            await self.command(SRTP)
        wide = bool(model.state.ttm) or (MODEL.scalable_mode and random.random() < 0.5)
        size = 32 if wide else 16
        count = random.randrange(1, 20)
        for number in range(count):
            descriptor = Wait(random.choice((None, STATUS + 8 * random.randrange(512))), random.getrandbits(32))
            words = list(descriptor.words())
            words[0] |= random.choice((0, IF)) | random.choice((0, 1 << 6))
            if random.random() < 0.03:
                words[0] ^= 1 << random.choice((3, *range(8, 32)))  # none of these makes another type
            content = b"".join(word.to_bytes(8, "little") for word in words)[:size]
            for memory in (self.memory, self.bench.memory):
                memory.write(QUEUE + size * number, content)
        await self.write(IQT, 8, 0)
        await self.write(IQA, 8, QUEUE | wide << 11 | random.randrange(2))
        await self.command(QIE)
        await self.write(IQT, random.choice((4, 8)), size * count)
        for _ in range(count):
            await self.settle()
            if await self.bench.csr_read(IQH, 8) == model.read(IQH, 8):
                break
        await self.settle()
        status = self.bench.memory.read(STATUS, PAGE_SIZE)
        assert status == self.memory.read(STATUS, PAGE_SIZE)

    async def reset(self) -> None:
        """Everything is as at first; the whole page is read."""
        await self.bench.reset()
        self.bench.memory.clear_trace()
        self.model = new_model(self.memory)
        await self.whole_page()

    async def whole_page(self) -> None:
        size = self.random.choice((4, 8))
        for offset in range(0, PAGE_SIZE, size):
            await self.read(offset, size)

    async def run(self, count: int) -> None:
        """Do ``count`` things, all kinds of them."""
        kinds = [
            (60, self.random_read), (60, self.random_write), (10, self.random_command), (10, self.device),
            (4, self.work), (4, self.recover), (1, self.reset), (1, self.whole_page),
        ]  # fmt: skip
        weights, actions = zip(*kinds, strict=True)
        for number in range(count):
            if number % 100 == 0:
                self.bench.memory.timing = random_timing(self.random)
                self.bench.set_csr_skew(self.random.choice((0, 50)))
            (action,) = self.random.choices(actions, weights)
            await action()
            self.done[action.__name__] += 1
        await self.whole_page()


@cocotb.test()
async def random_accesses(dut):
    """Whatever software writes anywhere, every register reads as the model's, and every message is sent once."""
    bench, _ = await start(dut)
    life = Life(bench, rng_of("random_accesses"))
    await life.run(count_of("ACTIONS"))
    dut._log.info("%s, %d messages", dict(life.done), len(life.model.messages))
    assert min(life.done.values()) > 3
