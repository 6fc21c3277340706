"""A device composition module (S25): it makes mediated devices of one parent's queues, and programs PASIDs in them."""

import errno
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from .device import Device
from .endpoint import Endpoint
from .errors import IommuError, require
from .ioasid import Ioasid, IoasidSet
from .notifiers import Event, Notifier, Priority
from .vtd.unit import Iommu

__all__ = ["MediatedDevice", "ParentDriver", "WorkItem"]

HOLDER = "vdcm"


@dataclass(frozen=True)
class WorkItem:
    """A DMA write that a queue shall do."""

    address: int
    content: bytes


@dataclass(eq=False)
class _Queue:
    """One of the parent's queues: the PASID that it tags its DMA with, and the work that waits."""

    ioasid: Ioasid | None = None
    work: list[WorkItem] = field(default_factory=list)
    accepts: bool = False


class ParentDriver:
    """The driver of a physical function that is shared.

    Parameters
    ----------
    iommu : Iommu
        The unit before it.
    device : Device
        The function, made for auxiliary domains.
    endpoint : Endpoint
        Its DMA engine.
    queues : int
        How many it has to give away.
    on_stop : callable, optional
        Awaited while a queue stops: how long the device takes, ETIMEDOUT if it does not stop at all. It is reset then.
    """

    def __init__(
        self,
        iommu: Iommu,
        device: Device,
        endpoint: Endpoint,
        queues: int,
        on_stop: Callable[[], Awaitable[None]] | None = None,
    ):
        require(device.aux_domains, f"{device} is not shared", errno.EPERM)
        self.iommu = iommu
        self.device = device
        self._endpoint = endpoint
        self._free = [_Queue() for _ in range(queues)]
        self._on_stop = on_stop
        self.mediated: list[MediatedDevice] = []
        self.resets = 0
        iommu.ioasids.notifiers.register(Notifier("vdcm", Priority.DEVICE, self._on_pasid))

    def create(self, owner: IoasidSet) -> "MediatedDevice":
        """Give a machine a queue of its own; ENOSPC when there is none."""
        require(self._free, f"{self.device} has no queue left", errno.ENOSPC)
        made = MediatedDevice(self, owner, self._free.pop())
        self.mediated.append(made)
        return made

    def destroy(self, mediated: "MediatedDevice") -> None:
        """Take a queue back; EBUSY while it is programmed."""
        require(mediated.pasid is None, "the queue is in use", errno.EBUSY)
        self.mediated.remove(mediated)
        self._free.append(mediated.queue)

    def holds(self, pasid: int) -> int:
        """References to a host PASID."""
        return sum(each.pasid == pasid for each in self.mediated)

    def submit(self, pasid: int, work: WorkItem) -> None:
        """Work arrives at the shared portal; EINVAL when no queue that accepts any has this PASID."""
        for each in self.mediated:
            if each.pasid == pasid and each.queue.accepts:
                each.queue.work.append(work)
                return
        raise IommuError(errno.EINVAL, f"no queue of {self.device} has PASID {pasid}")

    async def run(self) -> int:
        """Do the work that waits in all queues; how many pieces it was."""
        done = 0
        for each in self.mediated:
            while each.queue.work and each.pasid is not None:
                item = each.queue.work.pop(0)
                await self._endpoint.write(item.address, item.content, each.pasid)
                done += 1
        return done

    def _on_pasid(self, event: Event, ioasid: Ioasid) -> None:
        """The end of a PASID: take no more work for it now, and stop its queues before its translations go."""
        if event in (Event.UNBIND, Event.FREE):
            for each in self.mediated:
                if each.queue.ioasid is ioasid:
                    each.queue.accepts = False
                    self.iommu.stops.add(each.stop)

    async def stop(self, queue: _Queue) -> None:
        """Abort what waits and wait until the device has done what it began."""
        queue.accepts = False
        queue.work.clear()
        if self._on_stop is not None:
            try:
                await self._on_stop()
            except IommuError as error:
                if error.errno != errno.ETIMEDOUT:
                    raise
                self.resets += 1


class MediatedDevice:
    """What a guest sees: a queue whose configuration names PASIDs of the guest."""

    def __init__(self, parent: ParentDriver, owner: IoasidSet, queue: _Queue):
        self.parent = parent
        self.owner = owner
        self.queue = queue

    @property
    def pasid(self) -> int | None:
        """The host PASID in the queue."""
        return None if self.queue.ioasid is None else self.queue.ioasid.pasid

    def program_guest(self, guest_pasid: int) -> None:
        """The guest wrote a PASID to the queue's configuration: put the host's in the hardware.

        Raises
        ------
        IommuError
            EINVAL for a PASID that the guest does not have, EBUSY while the queue is in use.
        """
        try:
            found = self.parent.iommu.ioasids.find_by_guest(self.owner, guest_pasid)
        except IommuError as error:
            raise IommuError(errno.EINVAL, str(error)) from error
        self.program(found.pasid)

    def program(self, pasid: int) -> None:
        """Put a host PASID in the queue, which then accepts work.

        Raises
        ------
        IommuError
            EBUSY while the queue is in use, ENOENT for a PASID that is not allocated, EACCES for one of another set.
        """
        require(self.pasid is None, "the queue is in use", errno.EBUSY)
        self.queue.ioasid = self.parent.iommu.ioasids.get(self.owner, pasid, HOLDER)
        self.queue.accepts = True

    async def stop(self) -> None:
        """Stop the queue, take the PASID out of it, and let go of that."""
        await self.parent.stop(self.queue)
        ioasid, self.queue.ioasid = self.queue.ioasid, None
        if ioasid is not None:
            self.parent.iommu.ioasids.put(ioasid, HOLDER)
