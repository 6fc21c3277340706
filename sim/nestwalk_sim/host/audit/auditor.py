"""The auditor: nothing leaks and nothing is stale (I1 to I12), asked at any moment when the stack is quiet."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Protocol, Self

from ...model.page_request import PageRequest, PageResponse
from ...model.request import Request
from ..ioasid import OWNER, Ioasid, IoasidState
from ..notifiers import Event, Notifier, Priority
from ..vtd.pages import PAGE_SIZE, poison
from ..vtd.sva import SvaDomain
from ..vtd.svm import HOLDER, Svm
from ..vtd.unit import Iommu
from .fault_board import Blocked, FaultBoard
from .monitor import Words
from .order import PRESENT, OrderChecker
from .page_board import PageBoard

__all__ = ["Auditor", "BackDoor", "Cached"]

FAULTS_OFF = 1 << 1
BINDINGS = (Svm, SvaDomain)


class Cached(NamedTuple):
    """A cached translation: the request that filled it, and the host address of the request's own byte."""

    where: str
    request: Request
    host: int


class BackDoor(Protocol):
    """What a software unit lets be seen of its inside."""

    def cached(self) -> Iterable[Cached]:
        """Everything that it and the devices keep."""
        ...

    def walk(self, request: Request) -> int | None:
        """The host address that memory gives now, None when the request would be blocked."""
        ...

    granted: list[Callable[[Request], None]]
    """Called with each request that was let through."""
    blocked: list[Blocked]
    asked: list[Callable[[PageRequest], None]]
    """Called with each page request that a device sends."""
    answered: list[Callable[[PageResponse], None]]


class Auditor:
    """Looks over one driver's shoulder. Make one with `attach` before the driver does anything.

    Parameters
    ----------
    iommu : Iommu
        The driver.
    back_door : BackDoor, optional
        Of a unit in software.

    ``also`` are asked for problems of what lies above the driver. ``holders`` are the names of further holders of
    PASIDs, with what they hold by PASID (I7).
    """

    def __init__(self, iommu: Iommu, order: OrderChecker, back_door: BackDoor | None):
        self.iommu = iommu
        self.order = order
        self.back_door = back_door
        self.also: list[Callable[[], Iterable[str]]] = []
        self.holders: dict[str, Callable[[int], int]] = {}
        self.faults = FaultBoard(order.monitor, iommu.faults) if back_door is not None else None
        self.pages = PageBoard(order.monitor, iommu.page_requests.faults)

    @classmethod
    def attach(cls, iommu: Iommu, back_door: BackDoor | None = None) -> Self:
        """Begin to look on."""
        caching_mode = bool(iommu.capabilities["CM"])
        order = OrderChecker(
            caching_mode,
            gone=lambda source_id: source_id in iommu.devices and iommu.devices[source_id].gone,
            asks=lambda source_id: source_id in iommu.devices and iommu.devices[source_id].device.page_requests,
        )
        auditor = cls(iommu, order, back_door)
        iommu.transport.observers.append(order.monitor)
        iommu.pages.on_free.append(order.freed)
        iommu.ioasids.notifiers.register(Notifier("auditor", Priority.CPU, auditor._on_pasid))
        if back_door is not None:
            back_door.granted.append(auditor._on_grant)
        order.came.append(auditor.pages.entry_came)
        if back_door is not None and auditor.faults is not None:
            back_door.blocked.append(auditor.faults.blocked)
            back_door.asked += [auditor.pages.asked, auditor.faults.asked]
            back_door.answered.append(auditor.pages.answered)
        return auditor

    async def audit(self) -> list[str]:
        """Everything that is wrong, each with the invariant or the recipe that it breaks."""
        problems = [*self.order.problems, *self.order.quiet()]
        problems += [*self._entries(), *self._bindings(), *self._pasids(), *self._caches()]
        problems += [problem for ask in self.also for problem in ask()]
        problems += self.pages.problems({source_id for source_id, state in self.iommu.devices.items() if state.gone})
        problems += await self.faults.problems() if self.faults is not None else []
        return problems + [problem async for problem in self._poison()]

    def state(self) -> tuple[object, ...]:
        """Everything that a failed call must leave as it was (I12)."""
        iommu = self.iommu
        pasids = {
            pasid: (ioasid.owner.name, ioasid.state, ioasid.spid, +ioasid.holders, ioasid.announced)
            for pasid, ioasid in iommu.ioasids.allocated.items()
        }
        entries = {key: words for key, words in self.order.monitor.entries.items() if any(words)}
        return entries, pasids, frozenset(iommu.domain_ids.used), [*self._users()]

    def _users(self) -> Iterator[tuple[int, int, int]]:
        for pasid, ioasid in self.iommu.ioasids.allocated.items():
            if isinstance(ioasid.data, BINDINGS):
                yield from ((pasid, record.device.source_id, record.users) for record in ioasid.data.devices)

    def _on_pasid(self, event: Event, ioasid: Ioasid) -> None:
        """S12: who gives work to a device begins after the translation is in place, and ends before it goes."""
        entries = self.order.monitor.entries.items()
        live = any(key[1] == ioasid.pasid and words[0] & PRESENT for key, words in entries)
        if event in (Event.BIND, Event.UNBIND) and not live:
            self.order.problems.append(f"S12: {event.name} of PASID {ioasid.pasid} is told without an entry")

    def _on_grant(self, request: Request) -> None:
        """I11: no DMA passes without an entry, but for the moment in which it is being flushed."""
        key = request.source_id, request.pasid or 0
        entry = self.order.monitor.entries.get(key, (0,))
        owed = any(debt.entry == key or debt.recipe == "R15" for debt in self.order.debts)
        if self.iommu.translating and not entry[0] & PRESENT and not owed:
            self.order.problems.append(f"I11: DMA of {key[0]:04x} under PASID {key[1]} passes without an entry")

    def _entries(self) -> Iterator[str]:
        """I1: what the driver believes is what lies in the tables."""
        believed = {
            (source_id, pasid): entry.words()
            for source_id, state in self.iommu.devices.items()
            for pasid, entry in state.entries.items()
        }
        written = {key: words for key, words in self.order.monitor.entries.items() if words[0] & PRESENT}
        for source_id, pasid in sorted(believed.keys() | written.keys()):
            if believed.get((source_id, pasid)) != written.get((source_id, pasid)):
                yield f"I1: PASID entry {pasid} of {source_id:04x} is not what the driver believes"

    def _bindings(self) -> Iterator[str]:
        """I1, I9: entries of bindings are there, and no other has anything left of an earlier life."""
        defunct: set[tuple[int, int]] = set()
        for pasid, ioasid in self.iommu.ioasids.allocated.items():
            for record in ioasid.data.devices if isinstance(ioasid.data, BINDINGS) else ():
                key = record.device.source_id, pasid
                entry = self.iommu.state_of(record.device).entries.get(pasid)
                if record.defunct:
                    defunct.add(key)
                elif entry is None or entry.domain_id != record.domain_id or record.users < 1:
                    yield f"I1: PASID {pasid} counts as bound to {record.device}, but has no such entry"
        for key, words in self.order.monitor.entries.items():
            if not words[0] & PRESENT and any(words) and not (key in defunct and _only_faults_off(words)):
                yield f"I9: PASID entry {key[1]} of {key[0]:04x} is not present and not clear"

    def _pasids(self) -> Iterator[str]:
        """I7: references are those of known holders, sets and quotas fit."""
        ids = self.iommu.ioasids.allocated
        for pasid, ioasid in ids.items():
            known = {OWNER: int(ioasid.state is IoasidState.ALLOCATED), HOLDER: int(ioasid.data is not None)}
            known |= {name: held(pasid) for name, held in self.holders.items()}
            if +ioasid.holders != {name: count for name, count in known.items() if count}:
                yield f"I7: PASID {pasid} is held by {dict(+ioasid.holders)}, not by {known}"
            if isinstance(ioasid.data, BINDINGS) and not ioasid.data.devices:
                yield f"I7: PASID {pasid} has a binding without a device"
        for owner in {ioasid.owner for ioasid in ids.values()}:
            if owner.pasids != {pasid for pasid, ioasid in ids.items() if ioasid.owner is owner}:
                yield f"I7: the PASIDs of {owner.name} are not those that it counts"
            if owner.quota is not None and len(owner.pasids) > owner.quota:
                yield f"I7: {owner.name} is over its quota"

    def _caches(self) -> Iterator[str]:
        """I2, I3: what is cached is what memory says."""
        if self.back_door is None or not self.iommu.translating:
            return
        for where, request, host in self.back_door.cached():
            if self.back_door.walk(request) != host:
                number = "I2" if where == "IOTLB" else "I3"
                who = f"{request.source_id:04x}, PASID {request.pasid}"
                yield f"{number}: {where} keeps {request.address:#x} of {who}, which is stale"

    async def _poison(self):
        """I4: nothing was written to freed memory."""
        for address, pages in self.iommu.pages.freed.items():
            expected = poison(self.iommu.pages.generation(address)).to_bytes(8, "little") * (pages * PAGE_SIZE // 8)
            if await self.iommu.pages.memory.read(address, pages * PAGE_SIZE) != expected:
                yield f"I4: freed memory at {address:#x} was written"


def _only_faults_off(words: Words) -> bool:
    return words[0] == FAULTS_OFF and not any(words[1:])
