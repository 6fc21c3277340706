"""Context entries (§2.4): what each device behind a unit may do at all, its way out, and its way back (R12, R15)."""

import errno
from dataclasses import dataclass, field

from ..device import Device
from ..errors import IommuError, require
from ..inject import FailPoints
from ..log import CommandLog, Trace
from .descriptors import (
    ContextCacheInvalidate,
    Descriptor,
    DeviceTlbInvalidate,
    IotlbInvalidate,
    PasidCacheInvalidate,
    PasidDeviceTlbInvalidate,
)
from .pages import PageAllocator
from .qi import InvalidationQueue
from .regs import Capabilities
from .tables import PRESENT, ContextEntry, PasidEntry, PasidTable, RootTable, read_words, write_entry

__all__ = ["Contexts", "DeviceState"]


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


class Contexts:
    """The context entries of one unit's devices.

    Parameters
    ----------
    pages, fail, log, capabilities, queue
        Of the unit.
    root : RootTable
        Where context tables hang.

    ``devices`` are the devices by requester id.
    """

    def __init__(
        self,
        pages: PageAllocator,
        fail: FailPoints,
        log: CommandLog,
        capabilities: Capabilities,
        queue: InvalidationQueue,
        root: RootTable,
    ):
        self._pages = pages
        self._fail = fail
        self._log = log
        self._capabilities = capabilities
        self._queue = queue
        self._root = root
        self.devices: dict[int, DeviceState] = {}

    async def add(self, device: Device) -> DeviceState:
        """Give a device an empty PASID table: all that it does is blocked until something is attached or bound.

        Raises
        ------
        IommuError
            EBUSY when the requester id is taken, ENOMEM.
        """
        require(device.source_id not in self.devices, f"{device} is known already", errno.EBUSY)
        trace = self._log.trace("add_device", "R15")
        context_address = await self._root.context_entry(device.source_id)
        table = await PasidTable.create(self._pages, device.pasid_bits)
        state = DeviceState(device, table, context_address)
        await write_entry(self._pages.memory, context_address, self._entry(state).words())
        trace.step(f"context entry of {device} at {context_address:#x}, PASID directory {table.directory:#x}")
        if self._capabilities["CM"]:
            await self._queue.submit_sync([ContextCacheInvalidate(device.source_id)], trace)
        self.devices[device.source_id] = state
        return state

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

    async def enable_pasid(self, state: DeviceState, trace: Trace) -> None:
        """Set PASIDE in the context entry, once for each device, and flush what may be cached of the old entry (S01,
        §6.1).
        """
        self._fail.reach("pasid enable")
        if state.pasid_enabled:
            return
        await write_entry(self._pages.memory, state.context_address, self._entry(state, pasid_enable=True).words())
        trace.step(f"context entry of {state.device}: PASIDE=1")
        flush: list[Descriptor] = [ContextCacheInvalidate(state.device.source_id)]
        if state.domain_id is not None:
            flush += [PasidCacheInvalidate(state.domain_id), IotlbInvalidate(state.domain_id)]
        await self._queue.submit_sync(flush, trace)
        state.pasid_enabled = True

    async def remove(self, device: Device) -> None:
        """R12: the device is taken out. What it sends from now on comes from nobody.

        Raises
        ------
        IommuError
            EBUSY while something is attached or bound to it.
        """
        state = self.state_of(device)
        require(not state.entries, f"{device} is in use", errno.EBUSY)
        await self.quarantine(state)
        await write_entry(self._pages.memory, state.context_address, (0,) * 4)
        del self.devices[device.source_id]
        await state.table.destroy()

    async def quarantine(self, state: DeviceState) -> None:
        """R15: take the context entry away. What is bound stays so, and can be unbound as ever."""
        trace = self._log.trace("quarantine", "R15")
        words = await read_words(self._pages.memory, state.context_address, 2)
        absent = (words[0] & ~PRESENT | words[1] << 64).to_bytes(16, "little")
        await self._pages.memory.write(state.context_address, absent)
        trace.step(f"context entry of {state.device}: P=0")
        flush: list[Descriptor] = [ContextCacheInvalidate(state.device.source_id)]
        for domain_id in sorted({entry.domain_id for entry in state.entries.values()}):
            flush += [PasidCacheInvalidate(domain_id), IotlbInvalidate(domain_id)]
        await self._queue.submit_sync(flush, trace)

    async def readmit(self, state: DeviceState) -> None:
        """Let a device back in that was reset: it has to answer the invalidation of all that it may still keep, and
        then finds everything that is attached or bound to it as it was.

        Raises
        ------
        IommuError
            ENODEV when it is as silent as before; it stays out then.
        """
        device, trace = state.device, self._log.trace("readmit", "R12")
        state.gone = False
        if device.ats:
            forget: list[Descriptor] = [DeviceTlbInvalidate(device.source_id)]
            forget += [PasidDeviceTlbInvalidate(device.source_id, pasid) for pasid in sorted(state.entries) if pasid]
            await self._queue.submit_sync(forget, trace)
        require(not state.gone, f"{device} is still silent", errno.ENODEV)
        entry = self._entry(state, pasid_enable=state.pasid_enabled)
        await write_entry(self._pages.memory, state.context_address, entry.words())
        trace.step(f"context entry of {device}: P=1")
        if self._capabilities["CM"]:
            await self._queue.submit_sync([ContextCacheInvalidate(device.source_id)], trace)

    def _entry(self, state: DeviceState, *, pasid_enable: bool = False) -> ContextEntry:
        device, table = state.device, state.table
        return ContextEntry(
            table.directory,
            table.directory_size,
            pasid_enable=pasid_enable,
            device_tlb_enable=device.ats,
            page_request_enable=device.page_requests and bool(self._capabilities["PRS"] and self._capabilities["PDS"]),
        )
