"""The least that a test or a benchmark needs to program the unit: root pointer, invalidation queue, fault records."""

from collections.abc import Sequence

from cocotb.triggers import Lock

from nestwalk.counters.counters import Counters
from nestwalk.counters.events import EVENTS
from nestwalk.registers.table import REGISTERS

from ..host.vtd.descriptors import Descriptor, Wait
from ..model import UnitState
from .unit import Bench

__all__ = ["CommandRegisters", "Driver", "Queue"]

TE, SRTP, QIE = 1 << 31, 1 << 30, 1 << 26
PFO, PPF = 1, 2
CONTEXT_CACHE_INVALIDATE, IOTLB_INVALIDATE = 1, 2
SCALABLE = 1
RECORD_VALID = 1 << 127
PAGE = 4096


def offset(name: str) -> int:
    return REGISTERS[name].offset


class Driver:
    """Registers of the unit behind a bench.

    Parameters
    ----------
    bench : Bench
        Just reset.
    records : int
        Fault recording registers.
    """

    def __init__(self, bench: Bench, records: int):
        self.bench = bench
        self._records = records
        self._first_record = offset("FRCD")
        self._enabled = 0  # level bits of GCMD

    async def _command(self, bit: int, on: bool) -> None:
        """One global command and its status, which has the same bit (§1.5)."""
        await self.bench.csr_write(offset("GCMD"), self._enabled | bit if on else self._enabled & ~bit)
        await self.bench.csr_poll(offset("GSTS"), bit, bit if on else 0)
        if bit != SRTP:
            self._enabled = self._enabled | bit if on else self._enabled & ~bit

    async def set_root(self, state: UnitState) -> None:
        """Set the root pointer, which forgets everything cached, and translation as ``state`` has them."""
        await self.bench.csr_write(offset("RTADDR"), state.root_table | state.ttm << 10, 8)
        await self._command(SRTP, True)
        if bool(self._enabled & TE) != state.translation_enabled:
            await self._command(TE, state.translation_enabled)

    async def disable(self) -> None:
        """Let requests pass untranslated."""
        if self._enabled & TE:
            await self._command(TE, False)

    async def start_queue(self, base: int, *, wide: bool) -> "Queue":
        """An invalidation queue of two pages at ``base`` with its status words in the page behind; makes the pages."""
        self.bench.memory.add_pages(range(base, base + 3 * PAGE, PAGE))
        await self.bench.csr_write(offset("IQT"), 0, 8)
        await self.bench.csr_write(offset("IQA"), base | wide << 11 | 1, 8)
        await self._command(QIE, True)
        return Queue(self.bench, base, wide)

    async def share(self, *, prefetch: bool = True, walk_limit: int = 0, ways: Sequence[int] = (0, 0, 0, 0)) -> None:
        """Set how devices and domains share the unit (IMPCTL, CPW); by default as after a reset."""
        control, partitions = REGISTERS["IMPCTL"], REGISTERS["CPW"]
        await self.bench.csr_write(control.offset, control.pack({"PFE": prefetch, "WL": walk_limit}))
        masks = {f"W{number}": mask for number, mask in enumerate(ways)}
        await self.bench.csr_write(partitions.offset, partitions.pack(masks))

    async def event_counts(self) -> dict[str, int]:
        """What has been counted since the reset, by event; nothing if the unit has no counters."""
        present = REGISTERS["IMPCAP"].unpack(await self.bench.csr_read(offset("IMPCAP"), 8))["ECS"]
        await self.bench.cycles(Counters.ROUND)
        counters = enumerate(EVENTS if present else ())
        return {event.name: await self.bench.csr_read(offset("EVCNT") + 8 * n, 8) for n, event in counters}

    async def drain_faults(self) -> tuple[list[int], bool]:
        """The fault records, oldest first, as 128-bit integers, and whether any were lost. Clears both."""
        status = await self.bench.csr_read(offset("FSTS"))
        records = []
        if status & PPF:
            first = status >> 8 & 0xFF
            for step in range(self._records):
                place = self._first_record + 16 * ((first + step) % self._records)
                low, high = await self.bench.csr_read(place, 8), await self.bench.csr_read(place + 8, 8)
                record = low | high << 64
                if not record & RECORD_VALID:
                    break
                records.append(record)
                await self.bench.csr_write(place + 12, 1 << 31)
        if status & PFO:
            await self.bench.csr_write(offset("FSTS"), PFO)
        return records, bool(status & PFO)


class Queue:
    """The invalidation queue, for any number of coroutines at once."""

    def __init__(self, bench: Bench, base: int, wide: bool):
        self._bench = bench
        self._base = base
        self._bytes = 32 if wide else 16
        self._slots = 2 * PAGE // self._bytes
        self.room = self._slots // 2 - 1
        """Pairs of a descriptor and a wait that fit at once."""
        self._tail = 0
        self._tickets = 0

    async def submit(self, descriptors: Sequence[Descriptor], limit: int = 400_000) -> int:
        """Queue descriptors and a wait, and return the cycle at which the wait's status became visible.

        All submitters together keep fewer slots in use than the queue has.
        """
        self._tickets += 1
        ticket = self._tickets
        status = self._base + 2 * PAGE + 8 * (ticket % (PAGE // 8))
        for descriptor in (*descriptors, Wait(status, ticket)):
            content = b"".join(word.to_bytes(8, "little") for word in descriptor.words())
            self._bench.memory.write(self._base + self._tail * self._bytes, content[: self._bytes])
            self._tail = (self._tail + 1) % self._slots
        await self._bench.csr_write(offset("IQT"), self._tail * self._bytes, 8)
        await self._bench.memory_equals(status, ticket, 0xFFFF_FFFF, limit)
        return self._bench.now()


class CommandRegisters:
    """Register-based invalidation in legacy mode (§1.7), for any number of coroutines at once.

    Takes the same descriptors as `Queue`, those of context cache and IOTLB; others mean nothing to it.
    """

    STARTED = 1 << 63

    def __init__(self, bench: Bench):
        self._bench = bench
        self._turn = Lock()

    async def submit(self, descriptors: Sequence[Descriptor], limit: int = 400_000) -> int:
        """Carry out descriptors, one after the other, and return the cycle at which the last one was done."""
        async with self._turn:
            for low, high, *_ in (descriptor.words() for descriptor in descriptors):
                granularity, domain_id = low >> 4 & 3, low >> 16 & 0xFFFF
                if low & 0xF == CONTEXT_CACHE_INVALIDATE:
                    source_id, function_mask = low >> 32 & 0xFFFF, low >> 48 & 3
                    command = granularity << 61 | function_mask << 32 | source_id << 16 | domain_id
                    await self._command("CCMD", command, granularity << 59, limit)
                elif low & 0xF == IOTLB_INVALIDATE:
                    await self._bench.csr_write(offset("IVA"), high, 8)
                    command = granularity << 60 | 3 << 48 | domain_id << 32
                    await self._command("IOTLB", command, granularity << 57, limit)
        return self._bench.now()

    async def _command(self, name: str, command: int, done: int, limit: int) -> None:
        """Start a command and wait until it is done, in the granularity asked for."""
        await self._bench.csr_write(offset(name), command | self.STARTED, 8)
        actual = REGISTERS[name].by_name["CAIG" if name == "CCMD" else "IAIG"].mask
        await self._bench.csr_poll(offset(name), self.STARTED | actual, done, 8, limit)
