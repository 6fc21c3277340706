"""One unit as the driver owns it: bring-up (R1), shut-down (R14), and the tables of each device behind it."""

import errno
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import Self

from ..device import Device
from ..errors import IommuError
from ..inject import FailPoints
from ..ioasid import Ioasid, IoasidAllocator, IoasidSet
from ..log import CommandLog, Trace
from ..notifiers import Event, Notifier, Priority
from ..transport import HostMemory, Mutex, ObservedTransport, Transport
from ..work import WorkQueue
from .descriptors import ContextCacheInvalidate, Descriptor, IotlbInvalidate, PasidCacheInvalidate
from .faults import FaultLog
from .pages import PageAllocator
from .qi import InvalidationQueue
from .regs import Capabilities, Registers
from .tables import PRESENT, ContextEntry, PasidEntry, PasidTable, RootTable, read_words, write_entry

__all__ = ["DeviceState", "DomainIds", "Iommu", "SCALABLE_MODE"]

SCALABLE_MODE = 1
"""RTADDR.TTM of scalable mode (§1.6)."""


class DomainIds:
    """Domain identifiers of one unit. 0 and 1 are never handed out: caching mode and first-stage tables reserve
    them.
    """

    FIRST = 2

    def __init__(self, count: int, fail: FailPoints):
        self._fail = fail
        self._next = self.FIRST
        self._end = count
        self._freed: deque[int] = deque()
        self.used: set[int] = set()

    def allocate(self) -> int:
        """A free identifier, fresh ones first.

        Raises
        ------
        IommuError
            ENOSPC when all are in use.
        """
        self._fail.reach("domain id")
        if self._next < self._end:
            domain_id, self._next = self._next, self._next + 1
        elif self._freed:
            domain_id = self._freed.popleft()
        else:
            raise IommuError(errno.ENOSPC, f"all {self._end - self.FIRST} domain identifiers are in use")
        self.used.add(domain_id)
        return domain_id

    def free(self, domain_id: int) -> None:
        """Give an identifier back; nothing may be cached under it any more."""
        self.used.remove(domain_id)
        self._freed.append(domain_id)


@dataclass
class DeviceState:
    """What the driver keeps of one device: its PASID table, where its context entry lies, and whether it may use
    PASIDs yet.

    ``domain_id`` is the tag of its requests-without-PASID, None while they are blocked. ``entries`` are its present
    PASID-table entries by PASID, as they were asked for. ``undrained`` are PASIDs, with the DID they had, whose page
    requests may still be under way. A device that is ``gone`` answers nothing any more.
    """

    device: Device
    table: PasidTable
    context_address: int
    pasid_enabled: bool = False
    domain_id: int | None = None
    entries: dict[int, PasidEntry] = field(default_factory=dict)
    undrained: dict[int, int] = field(default_factory=dict)
    gone: bool = False


class Iommu:
    """A unit under the driver's control. Make one with `create`.

    Attributes
    ----------
    log : CommandLog
        Everything sent to the unit.
    fail : FailPoints
        Fault injection.
    ioasids : IoasidAllocator
        Host PASIDs.
    pages : PageAllocator
        Host memory for tables and guests.
    work : WorkQueue
        Clean-up that callers which must not block have left.
    translating : bool
        Whether translation is on.
    """

    def __init__(self, transport: Transport, base: int, size: int, fail: FailPoints | None = None):
        self.transport = ObservedTransport(transport)
        self.fail = fail or FailPoints()
        self.log = CommandLog(transport.now)
        self.regs = Registers(self.transport)
        self.pages = PageAllocator(HostMemory(self.transport), base, size, self.fail)
        self.work = WorkQueue(self.transport)
        self.ioasids = IoasidAllocator(self.fail)
        self.ioasids.notifiers.register(Notifier("iommu", Priority.IOMMU, self._on_pasid))
        self.pasid_mutex = Mutex(self.transport)
        self.translating = False
        self.devices: dict[int, DeviceState] = {}
        self.capabilities: Capabilities
        self.domain_ids: DomainIds
        self.faults: FaultLog
        self.root: RootTable
        self.queue: InvalidationQueue

    @classmethod
    async def create(cls, transport: Transport, base: int, size: int, fail: FailPoints | None = None) -> Self:
        """Find out what the unit can do and prepare an empty root table and a queue of 256 descriptors.

        Parameters
        ----------
        base, size : int
            The region of host memory that the driver may use, in bytes.

        Raises
        ------
        IommuError
            ENODEV when the unit has no scalable mode.
        """
        iommu = cls(transport, base, size, fail)
        iommu.capabilities = await Capabilities.read(iommu.regs)
        if not iommu.capabilities["SMTS"]:
            raise IommuError(errno.ENODEV, "the unit has no scalable mode")
        iommu.domain_ids = DomainIds(iommu.capabilities.domain_ids, iommu.fail)
        iommu.faults = FaultLog(iommu.regs, iommu.capabilities.fault_record_offset, iommu.capabilities.fault_records)
        iommu.root = await RootTable.create(iommu.pages)
        iommu.queue = await InvalidationQueue.create(iommu.transport, iommu.regs, iommu.pages, size_code=1)
        iommu.queue.give_up_on = iommu.give_up_on
        return iommu

    async def enable(self) -> None:
        """R1: queue first, for PASID caches can be invalidated through it only; then root table, caches,
        translation.
        """
        trace = self.log.trace("enable", "R1")
        await self.queue.enable(trace)
        await self.regs.write("RTADDR", RTA=self.root.address >> 12, TTM=SCALABLE_MODE)
        trace.step(f"RTADDR {self.root.address:#x} scalable mode")
        await self.regs.global_command("SRTP", True, trace)
        everything: list[Descriptor] = [ContextCacheInvalidate(), PasidCacheInvalidate(), IotlbInvalidate()]
        await self.queue.submit_sync(everything, trace)
        await self.regs.global_command("TE", True, trace)
        self.translating = True

    async def disable(self) -> None:
        """R14: translation off, then the queue once it is empty."""
        trace = self.log.trace("disable", "R14")
        self.translating = False
        await self.regs.global_command("TE", False, trace)
        await self.queue.disable(trace)

    async def add_device(self, device: Device) -> DeviceState:
        """Give a device an empty PASID table: all that it does is blocked until something is attached or bound.

        Raises
        ------
        IommuError
            EBUSY when the requester id is taken, ENOMEM.
        """
        if device.source_id in self.devices:
            raise IommuError(errno.EBUSY, f"{device} is known already")
        trace = self.log.trace("add_device", "R15")
        context_address = await self.root.context_entry(device.source_id)
        table = await PasidTable.create(self.pages, device.pasid_bits)
        entry = ContextEntry(table.directory, table.directory_size, device_tlb_enable=device.ats)
        await write_entry(self.pages.memory, context_address, entry.words())
        trace.step(f"context entry of {device} at {context_address:#x}, PASID directory {table.directory:#x}")
        if self.capabilities["CM"]:
            await self.queue.submit_sync([ContextCacheInvalidate(device.source_id)], trace)
        state = self.devices[device.source_id] = DeviceState(device, table, context_address)
        return state

    def _on_pasid(self, event: Event, ioasid: Ioasid) -> None:
        """A PASID was freed while something is bound to it: take the translations away as soon as possible (S13)."""
        if event is Event.FREE and ioasid.data is not None:
            self.work.add(ioasid.data.release)

    async def free_set(self, owner: IoasidSet) -> None:
        """The owner of a set is gone and will unbind nothing any more: end all of its bindings (S14)."""
        self.ioasids.free_set(owner)
        for ioasid in self.ioasids.of_set(owner):
            if ioasid.data is not None:
                self.work.add(ioasid.data.release)
        await self.work.flush()

    def state_of(self, device: Device) -> DeviceState:
        """What the driver keeps of a device.

        Raises
        ------
        IommuError
            EINVAL when this unit does not know the device.
        """
        state = self.devices.get(device.source_id)
        if state is None or state.device is not device:
            raise IommuError(errno.EINVAL, f"{device} is not behind this unit")
        return state

    def give_up_on(self, source_id: int) -> None:
        """The device answers no invalidation: it may use stale translations, so block all that it sends (S10)."""
        state = self.devices[source_id]
        if not state.gone:
            state.gone = True
            self.work.add(partial(self._quarantine, state))

    async def _quarantine(self, state: DeviceState) -> None:
        """R15: take the context entry away. What is bound stays so, and can be unbound as ever."""
        trace = self.log.trace("quarantine", "R15")
        words = await read_words(self.pages.memory, state.context_address, 2)
        absent = (words[0] & ~PRESENT | words[1] << 64).to_bytes(16, "little")
        await self.pages.memory.write(state.context_address, absent)
        trace.step(f"context entry of {state.device}: P=0")
        flush: list[Descriptor] = [ContextCacheInvalidate(state.device.source_id)]
        for domain_id in sorted({entry.domain_id for entry in state.entries.values()}):
            flush += [PasidCacheInvalidate(domain_id), IotlbInvalidate(domain_id)]
        await self.queue.submit_sync(flush, trace)

    async def enable_pasid(self, state: DeviceState, trace: Trace) -> None:
        """Set PASIDE in the context entry, once for each device, and flush what may be cached of the old entry (S01,
        §6.1).
        """
        self.fail.reach("pasid enable")
        if state.pasid_enabled:
            return
        table, device = state.table, state.device
        entry = ContextEntry(table.directory, table.directory_size, True, device.ats)
        await write_entry(self.pages.memory, state.context_address, entry.words())
        trace.step(f"context entry of {device}: PASIDE=1")
        flush: list[Descriptor] = [ContextCacheInvalidate(device.source_id)]
        if state.domain_id is not None:
            flush += [PasidCacheInvalidate(state.domain_id), IotlbInvalidate(state.domain_id)]
        await self.queue.submit_sync(flush, trace)
        state.pasid_enabled = True

    async def settle_new_entry(self, flush: list[Descriptor], trace: Trace) -> None:
        """After a not-present entry became present: flush it in caching mode, else flush write buffers if the unit has
        some (R2).
        """
        if self.capabilities["CM"]:
            await self.queue.submit_sync(flush, trace)
        elif self.capabilities["RWBF"]:
            await self.regs.global_command("WBF", True, trace)
