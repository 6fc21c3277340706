"""One unit as the driver owns it: bring-up (R1), shut-down (R14), and the tables of each device behind it."""

import errno
from functools import partial
from typing import Self

from ..device import Device
from ..errors import IommuError, require
from ..inject import FailPoints
from ..ioasid import Ioasid, IoasidAllocator, IoasidSet
from ..log import CommandLog, Trace
from ..notifiers import Event, Notifier, Priority
from ..transport import HostMemory, Mutex, ObservedTransport, Transport
from ..work import WorkQueue
from .contexts import Contexts, DeviceState
from .descriptors import ContextCacheInvalidate, Descriptor, IotlbInvalidate, PasidCacheInvalidate
from .domain_ids import DomainIds
from .faults import FaultLog
from .pages import PageAllocator
from .prq import PageRequestQueue
from .qi import InvalidationQueue
from .regs import Capabilities, Registers
from .tables import RootTable

__all__ = ["SCALABLE_MODE", "Iommu"]

SCALABLE_MODE = 1
"""RTADDR.TTM of scalable mode (§1.6)."""


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
    memory : HostMemory
        Host memory; what is written to it is written back where the unit does not snoop.
    pages : PageAllocator
        Where tables and guests get theirs.
    work : WorkQueue
        Clean-up that callers which must not block have left.
    stops : WorkQueue
        Devices that have to stop before the translations of a PASID go.
    page_requests : PageRequestQueue
        What devices ask for.
    translating : bool
        Whether translation is on.
    """

    def __init__(self, transport: Transport, base: int, size: int, fail: FailPoints | None = None):
        self.transport = ObservedTransport(transport)
        self.fail = fail or FailPoints()
        self.log = CommandLog(transport.now)
        self.regs = Registers(self.transport)
        self.memory = HostMemory(self.transport)
        self.pages = PageAllocator(self.memory, base, size, self.fail)
        self.work = WorkQueue(self.transport)
        self.stops = WorkQueue(self.transport)
        self.ioasids = IoasidAllocator(self.fail)
        self.ioasids.notifiers.register(Notifier("iommu", Priority.IOMMU, self._on_pasid))
        self.pasid_mutex = Mutex(self.transport)
        self.translating = False
        self.capabilities: Capabilities
        self.contexts: Contexts
        self.domain_ids: DomainIds
        self.faults: FaultLog
        self.root: RootTable
        self.queue: InvalidationQueue
        self.page_requests: PageRequestQueue

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
        iommu.memory.snooped = bool(iommu.capabilities["C"])
        if not iommu.capabilities["SMTS"]:
            raise IommuError(errno.ENODEV, "the unit has no scalable mode")
        iommu.domain_ids = DomainIds(iommu.capabilities.domain_ids, iommu.fail)
        iommu.faults = FaultLog(iommu.regs, iommu.capabilities.fault_record_offset, iommu.capabilities.fault_records)
        iommu.root = await RootTable.create(iommu.pages)
        iommu.queue = await InvalidationQueue.create(iommu.transport, iommu.regs, iommu.pages, size_code=1)
        iommu.queue.give_up_on = iommu.give_up_on
        iommu.contexts = Contexts(iommu.pages, iommu.fail, iommu.log, iommu.capabilities, iommu.queue, iommu.root)
        iommu.page_requests = await PageRequestQueue.create(
            iommu.capabilities,
            iommu.transport,
            iommu.regs,
            iommu.pages,
            iommu.queue,
            iommu.log,
            iommu.contexts.devices.get,
        )
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
        await self.page_requests.enable(trace)
        await self.regs.global_command("TE", True, trace)
        self.translating = True

    async def disable(self) -> None:
        """R14: translation off, then the queue once it is empty."""
        trace = self.log.trace("disable", "R14")
        self.translating = False
        await self.regs.global_command("TE", False, trace)
        await self.queue.disable(trace)

    @property
    def devices(self) -> dict[int, DeviceState]:
        """The devices by requester id."""
        return self.contexts.devices

    async def add_device(self, device: Device) -> DeviceState:
        """Make a device known; see `Contexts.add`."""
        return await self.contexts.add(device)

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
        """What the driver keeps of a device; see `Contexts.state_of`."""
        return self.contexts.state_of(device)

    def give_up_on(self, source_id: int) -> None:
        """The device answers no invalidation: it may use stale translations, so block all that it sends (S10)."""
        state = self.devices[source_id]
        if not state.gone:
            state.gone = True
            self.work.add(partial(self.contexts.quarantine, state))

    async def readmit(self, device: Device) -> None:
        """Let a quarantined device back in after it was reset (R12).

        Raises
        ------
        IommuError
            EBUSY for a device that is not out, ENODEV for one that still answers nothing.
        """
        await self.work.flush()
        state = self.state_of(device)
        require(state.gone, f"{device} is not out", errno.EBUSY)
        await self.contexts.readmit(state)

    async def settle_new_entry(self, flush: list[Descriptor], trace: Trace) -> None:
        """After a not-present entry became present: flush it in caching mode, else flush write buffers if the unit has
        some (R2).
        """
        if self.capabilities["CM"]:
            await self.queue.submit_sync(flush, trace)
        elif self.capabilities["RWBF"]:
            await self.regs.global_command("WBF", True, trace)
