"""What a VMM gives a guest in place of the unit: a vIOMMU on a parent, its devices by their virtual ids, and events."""

import errno
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import IommuError, require
from .context import IommufdContext, IommufdObject
from .device import IommufdDevice
from .hwpt import HwptFlags, HwptNested, HwptPaging, VtdS1Invalidate, invalidate_each

__all__ = ["Event", "LOST_EVENTS", "Vdevice", "VdeviceInvalidate", "Veventq", "Viommu"]

VTD = 1
FAULT_EVENTS = 1
LOST_EVENTS = 1 << 0
"""Flag of the record that takes the place of events for which there was no room."""


@dataclass(frozen=True)
class VdeviceInvalidate:
    """An invalidation of a guest for one of its devices: of everything that nested page tables have cached for it."""

    vdevice_id: int
    request: VtdS1Invalidate


@dataclass(frozen=True)
class Event:
    """A record of an event queue: its number in the sequence, flags, and what happened."""

    sequence: int
    flags: int
    data: object = None


class Viommu(IommufdObject):
    """A virtual unit. Make one with `create`."""

    def __init__(self, context: IommufdContext, parent: HwptPaging):
        self.context = context
        self.parent = parent
        self.vdevices: dict[int, Vdevice] = {}
        self.event_queues: dict[int, Veventq] = {}

    @classmethod
    def create(cls, context: IommufdContext, dev_id: int, hwpt_id: int, kind: int = VTD) -> "Viommu":
        """`IOMMU_VIOMMU_ALLOC`.

        Raises
        ------
        IommuError
            ENOENT for ids that stand for nothing, EINVAL for a HWPT that was not made for nesting, EOPNOTSUPP for a
            kind that the unit does not have.
        """
        context.get(dev_id, IommufdDevice)
        parent = context.get(hwpt_id, HwptPaging)
        require(HwptFlags.NEST_PARENT in parent.flags, f"HWPT {hwpt_id} was not made for nesting")
        require(kind == VTD, f"a virtual unit of kind {kind} is unknown", errno.EOPNOTSUPP)
        parent.users += 1
        return context.add(cls(context, parent))

    async def release(self) -> None:
        self.parent.users -= 1

    async def invalidate(self, requests: Sequence[VdeviceInvalidate]) -> int:
        """`IOMMU_HWPT_INVALIDATE` on a virtual unit: reaches only what its own devices use (S19).

        Returns
        -------
        int
            How many were processed: all.

        Raises
        ------
        PartialInvalidation
            EINVAL for a device that is not its own, else as `HwptNested.invalidate`.
        """
        return await invalidate_each(requests, self._invalidate)

    async def _invalidate(self, item: VdeviceInvalidate) -> None:
        vdevice = next((each for each in self.vdevices.values() if each.id == item.vdevice_id), None)
        if vdevice is None or vdevice.buried:
            raise IommuError(errno.EINVAL, f"the virtual unit has no device {item.vdevice_id}")
        for hwpt in set(vdevice.device.attached.values()):
            if isinstance(hwpt, HwptNested) and hwpt.parent is self.parent:
                await hwpt.invalidate([item.request])

    async def report(self, kind: int, virt_id: int, data: object) -> None:
        """Something happened to a device of the guest: its VMM shall read of it.

        Raises
        ------
        IommuError
            ENOENT when the guest knows no such device or nobody reads such events.
        """
        known = self.vdevices.get(virt_id)
        require(known is not None and not known.buried, f"the guest knows no device {virt_id:#x}", errno.ENOENT)
        require(kind in self.event_queues, f"nobody reads events of type {kind}", errno.ENOENT)
        self.event_queues[kind].put(data)


class Vdevice(IommufdObject):
    """A device under the id that the guest gave it.

    When the device goes first, the number stands for nothing until its user destroys it, and the virtual id stays
    taken that long.
    """

    def __init__(self, viommu: Viommu, device: IommufdDevice, virt_id: int):
        self.viommu = viommu
        self.device = device
        self.virt_id = virt_id

    @classmethod
    def create(cls, viommu: Viommu, dev_id: int, virt_id: int) -> "Vdevice":
        """`IOMMU_VDEVICE_ALLOC`; ENOENT for an unknown device, EEXIST for a virtual id or a device that is taken."""
        device = viommu.context.get(dev_id, IommufdDevice)
        require(virt_id not in viommu.vdevices, f"virtual id {virt_id:#x} is taken", errno.EEXIST)
        require(not device.vdevices, f"device {dev_id} has a virtual id", errno.EEXIST)
        made = viommu.context.add(cls(viommu, device, virt_id))
        viommu.vdevices[virt_id] = made
        device.vdevices.append(made)
        viommu.users += 1
        return made

    async def release(self) -> None:
        if not self.buried:
            self.device.vdevices.remove(self)
        del self.viommu.vdevices[self.virt_id]
        self.viommu.users -= 1


class Veventq(IommufdObject):
    """Events of one type, oldest first, with a sequence that shows what was lost.

    Parameters
    ----------
    viommu : Viommu
        Whose.
    kind : int
        Of the events.
    depth : int
        Events that may wait unread.
    """

    def __init__(self, viommu: Viommu, kind: int, depth: int):
        require(kind == FAULT_EVENTS, f"events of type {kind} are unknown", errno.EOPNOTSUPP)
        require(depth > 0, "an event queue has room for one event at least")
        require(kind not in viommu.event_queues, f"events of type {kind} have a reader", errno.EEXIST)
        self._viommu = viommu
        self._kind = kind
        self._depth = depth
        self._events: deque[Event] = deque()
        self._sequence = 0
        viommu.event_queues[kind] = self
        viommu.users += 1

    async def release(self) -> None:
        del self._viommu.event_queues[self._kind]
        self._viommu.users -= 1

    def put(self, data: object) -> None:
        """An event; without room for it a record tells that something was lost."""
        self._sequence += 1
        full = len(self._events) >= self._depth
        if full and self._events[-1].flags & LOST_EVENTS:
            return
        self._events.append(Event(self._sequence, LOST_EVENTS if full else 0, None if full else data))

    def read(self) -> list[Event]:
        """Everything that waits."""
        events, self._events = list(self._events), deque()
        return events
