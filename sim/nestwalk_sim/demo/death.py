"""The end of a guest in the middle of a DMA: memory that lets something happen between two pages of a transfer."""

from collections.abc import Awaitable, Callable

from ..host.transport import Memory
from ..host.vtd.pages import PAGE_SIZE, PageAllocator, poison

__all__ = ["Interrupted", "untouched"]


class Interrupted:
    """A device's view of memory in which ``event`` happens when its first write has arrived.

    Parameters
    ----------
    memory : Memory
        The memory itself.
    event : callable
        Awaited once.
    """

    def __init__(self, memory: Memory, event: Callable[[], Awaitable[object]]):
        self._memory = memory
        self._event: Callable[[], Awaitable[object]] | None = event

    async def read(self, address: int, size: int) -> bytes:
        return await self._memory.read(address, size)

    async def write(self, address: int, content: bytes) -> None:
        await self._memory.write(address, content)
        event, self._event = self._event, None
        if event is not None:
            await event()


async def untouched(pages: PageAllocator, frames: list[int]) -> bool:
    """Whether freed pages hold nothing but what they were filled with when they were freed."""
    for frame in frames:
        filling = poison(pages.generation(frame)).to_bytes(8, "little") * (PAGE_SIZE // 8)
        if frame not in pages.freed or await pages.memory.read(frame, PAGE_SIZE) != filling:
            return False
    return True
