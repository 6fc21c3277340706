"""Random accesses to the whole page of registers of the hardware."""

from random import Random

import cocotb

from nestwalk.bus.memory import MemoryIds
from nestwalk_sim.model import Request
from nestwalk_sim.rtl.memory import BenchMemory
from nestwalk_sim.rtl.unit import Bench, Interrupt

from .register_life import Life
from .session import CONFIG, MODEL, count_of, random_timing, rng_of, start

SETTLED = 400
"""Cycles in which everything but a global command is over."""


class Hardware:
    """The unit behind a bench as what a `Life` is lived with."""

    def __init__(self, bench: Bench):
        self._bench = bench
        self.memory: BenchMemory = bench.memory
        self.memory.tracing = True

    async def read(self, offset: int, size: int) -> int:
        return await self._bench.csr_read(offset, size)

    async def write(self, offset: int, size: int, value: int) -> None:
        await self._bench.csr_write(offset, value, size)

    async def follow(self, offset: int, mask: int, value: int) -> None:
        await self._bench.csr_poll(offset, mask, value)

    async def settle(self) -> None:
        await self._bench.cycles(SETTLED)

    async def ask(self, request: Request) -> None:
        await self._bench.translate([request])

    async def reset(self) -> None:
        await self._bench.reset()
        self.memory.clear_trace()

    def vary(self, random: Random) -> None:
        self.memory.timing = random_timing(random)
        self._bench.set_csr_skew(random.choice((0, 50)))

    @property
    def messages(self) -> list[tuple[int, int]]:
        trace = self.memory.trace()
        sent = trace[(trace["write"] == 1) & (trace["id"] == MemoryIds(CONFIG).event)]
        return [(int(message["address"]), int(message["data"])) for message in sent]

    @property
    def lines(self) -> tuple[bool, ...]:
        return tuple(map(self._bench.interrupt_level, Interrupt))


@cocotb.test()
async def random_accesses(dut):
    """Whatever software writes anywhere, every register reads as the model's, and every message is sent once."""
    bench, _ = await start(dut)
    life = Life(Hardware(bench), CONFIG, MODEL, rng_of("random_accesses"))
    await life.run(count_of("ACTIONS"))
    dut._log.info("%s, %d messages", dict(life.done), len(life.model.messages))
    assert min(life.done.values()) > 3
