"""The software unit as a transport of the host stack and as the translator of endpoints."""

from collections.abc import Callable, Iterator

from nestwalk.config import IommuConfig

from ..host.audit.auditor import Cached
from ..host.device_tlb import DeviceTlb
from ..memory import Memory
from ..model.page_request import PageRequest, PageResponse
from ..model.request import Request, Result
from ..model.translate import translate
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
    coherent : bool
        Whether it announces ECAP.C and sees what the processor writes; else that stays in the processor's cache, where
        the processor finds it, until it is flushed.

    ``device_tlbs`` are the caches of devices that keep translations; ``granted`` are called with each request that was
    let through, ``blocked`` with each that was not and its fault reason, ``asked`` and ``answered`` with page requests
    and responses.
    """

    def __init__(
        self,
        size: int = 64 << 20,
        config: IommuConfig | None = None,
        *,
        caching_mode: bool = False,
        coherent: bool = True,
    ):
        self.memory = Memory()
        self._coherent = coherent
        self._dirty: dict[int, bytes] = {}
        self.memory.add_pages(range(0, size, 4096))
        self.unit = ModelUnit(self.memory, config, caching_mode=caching_mode)
        self.unit.registers.set_field("ECAP", "C", coherent)
        self.device_tlbs: dict[int, DeviceTlb] = {}
        self.granted: list[Callable[[Request], None]] = []
        self.blocked: list[Callable[[Request, int], None]] = []
        self.asked: list[Callable[[PageRequest], None]] = []
        self.answered = self.unit.page_requests.on_response
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
        content = bytearray(self.memory.read(address, size))
        for at, kept in self._dirty.items():
            if at < address + size and address < at + len(kept):
                first, last = max(at, address), min(at + len(kept), address + size)
                content[first - address : last - address] = kept[first - at : last - at]
        return bytes(content)

    async def write_memory(self, address: int, content: bytes) -> None:
        if self._coherent:
            self.memory.write(address, content)
        else:
            self._dirty[address] = content

    async def flush_cache(self, address: int, size: int) -> None:
        """What was written to these bytes reaches memory."""
        for at in [each for each in self._dirty if address <= each < address + size]:
            self.memory.write(at, self._dirty.pop(at))

    async def pause(self) -> None:
        self._time += 1

    def now(self) -> int:
        return self._time

    async def translate(self, request: Request) -> Result:
        """Answer a device's request."""
        self._time += 1
        result = self.unit.translate(request)
        for listener in self.granted if result.granted else ():
            listener(request)
        for listener in self.blocked if not result.granted else ():
            listener(request, result.fault or 0)
        return result

    async def request_page(self, request: PageRequest) -> None:
        """Send a device's page request."""
        self._time += 1
        for listener in self.asked:
            listener(request)
        self.unit.request_page(request)

    def page_responses(self, source_id: int) -> list[PageResponse]:
        """Take the page group responses that have come for a device, oldest first."""
        return self.unit.page_requests.responses.pop(source_id, [])

    def device_tlb(self, source_id: int) -> DeviceTlb:
        """The device's own cache, from now on under the unit's invalidations."""
        if source_id not in self.device_tlbs:
            self.device_tlbs[source_id] = self.unit.queue.device_tlbs[source_id] = DeviceTlb()
        return self.device_tlbs[source_id]

    def cached(self) -> Iterator[Cached]:
        """All translations that the unit and its devices keep."""
        yield from (Cached("IOTLB", request, host) for request, host in self.unit.caches.kept())
        for device_tlb in self.device_tlbs.values():
            for page in device_tlb.pages:
                yield Cached("device TLB", page.request, page.host | page.request.address & page.size - 1)

    def walk(self, request: Request) -> int | None:
        """What memory says, past all caches and without a record."""
        result = translate(self.memory, self.unit.state(), self.unit.model_config, request)
        return result.address if result.granted else None

    def _touch_registers(self) -> None:
        self._time += 1
        self.register_accesses += 1
