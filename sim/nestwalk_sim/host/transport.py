"""What the host stack knows of the unit and its memory: one small protocol, and what can be built on it alone."""

import errno
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from .errors import IommuError

__all__ = ["ATTEMPTS", "HostMemory", "Memory", "Mutex", "ObservedTransport", "Observer", "Transport", "poll"]

ATTEMPTS = 2000
"""Looks at a register before the unit counts as silent."""


class Transport(Protocol):
    """Registers of one unit, host memory, and time.

    Only the implementations know what is behind it: a software unit, a simulation, a board. Every access has happened
    when its call returns, so that the order of calls is the order that the unit sees. A naturally aligned access to
    memory of up to 16 bytes is atomic.
    """

    async def read32(self, offset: int) -> int:
        """Read the 32-bit register at byte ``offset``."""
        ...

    async def write32(self, offset: int, value: int) -> None:
        """Write the 32-bit register at byte ``offset``."""
        ...

    async def read64(self, offset: int) -> int:
        """Read the 64-bit register at byte ``offset``."""
        ...

    async def write64(self, offset: int, value: int) -> None:
        """Write the 64-bit register at byte ``offset``."""
        ...

    async def read_memory(self, address: int, size: int) -> bytes:
        """Read ``size`` bytes of host memory."""
        ...

    async def write_memory(self, address: int, content: bytes) -> None:
        """Write bytes to host memory."""
        ...

    async def flush_cache(self, address: int, size: int) -> None:
        """Let a unit that does not snoop the processor's caches see what was written to these bytes."""
        ...

    async def pause(self) -> None:
        """Let the unit work for a moment; everything that waits for it calls this in its loop."""
        ...

    def now(self) -> int:
        """Time since the start, in a unit of the transport's choice (clock cycles in simulation)."""
        ...


class Memory(Protocol):
    """An address space that can be read and written: host memory, or a guest's own."""

    async def read(self, address: int, size: int) -> bytes:
        """Read ``size`` bytes."""
        ...

    async def write(self, address: int, content: bytes) -> None:
        """Write bytes; naturally aligned up to 16 of them at once."""
        ...


class Observer(Protocol):
    """Who looks on: a checker that sees what the unit and its memory are told, in order, and nothing else."""

    def wrote_memory(self, address: int, content: bytes) -> None:
        """Host memory was written."""
        ...

    def read_memory(self, address: int, content: bytes) -> None:
        """Host memory was read."""
        ...

    def wrote_register(self, offset: int, value: int, size: int) -> None:
        """A register of ``size`` bytes is about to be written."""
        ...


class ObservedTransport:
    """Another transport, with observers. What the other offers besides stays reachable."""

    def __init__(self, inner: Transport):
        self.inner = inner
        self.observers: list[Observer] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def read32(self, offset: int) -> int:
        return await self.inner.read32(offset)

    async def write32(self, offset: int, value: int) -> None:
        for observer in self.observers:
            observer.wrote_register(offset, value, 4)
        await self.inner.write32(offset, value)

    async def read64(self, offset: int) -> int:
        return await self.inner.read64(offset)

    async def write64(self, offset: int, value: int) -> None:
        for observer in self.observers:
            observer.wrote_register(offset, value, 8)
        await self.inner.write64(offset, value)

    async def read_memory(self, address: int, size: int) -> bytes:
        content = await self.inner.read_memory(address, size)
        for observer in self.observers:
            observer.read_memory(address, content)
        return content

    async def write_memory(self, address: int, content: bytes) -> None:
        await self.inner.write_memory(address, content)
        for observer in self.observers:
            observer.wrote_memory(address, content)

    async def flush_cache(self, address: int, size: int) -> None:
        await self.inner.flush_cache(address, size)

    async def pause(self) -> None:
        await self.inner.pause()

    def now(self) -> int:
        return self.inner.now()


class HostMemory:
    """Host memory as the transport reaches it.

    ``snooped`` tells whether the unit sees what the processor has written but not written back; if not, each write is
    written back at once.
    """

    def __init__(self, transport: Transport):
        self._transport = transport
        self.snooped = True

    async def read(self, address: int, size: int) -> bytes:
        return await self._transport.read_memory(address, size)

    async def write(self, address: int, content: bytes) -> None:
        await self._transport.write_memory(address, content)
        if not self.snooped:
            await self._transport.flush_cache(address, len(content))


async def poll(transport: Transport, done: Callable[[], Awaitable[bool]], what: str, attempts: int = ATTEMPTS) -> None:
    """Wait until ``done`` answers true, looking at most ``attempts`` times.

    Raises
    ------
    IommuError
        ETIMEDOUT, with ``what`` was waited for.
    """
    for _ in range(attempts):
        if await done():
            return
        await transport.pause()
    raise IommuError(errno.ETIMEDOUT, f"{what}: still not so after {attempts} looks")


class Mutex:
    """A lock for coroutines of any event loop: who waits lets time pass on the transport. First come, first served."""

    def __init__(self, transport: Transport):
        self._transport = transport
        self._next_ticket = 0
        self._served = 0

    async def __aenter__(self) -> None:
        ticket = self._next_ticket
        self._next_ticket += 1
        while ticket != self._served:
            await self._transport.pause()

    async def __aexit__(self, *_exception: object) -> None:
        self._served += 1
