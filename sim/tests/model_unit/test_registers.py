"""The registers of the software unit under random accesses, compared with the register model."""

import asyncio
from random import Random

import pytest

from cocotb_tests.register_life import Life
from nestwalk.config import IommuConfig, preset
from nestwalk_sim.memory import Memory
from nestwalk_sim.model import Request
from nestwalk_sim.model_unit import ModelUnit, model_config


class Software:
    """A software unit as what a `Life` is lived with: nothing takes time."""

    def __init__(self, config: IommuConfig):
        self._config = config
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


@pytest.mark.parametrize(
    ("name", "changes"),
    [("DEFAULT", {}), ("DEFAULT", {"version_major": 6}), ("TINY", {"virtual_command_pasids": 128})],
)
def test_random_accesses(name: str, changes: dict, rng: Random):
    config = preset(name).replace(**changes)
    life = Life(Software(config), config, model_config(config), rng)
    asyncio.run(life.run(2500))
    assert min(life.done.values()) > 3
