"""The unit in simulation as a transport of the host stack, as the translator of its endpoints, and as their bus."""

from ..host.device import Device
from ..host.endpoint import DmaFault, asking, pieces
from ..host.page_requester import PageRequester
from ..model.page_request import PageRequest, PageResponse
from ..model.request import Access, Request
from ..replay import Answer
from .unit import Bench

__all__ = ["BenchTransport", "BusEndpoint"]

PAUSE_CYCLES = 32
"""Clock cycles that pass whenever the host stack waits for the unit."""


class BenchTransport:
    """Registers over the ``csr`` port, memory through the bench's back door, requests at the core port. Time is the
    bench's.

    Parameters
    ----------
    bench : Bench
        The running simulation.
    memory_size : int
        Bytes of host memory that exist, from address 0 on.
    """

    def __init__(self, bench: Bench, memory_size: int):
        self.bench = bench
        self.memory = bench.memory
        self.memory.add_pages(range(0, memory_size, 4096))

    async def read32(self, offset: int) -> int:
        return await self.bench.csr_read(offset, 4)

    async def write32(self, offset: int, value: int) -> None:
        await self.bench.csr_write(offset, value, 4)

    async def read64(self, offset: int) -> int:
        return await self.bench.csr_read(offset, 8)

    async def write64(self, offset: int, value: int) -> None:
        await self.bench.csr_write(offset, value, 8)

    async def read_memory(self, address: int, size: int) -> bytes:
        return self.memory.read(address, size)

    async def write_memory(self, address: int, content: bytes) -> None:
        self.memory.write(address, content)

    async def flush_cache(self, address: int, size: int) -> None:
        """Nothing: no cache is before this memory."""

    async def pause(self) -> None:
        await self.bench.cycles(PAUSE_CYCLES)

    def now(self) -> int:
        return self.bench.now()

    async def translate(self, request: Request) -> Answer:
        """Send one request and wait for its answer."""
        answer = (await self.bench.translate([request]))[0]
        granted = bool(answer["granted"])
        size = int(answer["page_size"])
        return Answer(granted, int(answer["address"]), size, None if granted else int(answer["fault"]))

    async def request_page(self, request: PageRequest) -> None:
        """Send a device's page request; the unit has accepted it."""
        await self.bench.pages.send([request])

    def page_responses(self, source_id: int) -> list[PageResponse]:
        """Take the page group responses that have come for a device, oldest first."""
        return self.bench.pages.take(source_id)


class BusEndpoint:
    """The DMA engine of a device behind a whole unit: its bytes move over the ports ``dma`` and ``out``.

    Parameters
    ----------
    device : Device
        Whose requester id its bursts carry.
    bench : Bench
        The running simulation.
    requester : PageRequester, optional
        Its way to ask for pages that are missing, if it has one.
    """

    def __init__(self, device: Device, bench: Bench, requester: PageRequester | None = None):
        self.device = device
        self._bench = bench
        self._requester = requester

    async def write(self, address: int, content: bytes, pasid: int | None = None) -> None:
        """DMA write, a burst for each page; `DmaFault` at the first that ends with an error, which tells no reason."""
        for offset, size in pieces(address, len(content)):
            request = Request(self.device.source_id, pasid, address + offset, Access.WRITE)
            await self._burst(request, content[offset : offset + size], address + len(content))

    async def read(self, address: int, size: int, pasid: int | None = None) -> bytes:
        """DMA read of ``size`` bytes; errors as `write`."""
        content = b""
        for offset, length in pieces(address, size):
            request = Request(self.device.source_id, pasid, address + offset, Access.READ)
            content += await self._burst(request, length, address + size)
        return content

    async def _burst(self, request: Request, content: bytes | int, end: int) -> bytes:
        async def attempt() -> bytes:
            answer = await self._bench.dma(request.source_id, request.pasid, request.address, content)
            if answer is None:
                raise DmaFault(request, 0)
            return answer

        return await asking(self._requester, request, end, attempt)
