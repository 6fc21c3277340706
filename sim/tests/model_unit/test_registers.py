"""The registers of the software unit under random accesses, compared with the register model."""

import asyncio
from random import Random

import pytest

from cocotb_tests.register_life import Life
from nestwalk.config import preset
from nestwalk_sim.memory import Memory
from nestwalk_sim.model import Request, model_preset
from nestwalk_sim.model_unit import ModelUnit


class Software:
    """A software unit as what a `Life` is lived with: nothing takes time."""

    def __init__(self, name: str):
        self._config = preset(name)
        self.memory = Memory()
        self._unit = ModelUnit(self.memory, self._config)

    async def read(self, offset: int, size: int) -> int:
        return self._unit.read(offset, size)

    async def write(self, offset: int, size: int, value: int) -> None:
        self._unit.write(offset, size, value)

    async def follow(self, offset: int, mask: int, value: int) -> None:
        assert self._unit.read(offset, 4) & mask == value

    async def settle(self) -> None:
        pass

    async def ask(self, request: Request) -> None:
        self._unit.translate(request)

    async def reset(self) -> None:
        self._unit = ModelUnit(self.memory, self._config)

    def vary(self, random: Random) -> None:
        pass

    @property
    def messages(self) -> list[tuple[int, int]]:
        return self._unit.events.sent

    @property
    def lines(self) -> tuple[bool, ...]:
        return self._unit.events.lines


@pytest.mark.parametrize("name", ["DEFAULT", "TINY"])
def test_random_accesses(name: str, rng: Random):
    life = Life(Software(name), preset(name), model_preset(name), rng)
    asyncio.run(life.run(5000))
    assert min(life.done.values()) > 3
