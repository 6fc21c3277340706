"""The page request queue (§1.13, §7): its thread, and responses (S22, R11)."""

from collections.abc import Callable
from typing import Self

from ..device import Device
from ..iopf import IopfGroup, IopfQueue, PageFault, PageResponse
from ..log import CommandLog, Trace
from ..transport import Mutex, Transport
from .contexts import DeviceState
from .descriptors import PageGroupResponse
from .pages import PAGE_SIZE, PageAllocator
from .qi import InvalidationQueue
from .regs import Capabilities, Registers

__all__ = ["PageRequestQueue", "decode"]

REQUEST_BYTES = 32
RESPONSE_CODES = {PageResponse.SUCCESS: 0, PageResponse.INVALID: 1, PageResponse.FAILURE: 0xF}
"""RC of a page group response (§7.2)."""

CANONICAL = 1 << 56
"""Addresses are sign-extended from this bit on, if not from an earlier one."""


def decode(record: bytes, device: Device) -> PageFault:
    """A page request descriptor (§7.2) of a device."""
    low, high = (int.from_bytes(record[at : at + 8], "little") for at in (0, 8))
    return PageFault(
        device=device,
        pasid=low >> 32 & 0xFFFFF if low >> 8 & 1 else None,
        group=high >> 3 & 0x1FF,
        address=high & -PAGE_SIZE,
        read=bool(high & 1),
        write=bool(high >> 1 & 1),
        execute=bool(low >> 52 & 1),
        privileged=bool(low >> 53 & 1),
        last=bool(high >> 2 & 1),
    )


def _is_stop_marker(fault: PageFault) -> bool:
    """The end of a device's use of a PASID: nothing is asked for, and nothing answered."""
    return fault.last and fault.pasid is not None and not (fault.read or fault.write)


def _is_valid(fault: PageFault) -> bool:
    """Whether a device may ask so at all: canonical, for user pages, not for execution."""
    extended = fault.address & -CANONICAL
    canonical = extended in (0, -CANONICAL & (1 << 64) - 1)
    return canonical and not fault.privileged and not (fault.execute and fault.read)


class PageRequestQueue:
    """A ring of page requests in host memory, and the thread that serves it.

    The thread has no life of its own: an interrupt, or whoever waits for it, calls `service`.

    Parameters
    ----------
    announced : bool
        Whether the unit has page requests, and can drain them.
    regs : Registers
        PQH, PQT, PQA, PRS.
    ring : int
        Host address of 2^``order`` pages.
    states : callable
        What the driver keeps of the device with a requester id, None for an unknown one.

    Attributes
    ----------
    faults : IopfQueue
        Where requests go.
    overflows : int
        How often requests were lost for want of room.
    """

    def __init__(
        self,
        announced: bool,
        transport: Transport,
        regs: Registers,
        pages: PageAllocator,
        queue: InvalidationQueue,
        log: CommandLog,
        states: Callable[[int], DeviceState | None],
        ring: int,
        order: int,
    ):
        self.announced = announced
        self._regs = regs
        self._memory = pages.memory
        self._queue = queue
        self._log = log
        self._states = states
        self._ring = ring
        self._order = order
        self._head = 0
        self._mutex = Mutex(transport)
        self.faults = IopfQueue(self._respond, transport.now)
        self.overflows = 0

    @classmethod
    async def create(
        cls,
        capabilities: Capabilities,
        transport: Transport,
        regs: Registers,
        pages: PageAllocator,
        queue: InvalidationQueue,
        log: CommandLog,
        states: Callable[[int], DeviceState | None],
        order: int = 0,
    ) -> Self:
        """A queue of 2^(``order`` + 7) requests; the unit does not know it yet. Without the capability it stays so."""
        announced = bool(capabilities["PRS"] and capabilities["PDS"])
        ring = await pages.allocate(1 << order)
        return cls(announced, transport, regs, pages, queue, log, states, ring, order)

    async def enable(self, trace: Trace) -> None:
        """Tell the unit where the queue is (R1). Context entries decide who may use it."""
        if not self.announced:
            return
        await self._regs.write("PQH", PQH=0)
        await self._regs.write("PQT", PQT=0)
        await self._regs.write("PQA", PQA=self._ring >> 12, PQS=self._order)
        trace.step(f"PQA {self._ring:#x} PQS={self._order}")

    async def service(self) -> None:
        """The thread's turn: serve what is in the queue, then clear an overflow.

        The pending bit goes first: a request that comes while the queue is read makes a new interrupt.
        """
        if not self.announced:
            return
        async with self._mutex:
            await self._regs.clear("PRS", "PPR")
            while (tail := (await self._regs.read("PQT"))["PQT"]) != self._head:
                while self._head != tail:
                    record = await self._memory.read(self._ring + REQUEST_BYTES * self._head, REQUEST_BYTES)
                    self._head = (self._head + 1) % (1 << self._order + 7)
                    await self._take(record)
                await self._regs.write("PQH", PQH=tail)
            if (await self._regs.read("PRS"))["PRO"]:
                self.overflows += 1
                self.faults.discard_partial()
                await self._regs.clear("PRS", "PRO")

    async def overflowed(self) -> bool:
        """Whether requests are being lost now."""
        return bool((await self._regs.read("PRS"))["PRO"])

    async def _take(self, record: bytes) -> None:
        source_id = int.from_bytes(record[2:4], "little")
        state = self._states(source_id)
        if state is None:
            await self._refuse_stranger(source_id, record)
            return
        fault = decode(record, state.device)
        if not _is_stop_marker(fault):
            await self.faults.report(fault, valid=_is_valid(fault))

    async def _refuse_stranger(self, source_id: int, record: bytes) -> None:
        """A device that was removed meanwhile, or never known: nobody's fault, but it may wait for an answer."""
        fault = decode(record, Device(source_id, "unknown"))
        if fault.last and not _is_stop_marker(fault):
            response = PageGroupResponse(source_id, fault.pasid, fault.group, RESPONSE_CODES[PageResponse.INVALID])
            await self._queue.submit_sync([response], self._log.trace("page_request", "R11"))

    async def _respond(self, group: IopfGroup, code: PageResponse) -> None:
        """R11: one response for the group, unless its device is gone and hears nothing (R12)."""
        state = self._states(group.device.source_id)
        if state is not None and not state.gone:
            response = PageGroupResponse(group.device.source_id, group.pasid, group.index, RESPONSE_CODES[code])
            await self._queue.submit_sync([response], self._log.trace("page_response", "R11"))
