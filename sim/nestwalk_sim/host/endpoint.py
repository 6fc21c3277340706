"""A device model that issues DMA: it asks for each page's translation, then moves real bytes in host memory."""

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from ..model.request import Access, Request
from .device import Device
from .device_tlb import DeviceTlb
from .page_requester import PageRequester
from .transport import Memory

__all__ = ["Answer", "DmaFault", "Endpoint", "Translator", "asking", "pieces"]

PAGE_SIZE = 4096

Outcome = TypeVar("Outcome")


class Answer(Protocol):
    """What a device learns of a request: granted with a host address (bytes), or blocked with a fault reason code
    (§4).
    """

    @property
    def granted(self) -> bool: ...

    @property
    def address(self) -> int: ...

    @property
    def page_size(self) -> int: ...

    @property
    def fault(self) -> int | None: ...


class Translator(Protocol):
    """Whoever answers translation requests: a unit's core port, or the software unit."""

    async def translate(self, request: Request) -> Answer:
        """Answer one request. Latency is the unit's."""
        ...


class DmaFault(Exception):
    """A DMA was blocked. Bytes of earlier pages have moved.

    Parameters
    ----------
    request : Request
        The request that was blocked.
    reason : int
        Fault reason code of §4.
    """

    def __init__(self, request: Request, reason: int):
        super().__init__(f"{request.access.name.lower()} at {request.address:#x} blocked, reason {reason:02x}h")
        self.request = request
        self.reason = reason


class Endpoint:
    """The DMA engine of one device.

    Parameters
    ----------
    device : Device
        Whose requester id its requests carry.
    translator : Translator
        The unit between it and memory.
    memory : Memory
        Host memory.
    device_tlb : DeviceTlb, optional
        Where it keeps translations, if it does.
    requester : PageRequester, optional
        Its way to ask for pages that are missing, if it has one.
    """

    def __init__(
        self,
        device: Device,
        translator: Translator,
        memory: Memory,
        device_tlb: DeviceTlb | None = None,
        requester: PageRequester | None = None,
    ):
        self.device = device
        self.device_tlb = device_tlb
        self.requester = requester
        self._translator = translator
        self._memory = memory

    async def write(self, address: int, content: bytes, pasid: int | None = None, *, privileged: bool = False) -> None:
        """DMA write.

        Raises
        ------
        DmaFault
            At the first page that is blocked.
        """
        end = address + len(content)
        for offset, size in pieces(address, len(content)):
            request = Request(self.device.source_id, pasid, address + offset, Access.WRITE, privileged)
            host = await self._reach(request, end)
            await self._memory.write(host, content[offset : offset + size])

    async def read(self, address: int, size: int, pasid: int | None = None, *, privileged: bool = False) -> bytes:
        """DMA read of ``size`` bytes; errors as `write`."""
        content = b""
        for offset, length in pieces(address, size):
            request = Request(self.device.source_id, pasid, address + offset, Access.READ, privileged)
            host = await self._reach(request, address + size)
            content += await self._memory.read(host, length)
        return content

    async def _reach(self, request: Request, end: int) -> int:
        """The host address for a request; pages that are missing up to ``end`` are asked for."""
        return await asking(self.requester, request, end, lambda: self._translate(request))

    async def _translate(self, request: Request) -> int:
        cached = self.device_tlb.look_up(request) if self.device_tlb is not None else None
        if cached is not None:
            return cached
        answer = await self._translator.translate(request)
        if not answer.granted:
            raise DmaFault(request, answer.fault or 0)
        if self.device_tlb is not None:
            self.device_tlb.fill(request, answer.address, answer.page_size)
        return answer.address


async def asking(
    requester: PageRequester | None, request: Request, end: int, attempt: Callable[[], Awaitable[Outcome]]
) -> Outcome:
    """Try a request; when it is blocked, ask for all pages from there to ``end`` in one group and try again, if the
    device can ask and the host gives them.
    """
    try:
        return await attempt()
    except DmaFault:
        missing = list(range(request.address & -PAGE_SIZE, end, PAGE_SIZE))
        write, privileged = request.access is Access.WRITE, request.privileged
        given = requester and await requester.ask(missing, request.pasid, write=write, privileged=privileged)
        if not given:
            raise
        return await attempt()


def pieces(address: int, size: int) -> list[tuple[int, int]]:
    """Offsets and lengths of the parts of a transfer that lie in one page each."""
    pieces: list[tuple[int, int]] = []
    offset = 0
    while offset < size:
        length = min(size - offset, PAGE_SIZE - (address + offset) % PAGE_SIZE)
        pieces.append((offset, length))
        offset += length
    return pieces
