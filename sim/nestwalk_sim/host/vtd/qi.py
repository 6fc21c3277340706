"""The invalidation queue (§1.11, §5): descriptors in, completion by status write, recovery from a queue error (R13)."""

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from ..errors import IommuError
from ..log import Trace
from ..transport import ATTEMPTS, Mutex, Transport, poll
from .descriptors import Descriptor, DeviceTlbInvalidate, PasidDeviceTlbInvalidate, Wait
from .pages import PAGE_SIZE, PageAllocator
from .regs import Registers

__all__ = ["InvalidationQueue"]

DONE = 0x00D0_0000
"""Upper bits of the status that a completed wait descriptor writes; its slot number fills the rest."""

PATIENCE = 200
"""Looks at the queue for each descriptor in it before the unit counts as silent: some sweep whole caches."""

MENDABLE_ERRORS = {2: "descriptor fetch", 3: "descriptor type", 4: "reserved field"}
"""IQEI codes that belong to the descriptor at the head, so that replacing it mends the queue (§1.11)."""


def _target(descriptor: Descriptor) -> int | None:
    """The device that an invalidation goes to."""
    to_device = isinstance(descriptor, (DeviceTlbInvalidate, PasidDeviceTlbInvalidate))
    return descriptor.source_id if to_device else None


@dataclass
class _Batch:
    """Descriptors submitted together, ending with their own wait.

    ``silent`` is the requester id that a time-out named when it aborted the wait.
    """

    slots: range
    error: str | None = None
    silent: int | None = None


class InvalidationQueue:
    """A ring of descriptors in host memory.

    Submitters share the ring: each takes consecutive slots for its descriptors and a wait, moves the tail, and sleeps
    until its wait's status word appears. One slot always stays free, so that a full ring does not look empty.

    Parameters
    ----------
    regs : Registers
        IQA, IQT, IQH, FSTS, IQERCD.
    ring, status : int
        Host addresses of the ring and of one 32-bit status word for each slot.
    size_code : int
        IQA.QS: the ring has 2^QS pages.
    wide : bool
        256-bit descriptors (IQA.DW), needed in scalable mode.

    Attributes
    ----------
    give_up_on : callable
        Told the requester id of a device that did not answer twice; nothing is sent to it any more (R12).
    """

    def __init__(
        self,
        transport: Transport,
        regs: Registers,
        pages: PageAllocator,
        ring: int,
        status: int,
        size_code: int,
        wide: bool,
    ):
        self._transport = transport
        self._regs = regs
        self._memory = pages.memory
        self._fail = pages.fail
        self._ring = ring
        self._status = status
        self._size_code = size_code
        self._wide = wide
        self._bytes = 32 if wide else 16
        self.slots = (PAGE_SIZE << size_code) // self._bytes
        self._tail = 0
        self._used = 0
        self._batches: list[_Batch] = []
        self._mutex = Mutex(transport)
        self.give_up_on: Callable[[int], None] = lambda source_id: None

    @classmethod
    async def create(
        cls, transport: Transport, regs: Registers, pages: PageAllocator, size_code: int = 0, wide: bool = True
    ) -> Self:
        """A queue of 2^``size_code`` pages with its status words; the unit does not know it yet."""
        ring = await pages.allocate(1 << size_code)
        slots = (PAGE_SIZE << size_code) // (32 if wide else 16)
        status = await pages.allocate(-(-slots * 4 // PAGE_SIZE))
        return cls(transport, regs, pages, ring, status, size_code, wide)

    async def enable(self, trace: Trace) -> None:
        """Tell the unit where the ring is and let it fetch. Tail first: it must be 0 when fetching starts."""
        await self._regs.write("IQT", QT=0)
        await self._regs.write("IQA", IQA=self._ring >> 12, DW=self._wide, QS=self._size_code)
        trace.step(f"IQT 0; IQA {self._ring:#x} DW={int(self._wide)} QS={self._size_code}")
        await self._regs.global_command("QIE", True, trace)

    async def disable(self, trace: Trace) -> None:
        """Wait until the unit has consumed everything, then stop it. The next `enable` starts at slot 0."""

        async def empty() -> bool:
            return (await self._regs.read("IQH"))["QH"] == (await self._regs.read("IQT"))["QT"]

        await poll(self._transport, empty, "invalidation queue empty", self._patience(self.slots))
        await self._regs.global_command("QIE", False, trace)
        self._tail = 0

    async def submit_sync(
        self, descriptors: Sequence[Descriptor], trace: Trace, *, fence: bool = False, drain_page_requests: bool = False
    ) -> None:
        """Queue descriptors and a wait behind them, and return when the wait has completed.

        Parameters
        ----------
        descriptors : sequence of Descriptor
            At most all slots but two; none makes a bare wait.
        trace : Trace
            Each descriptor becomes a step of this log.
        fence, drain_page_requests : bool
            FN and PD of the wait descriptor.

        A time-out of a device aborts the waits of all that were under way: they are submitted again, the device's own
        invalidations once (R13).

        Raises
        ------
        IommuError
            EINVAL when the unit refused one of these descriptors (the others are done), E2BIG for too many of them,
            EIO for an error that no descriptor explains, ETIMEDOUT when the unit is silent.
        """
        wanted, reminded = list(descriptors), False
        while (silent := await self._attempt(wanted, trace, fence, drain_page_requests)) is not None:
            trace.step(f"device {silent:04x} did not answer: submitted again")
            theirs = [each for each in wanted if _target(each) == silent]
            if theirs and reminded:
                self.give_up_on(silent)
                wanted = [each for each in wanted if each not in theirs]
            reminded = reminded or bool(theirs)

    async def _attempt(
        self, descriptors: Sequence[Descriptor], trace: Trace, fence: bool, drain_page_requests: bool
    ) -> int | None:
        """One submission; the requester id of the device whose time-out aborted it, if that happened."""
        needed = len(descriptors) + 1
        if needed > self.slots - 1:
            raise IommuError(errno.E2BIG, f"{len(descriptors)} descriptors do not fit a queue of {self.slots} slots")
        self._fail.reach("queue slot", errno.ETIMEDOUT)
        batch = None
        while batch is None:
            # Not under the mutex: who frees slots may need it to mend the queue first.
            room = f"{needed} free slots in the invalidation queue"
            await poll(self._transport, lambda: self._has_room(needed), room, self._patience(self.slots))
            async with self._mutex:
                if await self._has_room(needed):
                    batch = await self._post(descriptors, trace, fence, drain_page_requests)
        try:
            what = f"wait descriptor in slot {batch.slots[-1] % self.slots}"
            ahead = sum(len(other.slots) for other in self._batches[: self._batches.index(batch) + 1])
            await poll(self._transport, lambda: self._completed(batch), what, self._patience(ahead))
        finally:
            self._retire(batch)
        if batch.error is not None:
            raise IommuError(errno.EINVAL, batch.error)
        return batch.silent

    @staticmethod
    def _patience(descriptors: int) -> int:
        """Looks before a unit with so many descriptors to execute counts as silent."""
        return ATTEMPTS + PATIENCE * descriptors

    async def _has_room(self, needed: int) -> bool:
        return self._used + needed < self.slots

    async def _post(
        self, descriptors: Sequence[Descriptor], trace: Trace, fence: bool, drain_page_requests: bool
    ) -> _Batch:
        """Write the slots, then the tail. The status word is cleared before the unit can see the wait."""
        first = self._tail
        batch = _Batch(range(first, first + len(descriptors) + 1))
        last = batch.slots[-1] % self.slots
        await self._memory.write(self._status_address(last), bytes(4))
        wait = self._wait(last, fence, drain_page_requests)
        for slot, descriptor in zip(batch.slots, [*descriptors, wait], strict=True):
            await self._write_slot(slot % self.slots, descriptor)
            trace.step(f"queue[{slot % self.slots}] {descriptor}")
        self._tail = batch.slots.stop % self.slots
        self._used += len(batch.slots)
        self._batches.append(batch)
        await self._regs.write("IQT", QT=self._tail * self._bytes // 16)
        return batch

    async def _write_slot(self, slot: int, descriptor: Descriptor) -> None:
        content = b"".join(word.to_bytes(8, "little") for word in descriptor.words())
        await self._memory.write(self._ring + slot * self._bytes, content[: self._bytes])

    def _wait(self, slot: int, fence: bool = False, drain_page_requests: bool = False) -> Wait:
        """The wait of a batch that ends in ``slot``."""
        return Wait(self._status_address(slot), DONE | slot, fence, drain_page_requests)

    def _status_address(self, slot: int) -> int:
        return self._status + 4 * slot

    async def _completed(self, batch: _Batch) -> bool:
        """Whether the batch's wait has written its status; a queue error met meanwhile, of any batch, is mended
        here.
        """
        last = batch.slots[-1] % self.slots
        status = int.from_bytes(await self._memory.read(self._status_address(last), 4), "little")
        if status == DONE | last or batch.silent is not None:
            return True
        fault = await self._regs.read("FSTS")
        if fault["IQE"]:
            await self._recover()
        if fault["ITE"]:
            await self._recover_from_timeout()
        return False

    async def _recover(self) -> None:
        """R13: put a wait over the bad descriptor, clear IQE. Its submitter is told; the unit goes on at the head."""
        async with self._mutex:
            if not (await self._regs.read("FSTS"))["IQE"]:
                return
            code = (await self._regs.read("IQERCD"))["IQEI"]
            head = (await self._regs.read("IQH"))["QH"] * 16 // self._bytes
            owner = next((b for b in self._batches if head in (slot % self.slots for slot in b.slots)), None)
            if code not in MENDABLE_ERRORS or owner is None:
                raise IommuError(errno.EIO, f"invalidation queue stopped at slot {head} with IQEI {code}")
            owner.error = f"the unit refused the descriptor in slot {head}: {MENDABLE_ERRORS[code]} (IQEI {code})"
            last = owner.slots[-1] % self.slots
            await self._write_slot(head, self._wait(last) if head == last else Wait())
            await self._regs.write("FSTS", IQE=1)

    async def _recover_from_timeout(self) -> None:
        """R13: waits that the unit has taken and not completed are aborted; clear ITE, and it goes on at the head."""
        async with self._mutex:
            if not (await self._regs.read("FSTS"))["ITE"]:
                return
            silent = (await self._regs.read("IQERCD"))["ITESID"]
            head = (await self._regs.read("IQH"))["QH"] * 16 // self._bytes
            oldest = self._batches[0].slots.start if self._batches else self._tail
            for batch in self._batches:
                last = batch.slots[-1]
                status = await self._memory.read(self._status_address(last % self.slots), 4)
                if (last - oldest) % self.slots < (head - oldest) % self.slots and not any(status):
                    batch.silent = silent
            await self._regs.write("FSTS", ITE=1)

    def _retire(self, batch: _Batch) -> None:
        """Free the batch's slots. Slots are freed in ring order: those behind an unfinished batch stay in use."""
        self._batches.remove(batch)
        oldest = self._batches[0].slots.start if self._batches else self._tail
        self._used = (self._tail - oldest) % self.slots
