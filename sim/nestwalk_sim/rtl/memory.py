"""The memory behind the unit's ``mem`` port as Python sees it: back-door access, behaviour, errors, a trace."""

import ctypes
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import IntEnum

import numpy as np

from nestwalk.bus.axi import AxiResponse

from ..memory import PAGE_SIZE, AccessError, ErrorKind
from .library import library, pointer
from .records import ACCESS, MEMORY_COUNTERS, MEMORY_KNOBS, record_of

__all__ = ["BenchMemory", "MemoryTiming", "Moment"]

_WRITE_FAILURE = 2
_FAILURES = {ErrorKind.READ: 0, ErrorKind.UPDATE: 1}


class Moment(IntEnum):
    """When an access meets the content of memory, between its acceptance and its answer."""

    EARLY = 0
    """As it is accepted, a beat per cycle."""
    LATE = 1
    """As it is answered."""
    RANDOM = 2
    """One or the other, drawn for each access."""


@dataclass(frozen=True)
class MemoryTiming:
    """How the memory behaves. The default is the memory model of the benchmarks with L = 1.

    Parameters
    ----------
    latency : int
        L, cycles from the acceptance of a read's address to its first beat, and of a write's last piece to its
        response; at least 1.
    jitter : int
        Further cycles of each access, drawn from 0 to this; accesses of different ids then overtake each other.
    stall_percent : int
        Chance of each cycle that a channel is not ready.
    interleave : bool
        Answer those that are due in random order (per id in order), beats of different bursts mixed.
    moment : Moment
        When an access meets memory.
    exclusives : bool
        Whether there is an exclusive monitor; without it exclusive accesses get a plain OKAY.
    exclusive_loss_percent : int
        Chance that the monitor has lost an exclusive read when its write comes.
    seed : int
        Of all that is drawn.
    """

    latency: int = 1
    jitter: int = 0
    stall_percent: int = 0
    interleave: bool = False
    moment: Moment = Moment.EARLY
    exclusives: bool = True
    exclusive_loss_percent: int = 0
    seed: int = 0


class BenchMemory:
    """Memory of the simulation, with the methods of `nestwalk_sim.memory.Memory`; they take no simulated time.

    A write through this back door clears exclusive reads of the same bytes, as one by another agent would.
    """

    def __init__(self):
        self._library = library()
        self._trace = False
        self.timing = MemoryTiming()

    # --- content

    def load(self, image: Mapping[int, bytes]) -> None:
        """Replace the whole of memory by an image (page address to 4096 bytes); injected errors are forgotten.

        Raises
        ------
        ValueError
            When a page is not aligned or not 4096 bytes long; memory is unchanged then.
        """
        for address, content in image.items():
            if address % PAGE_SIZE or len(content) != PAGE_SIZE:
                raise ValueError(
                    f"an image holds aligned pages of {PAGE_SIZE} bytes, not {len(content)} at {address:#x}"
                )
        self._library.nw_clear_memory()
        self.add_pages(image)
        for address, content in image.items():
            self.write(address, content)

    def image(self) -> dict[int, bytes]:
        """A copy of all pages, page address to bytes, ascending."""
        addresses = np.zeros(self._library.nw_page_addresses(None), np.uint64)
        self._library.nw_page_addresses(pointer(addresses))
        return {int(address): self.read(int(address), PAGE_SIZE) for address in np.sort(addresses)}

    def add_pages(self, addresses: Iterable[int]) -> None:
        """Make the pages at these addresses exist, zero-filled; pages that exist keep their content."""
        array = np.fromiter(addresses, np.uint64)
        self._library.nw_add_pages(pointer(array), len(array))

    def remove_pages(self, addresses: Iterable[int]) -> None:
        """Take pages away: accesses to them answer with DECERR."""
        array = np.fromiter(addresses, np.uint64)
        self._library.nw_remove_pages(pointer(array), len(array))

    def read(self, address: int, size: int) -> bytes:
        """Read ``size`` bytes; `AccessError` where a page does not exist."""
        buffer = ctypes.create_string_buffer(size)
        if not self._library.nw_read(address, ctypes.addressof(buffer), size):
            raise AccessError(address)
        return buffer.raw

    def read_integer(self, address: int, size: int) -> int:
        """Read ``size`` bytes as a little-endian integer; errors as `read`."""
        return int.from_bytes(self.read(address, size), "little")

    def read64(self, address: int) -> int:
        """Read the 64-bit word at ``address``; errors as `read`."""
        return self.read_integer(address, 8)

    def write(self, address: int, content: bytes) -> None:
        """Write bytes; `AccessError`, and nothing written, where a page does not exist."""
        content = bytes(content)
        if not self._library.nw_write(address, content, len(content)):
            raise AccessError(address)

    def write_integer(self, address: int, value: int, size: int) -> None:
        """Write a little-endian integer of ``size`` bytes; errors as `write`."""
        self.write(address, value.to_bytes(size, "little"))

    def write64(self, address: int, value: int) -> None:
        """Write the 64-bit word at ``address``; errors as `write`."""
        self.write_integer(address, value, 8)

    # --- behaviour

    @property
    def timing(self) -> MemoryTiming:
        """How the memory behaves; assign a `MemoryTiming` to change it, from the next access on."""
        return self._timing

    @timing.setter
    def timing(self, timing: MemoryTiming) -> None:
        if timing.latency < 1:
            raise ValueError(f"memory latency is at least 1 cycle, not {timing.latency}")
        self._timing = timing
        self._set_knobs()

    @property
    def tracing(self) -> bool:
        """Whether accesses are recorded for `trace`."""
        return self._trace

    @tracing.setter
    def tracing(self, on: bool) -> None:
        self._trace = on
        self._set_knobs()

    def _set_knobs(self) -> None:
        self._library.nw_memory_knobs(pointer(record_of(MEMORY_KNOBS, trace=self._trace, **asdict(self._timing))))

    def inject_error(
        self, address: int, size: int, kind: ErrorKind = ErrorKind.READ, response: AxiResponse = AxiResponse.SLVERR
    ) -> None:
        """Make accesses of the unit to ``size`` bytes from ``address`` on fail; the back door still reaches them.

        ``ErrorKind.UPDATE`` means that there is no exclusive monitor for these bytes.
        """
        self._library.nw_add_error(address, address + size, _FAILURES[kind], response.value)

    def inject_write_error(self, address: int, size: int, response: AxiResponse = AxiResponse.SLVERR) -> None:
        """Make writes of the unit to ``size`` bytes from ``address`` on fail."""
        self._library.nw_add_error(address, address + size, _WRITE_FAILURE, response.value)

    def clear_errors(self) -> None:
        """Forget all injected error ranges."""
        self._library.nw_clear_errors()

    def fail_access(self, nth: int = 0, *, write: bool = False, response: AxiResponse = AxiResponse.SLVERR) -> None:
        """Make the ``nth`` read (or write) from now on fail, the next one being 0."""
        self._library.nw_fail_access(write, nth, response.value)

    # --- what the unit did

    @property
    def beat_bytes(self) -> int:
        """Width of the ``mem`` port in bytes."""
        return self._library.nw_beat_bytes()

    @property
    def idle(self) -> bool:
        """Whether no access of the unit is outstanding."""
        return bool(self._library.nw_memory_idle())

    @property
    def reads(self) -> int:
        """Reads (not beats) of the unit since the simulation began."""
        return int(self.counters["reads"])

    def reads_of(self, axi_id: int) -> int:
        """Those of them with one AXI id."""
        return self._library.nw_reads_of(axi_id)

    @property
    def counters(self) -> np.void:
        """All counters: a record of `MEMORY_COUNTERS`."""
        counters = np.zeros(1, MEMORY_COUNTERS)
        self._library.nw_memory_counters(pointer(counters))
        return counters[0]

    def trace(self, start: int = 0) -> np.ndarray:
        """`ACCESS` records since the last `clear_trace`, from number ``start`` on, in the order of acceptance."""
        count = self._library.nw_trace(None, 0) - start
        accesses = np.zeros(max(count, 0), ACCESS)
        if count > 0:
            self._library.nw_trace(pointer(accesses), start)
        return accesses

    def clear_trace(self) -> None:
        """Forget the recorded accesses."""
        self._library.nw_clear_trace()
