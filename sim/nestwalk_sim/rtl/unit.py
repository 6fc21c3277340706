"""What a coroutine in the simulation does with the unit: registers, batches of requests, memory, interrupts, time."""

import ctypes
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from enum import IntEnum

import numpy as np
from cocotb.triggers import ValueChange

from ..model.request import Request
from .library import BenchError, Hang, library, pointer
from .memory import BenchMemory
from .pages import PagePort
from .records import ANSWER, CORE_KNOBS, REQUEST, record_of

__all__ = ["Batch", "Bench", "Interrupt", "Request", "Traffic", "request_array"]

_DONE, _LATE = 1, 2


class Interrupt(IntEnum):
    """The unit's interrupt wires."""

    FAULT = 0
    INVALIDATION = 1
    PAGE_REQUEST = 2


@dataclass(frozen=True)
class Traffic:
    """How a lane of requests is driven. The default is back to back.

    Parameters
    ----------
    max_outstanding : int
        Requests of the lane in flight at once; 0 means as many as there are tags.
    gap_percent : int
        Chance of each cycle that the lane does not offer its next request.
    response_stall_percent : int
        Chance of each cycle that the driver does not take a response; of lane 0, for all.
    seed : int
        Of what is drawn.
    """

    max_outstanding: int = 0
    gap_percent: int = 0
    response_stall_percent: int = 0
    seed: int = 0


def request_array(requests: Iterable[Request]) -> np.ndarray:
    """Requests as an array of `REQUEST` records, which `Bench.translate` takes without looking at each."""
    rows = [_row(*request) for request in requests]
    return np.array(rows, REQUEST)


def _row(
    source_id: int,
    pasid: int | None,
    address: int,
    access: int,
    privileged: bool,
    execute: bool,
    address_type: int,
    one_dword: bool,
) -> tuple[int, ...]:
    """A request in the order of `REQUEST`'s fields."""
    with_pasid = pasid is not None
    return address, pasid or 0, source_id, with_pasid, access, address_type, privileged, execute, one_dword


class Batch:
    """Requests on their way. ``await`` it for the answers.

    Attributes
    ----------
    answers : array of `ANSWER`
        Filled in as the answers come.
    """

    def __init__(self, bench: "Bench", handle: int, requests: np.ndarray, answers: np.ndarray):
        self._bench, self._handle = bench, handle
        self._requests = requests  # C++ reads them from here
        self.answers = answers

    def __await__(self):
        yield from self._bench._finished(self._handle).__await__()
        return self.answers

    @property
    def answered(self) -> int:
        """Answers that have come so far."""
        return int(self.answers["answered"].sum())

    def cancel(self) -> None:
        """Do not send what is not sent yet; ``await`` then ends with the answers to what was."""
        self._bench._library.nw_cancel(self._handle)


class Bench:
    """The unit in the simulation. The clock always runs; a new bench starts with empty memory and `reset` to come.

    Parameters
    ----------
    dut
        cocotb's handle of ``bench.sv``.

    ``memory`` is behind the unit, ``pages`` are the devices at its ``ats`` port. Every ``await`` raises `BenchError`
    when the unit has broken a protocol meanwhile, and `Hang` when what it waits for does not happen."""

    def __init__(self, dut):
        self._library = library()
        self._library.nw_restart()
        self._wake = dut.wake
        self._progress: Callable[[int, int, str], None] = lambda done, total, what: None
        self.memory = BenchMemory()
        self.pages = PagePort(self._finished)

    # --- time

    def now(self) -> int:
        """Clock edges since the simulation began."""
        return self._library.nw_now()

    async def cycles(self, count: int) -> None:
        """Let ``count`` clock cycles pass."""
        if count > 0:
            await self._finished(self._library.nw_cycles(count))

    async def reset(self, cycles: int = 4) -> None:
        """Reset the unit for some cycles. Memory keeps its content; nothing may be in flight."""
        await self._finished(self._library.nw_reset(cycles))

    async def _finished(self, handle: int, limit: int | None = None, what: str = "") -> None:
        """Sleep until C++ says that an operation is over.

        Raises
        ------
        Hang
            When it is not within ``limit`` cycles.
        """
        if limit is not None:
            self._library.nw_deadline(handle, limit)
        while True:
            self._check()
            state = self._library.nw_state(handle)
            if state:
                break
            await ValueChange(self._wake)
        self._library.nw_forget(handle)
        if state == _LATE:
            raise Hang(f"cycle {self.now()}: {what}: not within {limit} cycles")

    def _check(self) -> None:
        problem = self._library.nw_problem()
        if problem:
            self._library.nw_clear_problem()
            message = problem.decode()
            raise (Hang if "no answer" in message else BenchError)(message)

    # --- requests

    def set_traffic(self, traffic: Traffic, lane: int = 0) -> None:
        """Choose how requests of a lane (0 to 7) are driven."""
        self._library.nw_core_knobs(lane, pointer(record_of(CORE_KNOBS, **asdict(traffic))))

    def set_hang_limit(self, cycles: int) -> None:
        """After so many cycles without an answer while one is due, `Hang` is raised."""
        self._library.nw_hang_limit(cycles)

    def submit(self, requests: "Iterable[Request] | np.ndarray", lane: int = 0) -> Batch:
        """Queue requests and go on. Batches of a lane are sent in order; lanes take turns."""
        array = requests if isinstance(requests, np.ndarray) else request_array(requests)
        array = np.ascontiguousarray(array, REQUEST)
        answers = np.zeros(len(array), ANSWER)
        return Batch(self, self._library.nw_submit(lane, pointer(array), pointer(answers), len(array)), array, answers)

    async def translate(self, requests: "Iterable[Request] | np.ndarray", lane: int = 0) -> np.ndarray:
        """Send requests and wait for all answers, which come in the order of the requests (`ANSWER` records)."""
        return await self.submit(requests, lane)

    # --- the port for devices, of a whole unit

    async def dma(self, source_id: int, pasid: int | None, address: int, content: bytes | int) -> bytes | None:
        """One burst of a device: a write of some bytes, or a read of so many, within a page.

        Returns
        -------
        bytes or None
            What was read, nothing for a write; None when the burst ended with an error.
        """
        data, size = (content, len(content)) if isinstance(content, bytes) else (b"", content)
        arguments = bool(data), address, size, source_id, pasid is not None, pasid or 0, data
        handle = self._library.nw_dma(*arguments)
        await self._finished(handle, 100_000, f"DMA of {size} bytes at {address:#x}")
        read = (ctypes.c_uint8 * size)()
        if self._library.nw_dma_result(handle, None if data else read):
            return None
        return b"" if data else bytes(read)

    # --- registers

    async def csr_read(self, offset: int, size: int = 4) -> int:
        """Read a register of ``size`` bytes (4 or 8)."""
        return await self._csr(False, offset, size, 0, 0, 10_000)

    async def csr_write(self, offset: int, value: int, size: int = 4) -> None:
        """Write a register of ``size`` bytes (4 or 8)."""
        await self._csr(True, offset, size, value, 0, 10_000)

    async def csr_poll(self, offset: int, mask: int, value: int, size: int = 4, limit: int = 100_000) -> int:
        """Read a register again and again until ``register & mask == value``; the register.

        Raises
        ------
        Hang
            When it is not so within ``limit`` cycles.
        """
        return await self._csr(False, offset, size, value, mask, limit)

    async def _csr(self, write: bool, offset: int, size: int, data: int, mask: int, limit: int) -> int:
        if size not in (4, 8) or offset % size:
            raise ValueError(f"registers are accessed as aligned 4 or 8 bytes, not {size} at {offset:#x}")
        what = f"{'write' if write else 'read'} of register {offset:#05x}"
        handle = self._library.nw_csr(write, offset, size, data, mask)
        await self._finished(handle, limit, what)
        result = ctypes.c_uint64()
        response = self._library.nw_csr_result(handle, ctypes.byref(result))
        if response:
            raise BenchError(f"cycle {self.now()}: {what}: AXI response {response}")
        return result.value

    def set_csr_skew(self, percent: int) -> None:
        """Chance of each cycle that the address or the data of a register write waits while the other goes on."""
        self._library.nw_csr_skew(percent)

    # --- what the unit does by itself

    async def memory_equals(self, address: int, value: int, mask: int = 2**64 - 1, limit: int = 100_000) -> None:
        """Wait until ``memory & mask == value`` for the 64-bit word at ``address``, as after a status write."""
        handle = self._library.nw_watch_memory(address, mask, value)
        await self._finished(handle, limit, f"value {value:#x} at {address:#x}")

    def interrupt_count(self, line: Interrupt) -> int:
        """Rising edges of an interrupt wire so far."""
        return self._library.nw_interrupt_count(line)

    def interrupt_level(self, line: Interrupt) -> bool:
        """Whether an interrupt wire is high."""
        return bool(self._library.nw_interrupt_level(line))

    async def interrupt(self, line: Interrupt, count: int | None = None, limit: int = 100_000) -> None:
        """Wait for the next rising edge of an interrupt wire, or until there were ``count`` of them."""
        wanted = self.interrupt_count(line) + 1 if count is None else count
        await self._finished(self._library.nw_wait_interrupt(line, wanted), limit, f"interrupt {line.name}")

    # --- for people

    def on_progress(self, report: Callable[[int, int, str], None]) -> None:
        """Let ``report`` have what is given to `report_progress`."""
        self._progress = report

    def report_progress(self, done: int, total: int, what: str = "") -> None:
        """Tell the program that started the simulation how far it is."""
        self._progress(done, total, what)
