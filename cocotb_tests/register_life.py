"""Random accesses to the whole page of registers of a unit, compared with the register model after each of them."""

from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random
from typing import Protocol

from nestwalk.config import IommuConfig
from nestwalk.registers.capability import (
    capability,
    extended_capability,
    implementation_capability,
    version,
    virtual_command_capability,
)
from nestwalk_sim.memory import PAGE_SIZE, Memory
from nestwalk_sim.model import Access, ModelConfig, Request
from nestwalk_sim.rtl.memory import BenchMemory

from .descriptor_stream import QUEUE, STATUS, DescriptorStream
from .register_model import (
    CCMD,
    CNTRCFG,
    CPW,
    ECMD,
    FSTS,
    GCMD,
    GSTS,
    ICC,
    ICS,
    IMPCTL,
    IOTLB,
    IQH,
    IVA,
    KNOWN,
    QIE,
    RTADDR,
    SRTP,
    TE,
    VCMD,
    RegisterModel,
)

__all__ = ["Life", "Target"]

EVENT_COUNTS = range(0xC40, 0xDB0)
"""How often things have happened is for other tests."""

COMMANDS = TE | SRTP | QIE


class Target(Protocol):
    """The unit whose registers are looked at, in hardware or in software."""

    async def read(self, offset: int, size: int) -> int: ...

    async def write(self, offset: int, size: int, value: int) -> None: ...

    async def follow(self, offset: int, mask: int, value: int) -> None:
        """Wait until a DWORD has a value under a mask."""
        ...

    async def settle(self) -> None:
        """Let everything end that was started, global commands apart."""
        ...

    async def ask(self, request: Request) -> None:
        """Let a device ask, and wait for the answer."""
        ...

    async def reset(self) -> None: ...

    def vary(self, random: Random) -> None:
        """Behave in another way from now on."""
        ...

    @property
    def memory(self) -> Memory | BenchMemory: ...

    @property
    def messages(self) -> list[tuple[int, int]]:
        """Address and data of all event messages since the reset."""
        ...

    @property
    def lines(self) -> tuple[bool, ...]:
        """Levels of the interrupt wires."""
        ...


class Life:
    """A unit and its model, and what is done to both.

    Parameters
    ----------
    target : Target
        A unit that was just reset.
    config : IommuConfig
        Its configuration.
    announced : ModelConfig
        The same for the golden model.
    random : Random

    ``done`` counts what was done, ``seen`` the descriptors before the last reset, see `QueueModel`.
    """

    def __init__(self, target: Target, config: IommuConfig, announced: ModelConfig, random: Random):
        self.target, self.random = target, random
        self.config, self.announced = config, announced
        self.memory = Memory()
        for memory in (self.memory, target.memory):
            memory.add_pages((QUEUE, QUEUE + PAGE_SIZE, STATUS))
        self.model = self._new_model()
        self.done: Counter[str] = Counter()
        self.seen: Counter[tuple[int, ...]] = Counter()
        first = self.model.fault_records
        self._places = [*KNOWN, *range(first, first + 16 * config.fault_records, 4)]

    def _new_model(self) -> RegisterModel:
        """The registers of a unit that was just reset."""
        config = self.config
        constants = {
            0x00: version(config),
            0x08: capability(config),
            0x10: extended_capability(config),
            0xC08: implementation_capability(config),
            0xE30: virtual_command_capability(config),
        }
        if config.performance_monitoring:
            # Two counters with an interrupt on overflow, four groups of events.
            constants[0x300] = 1 << 50 | 4 << 24 | config.performance_counter_bits << 16 | 2
            constants |= {0x310: 0xB00 << 32 | 0x900, 0x318: 0x800 << 32 | 0xB08}
            constants |= {0x380: 3, 0x388: 1 | config.page_requests << 6, 0x390: 0, 0x398: 3, 0x448: 0x33 << 48}
        control = config.walk_slot_limit * 0x1F00 | (config.prefetch_streams != 0)
        own = {IMPCTL: control, CPW: config.partitioning * 0xFFFF}
        return RegisterModel(config, self.announced, constants, own, self.memory)

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
        found = await self.target.read(offset, size)
        if offset not in EVENT_COUNTS:
            different = (found ^ self.model.read(offset, size)) & ~self.model.meaningless(offset, size)
            wanted = self.model.read(offset, size)
            assert not different, f"{offset:03x}h reads {found:0{2 * size}x}h, not {wanted:0{2 * size}x}h"

    async def write(self, offset: int, size: int, value: int) -> None:
        await self.target.write(offset, size, value)
        self.model.write(offset, size, value)

    async def command(self, bit: int) -> None:
        """One global command by the protocol of §1.5.1, reserved bits anyhow."""
        levels = self.model.read(GSTS, 4) & (TE | QIE)
        junk = self.random.getrandbits(64) & ~COMMANDS
        size = self.random.choice((4, 8))
        await self.write(GCMD, size, (levels ^ bit | junk) & (1 << 8 * size) - 1)
        await self.target.follow(GSTS, COMMANDS, self.model.read(GSTS, 4))

    async def settle(self) -> None:
        """Let everything end, and look at what is not in registers: messages and wires."""
        await self.target.follow(IQH, 0x7_FFF0, self.model.read(IQH, 4))
        await self.target.settle()
        assert self.target.messages == self.model.messages
        assert self.target.lines == self.model.lines

    # --- things to do

    async def random_read(self) -> None:
        await self.read(*self.place())

    async def random_write(self) -> None:
        offset, size = self.place()
        if offset <= GCMD < offset + size:
            await self.random_command()
            return
        await self.write(offset, size, self.value(size))
        for command in (CCMD, IOTLB):
            if offset <= command + 4 < offset + size:
                await self.target.follow(command + 4, ICC, 0)
        await self.settle()

    async def random_invalidation(self) -> None:
        """A command of CCMD or IOTLB, in legacy mode more often than not."""
        random = self.random
        if self.model.state.ttm and random.random() < 0.5:
            await self.write(RTADDR, 8, 0)
            await self.command(SRTP)
        command = random.choice((CCMD, IOTLB))
        await self.write(IVA, 8, random.getrandbits(64) & ~random.choice((0, 0x30)))
        await self.write(command, 4, random.getrandbits(32))
        await self.write(command + 4, 4, random.getrandbits(32) | ICC)
        await self.target.follow(command + 4, ICC, 0)
        await self.settle()

    async def random_virtual_command(self) -> None:
        """Mostly one that gives out or takes back."""
        random = self.random
        number = random.choice((1, 1, 1, 2, 2, random.getrandbits(8)))
        await self.write(VCMD + 4, 4, random.getrandbits(32) & ~random.choice((0, 0xF)))
        await self.write(VCMD, 4, number | random.randrange(2 * self.config.virtual_command_pasids + 1) << 16)
        await self.settle()

    async def random_enhanced_command(self) -> None:
        """Configure a counter, mostly as it can be, and enable, disable, freeze or unfreeze."""
        random = self.random
        number = random.randrange(2)
        group = random.choice((0, 1, 3, random.randrange(16)))
        events = random.choice((1, 2, 3, 1 << 6, random.getrandbits(28))) & random.choice((3, 0xFFF_FFFF))
        configuration = random.getrandbits(2) << 62 | events << 32 | group << 8 | random.randrange(2) << 1
        await self.write(CNTRCFG[number], 8, configuration | (random.random() < 0.1) << 2)
        command = random.choice((240, 240, 241, 244, 245, random.getrandbits(8)))
        counter = random.choice((number, random.randrange(4), random.getrandbits(16)))
        await self.write(ECMD + 4, 4, random.getrandbits(32))
        await self.write(ECMD, 4, counter << 16 | command)
        await self.settle()

    async def random_command(self) -> None:
        await self.command(self.random.choice((TE, SRTP, QIE)))
        await self.settle()

    async def recover(self) -> None:
        """Drain the fault records and clear every status, as a driver does, or half of it."""
        whole = self.random.random() < 0.5
        for record in range(self.config.fault_records):
            if whole or self.random.random() < 0.5:
                await self.write(self.model.fault_records + 16 * record + 12, 4, 1 << 31)
        for status in (FSTS, ICS):
            if whole or self.random.random() < 0.5:
                await self.write(status, 4, 0x7F)
                await self.settle()  # the queue goes on

    async def device(self) -> None:
        """A few requests, one after the other."""
        for _ in range(self.random.randrange(1, self.config.fault_records + 3)):
            pasid = self.random.choice((None, self.random.getrandbits(20)))
            privileged, execute = self.random.random() < 0.3, self.random.random() < 0.1
            request = Request(
                self.random.getrandbits(16), pasid, self.random.getrandbits(self.random.choice((40, 56, 64))),
                self.random.choice(list(Access)), privileged, execute,
            )  # fmt: skip
            await self.target.ask(request)
            self.model.request(request)
        await self.settle()

    async def work(self) -> None:
        """A stream of descriptors."""
        await DescriptorStream(self).run()

    async def reset(self) -> None:
        """Everything is as at first; the whole page is read."""
        await self.target.reset()
        self.seen += self.model.seen
        self.model = self._new_model()
        await self.whole_page()

    async def whole_page(self) -> None:
        size = self.random.choice((4, 8))
        for offset in range(0, PAGE_SIZE, size):
            await self.read(offset, size)

    def kinds(self) -> list[tuple[int, Callable[[], Awaitable[None]]]]:
        """What is done, and how often in comparison."""
        return [
            (60, self.random_read), (60, self.random_write), (10, self.random_command), (10, self.random_invalidation),
            (10 * bool(self.config.virtual_command_pasids), self.random_virtual_command),
            (10 * self.config.performance_monitoring, self.random_enhanced_command),
            (10, self.device), (4, self.work), (4, self.recover), (1, self.reset), (1, self.whole_page),
        ]  # fmt: skip

    async def run(self, count: int) -> None:
        """Do ``count`` things, all kinds of them."""
        weights, actions = zip(*self.kinds(), strict=True)
        for number in range(count):
            if number % 100 == 0:
                self.target.vary(self.random)
            (action,) = self.random.choices(actions, weights)
            await action()
            self.done[action.__name__] += 1
        await self.whole_page()
