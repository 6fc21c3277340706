"""The software unit as a transport of the host stack and as the translator of endpoints."""

from nestwalk.config import IommuConfig

from ..memory import Memory
from ..model.request import Request, Result
from .unit import ModelUnit

__all__ = ["ModelTransport"]


class ModelTransport:
    """Registers, memory and translations of a `ModelUnit`; time is the number of accesses.

    Parameters
    ----------
    size : int
        Bytes of host memory from address 0 on.
    config : IommuConfig, optional
        What the unit announces; the preset DEFAULT.
    caching_mode : bool
        Whether it announces CAP.CM.
    """

    def __init__(self, size: int = 64 << 20, config: IommuConfig | None = None, *, caching_mode: bool = False):
        self.memory = Memory()
        self.memory.add_pages(range(0, size, 4096))
        self.unit = ModelUnit(self.memory, config, caching_mode=caching_mode)
        self.register_accesses = 0
        self._time = 0

    async def read32(self, offset: int) -> int:
        self._touch_registers()
        return self.unit.read(offset, 4)

    async def write32(self, offset: int, value: int) -> None:
        self._touch_registers()
        self.unit.write(offset, 4, value)

    async def read64(self, offset: int) -> int:
        self._touch_registers()
        return self.unit.read(offset, 8)

    async def write64(self, offset: int, value: int) -> None:
        self._touch_registers()
        self.unit.write(offset, 8, value)

    async def read_memory(self, address: int, size: int) -> bytes:
        return self.memory.read(address, size)

    async def write_memory(self, address: int, content: bytes) -> None:
        self.memory.write(address, content)

    async def pause(self) -> None:
        self._time += 1

    def now(self) -> int:
        return self._time

    async def translate(self, request: Request) -> Result:
        """Answer a device's request."""
        self._time += 1
        return self.unit.translate(request)

    def _touch_registers(self) -> None:
        self._time += 1
        self.register_accesses += 1
