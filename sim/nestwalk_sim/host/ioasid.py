"""Host PASID numbers (S11 to S13): sets with quotas, references by name of their holders, events, and a number that
goes back to the pool only when its last holder has cleaned up.
"""

import errno
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from .errors import IommuError, require
from .inject import FailPoints
from .notifiers import Event, NotifierChain

__all__ = ["MAX_PASID", "OWNER", "IdSource", "Ioasid", "IoasidAllocator", "IoasidSet", "IoasidState"]

MAX_PASID = (1 << 20) - 1
OWNER = "owner"
"""Holder of the reference that allocation gives."""


class IoasidState(Enum):
    """Where a PASID stands; a free one is not in the allocator at all."""

    ALLOCATED = "allocated"
    FREE_PENDING = "free pending"
    """Freed by its owner, but others hold it: nobody new may."""


@dataclass(eq=False)
class IoasidSet:
    """The PASIDs of one owner, such as a virtual machine.

    Parameters
    ----------
    name : str
        For people.
    quota : int or None
        Most PASIDs it may have at once.
    token : object
        Whose it is, compared and never used.

    ``pasids`` are its PASIDs, pending ones included. A ``dying`` set gets no more.
    """

    name: str
    quota: int | None = None
    token: object = None
    pasids: set[int] = field(default_factory=set)
    dying: bool = False


@dataclass(eq=False)
class Ioasid:
    """One PASID in use.

    Parameters
    ----------
    pasid : int
        The number.
    owner : IoasidSet
        The set it belongs to.
    data : object
        What the driver keeps of it; None while nothing is bound.
    spid : int or None
        The guest's number for it, unique within the set (S04).
    holders : Counter of str
        Who holds how many references.
    announced : bool
        Whether the subscribers believe it bound.
    """

    pasid: int
    owner: IoasidSet
    data: Any = None
    spid: int | None = None
    state: IoasidState = IoasidState.ALLOCATED
    holders: Counter[str] = field(default_factory=lambda: Counter({OWNER: 1}))
    announced: bool = False

    @property
    def references(self) -> int:
        """How many references there are."""
        return self.holders.total()


class IdSource(Protocol):
    """Where numbers come from: a guest's allocator asks its host by virtual command (S15)."""

    @property
    def kind(self) -> str:
        """What sort of source it is; two of the same kind serve the same numbers."""
        ...

    def allocate(self, minimum: int, maximum: int) -> int:
        """A number in the range; IommuError ENOSPC when there is none."""
        ...

    def free(self, pasid: int) -> None:
        """Take a number back."""
        ...


class IoasidAllocator:
    """The system's PASIDs. 0 is never handed out: it stands for requests without PASID."""

    def __init__(self, fail: FailPoints):
        self._fail = fail
        self._ids: dict[int, Ioasid] = {}
        self._sources: list[IdSource] = []
        self.notifiers: NotifierChain[Ioasid] = NotifierChain(fail)

    @property
    def allocated(self) -> dict[int, Ioasid]:
        """All PASIDs that cannot be allocated, by number."""
        return dict(self._ids)

    def register_source(self, source: IdSource) -> None:
        """Take numbers from ``source`` from now on instead of from the own pool.

        Raises
        ------
        IommuError
            EEXIST when it is registered, EAGAIN when numbers from a source of another kind are out.
        """
        require(source not in self._sources, f"the {source.kind} source is registered already", errno.EEXIST)
        other = not self._sources or self._sources[0].kind != source.kind
        require(not (self._ids and other), "PASIDs of another source are in use", errno.EAGAIN)
        self._sources.insert(0, source)

    def unregister_source(self, source: IdSource) -> None:
        """Forget a source; EBUSY while numbers are out and no other of its kind serves them."""
        left = [each for each in self._sources if each is not source]
        kept = bool(left) and left[0].kind == source.kind
        require(not self._ids or kept, f"PASIDs of the {source.kind} source are in use", errno.EBUSY)
        self._sources = left

    def allocate(self, owner: IoasidSet, minimum: int = 1, maximum: int = MAX_PASID, data: Any = None) -> int:
        """The lowest free PASID in the range, for its owner; ALLOC is told.

        Raises
        ------
        IommuError
            EINVAL for an impossible range, ENOSPC when it or the owner's quota is used up, ENOENT for a set that is
            being freed.
        """
        require(1 <= minimum <= maximum <= MAX_PASID, f"PASIDs are 1 to {MAX_PASID}, not {minimum} to {maximum}")
        require(not owner.dying, f"the set {owner.name} is being freed", errno.ENOENT)
        full = owner.quota is not None and len(owner.pasids) >= owner.quota
        require(not full, f"{owner.name} has all {owner.quota} PASIDs of its quota", errno.ENOSPC)
        self._fail.reach("ioasid")
        pasid = self._number(minimum, maximum)
        self._ids[pasid] = Ioasid(pasid, owner, data)
        owner.pasids.add(pasid)
        self.notifiers.tell(Event.ALLOC, self._ids[pasid])
        return pasid

    def find(self, owner: IoasidSet, pasid: int) -> Ioasid:
        """An allocated PASID of this owner.

        Raises
        ------
        IommuError
            ENOENT when it is not allocated or freed already, EACCES when it belongs to another set.
        """
        found = self._ids.get(pasid)
        if found is None or found.state is not IoasidState.ALLOCATED:
            raise IommuError(errno.ENOENT, f"PASID {pasid} is not allocated")
        require(found.owner is owner, f"PASID {pasid} belongs to {found.owner.name}, not to {owner.name}", errno.EACCES)
        return found

    def of_set(self, owner: IoasidSet) -> Iterator[Ioasid]:
        """The set's PASIDs, pending ones included, lowest first."""
        return (self._ids[pasid] for pasid in sorted(owner.pasids))

    def name_for_guest(self, owner: IoasidSet, pasid: int, spid: int | None) -> None:
        """Give a PASID the guest's number ``spid``, or take it away with None.

        Raises
        ------
        IommuError
            EEXIST when another PASID of the set has that number, else as `find`.
        """
        named = self.find(owner, pasid)
        taken = spid is not None and any(other.spid == spid and other is not named for other in self.of_set(owner))
        require(not taken, f"{owner.name} calls another PASID {spid}", errno.EEXIST)
        named.spid = spid

    def find_by_guest(self, owner: IoasidSet, spid: int) -> Ioasid:
        """The PASID that the guest calls ``spid``; ENOENT when there is none."""
        for each in self.of_set(owner):
            if each.spid == spid and each.state is IoasidState.ALLOCATED:
                return each
        raise IommuError(errno.ENOENT, f"{owner.name} has no PASID called {spid}")

    def get(self, owner: IoasidSet, pasid: int, holder: str) -> Ioasid:
        """Take a reference; errors as `find`."""
        found = self.find(owner, pasid)
        found.holders[holder] += 1
        return found

    def put(self, ioasid: Ioasid, holder: str) -> None:
        """Drop a reference; the last one gives the number back.

        Raises
        ------
        ValueError
            When ``holder`` has none: a bug of the caller.
        """
        if not ioasid.holders[holder]:
            raise ValueError(f"{holder} holds no reference to PASID {ioasid.pasid}")
        ioasid.holders[holder] -= 1
        if not ioasid.references:
            self._give_back(ioasid)

    def announce_bound(self, ioasid: Ioasid) -> None:
        """Something is bound to it now; BIND is told unless it was so already.

        Raises
        ------
        IommuError
            Of a subscriber that refuses; the others have been told UNBIND.
        """
        if not ioasid.announced:
            self.notifiers.ask(Event.BIND, Event.UNBIND, ioasid)
            ioasid.announced = True

    def announce_unbound(self, ioasid: Ioasid) -> None:
        """Nothing will be bound to it in a moment; UNBIND is told if BIND was."""
        if ioasid.announced:
            ioasid.announced = False
            self.notifiers.tell(Event.UNBIND, ioasid)

    def free(self, owner: IoasidSet, pasid: int) -> bool:
        """The owner gives a PASID up. FREE is told; the number returns with the last reference (S13).

        Never fails for a PASID that was its own, whatever is bound, and does nothing the second time.

        Returns
        -------
        bool
            Whether the number is back in the pool.

        Raises
        ------
        IommuError
            ENOENT for a number that is in no use, EACCES for one of another set.
        """
        pending = self._ids.get(pasid)
        if pending is None or pending.owner is owner and pending.state is IoasidState.FREE_PENDING:
            require(pending is not None, f"PASID {pasid} is not allocated", errno.ENOENT)
            return False
        ioasid = self.find(owner, pasid)
        ioasid.state = IoasidState.FREE_PENDING
        self.notifiers.tell(Event.FREE, ioasid)
        ioasid.announced = False
        self.put(ioasid, OWNER)
        return pasid not in self._ids

    def free_set(self, owner: IoasidSet) -> None:
        """The owner is gone: free all of its PASIDs and give it no more (S14)."""
        owner.dying = True
        for ioasid in list(self.of_set(owner)):
            self.free(owner, ioasid.pasid)

    def _number(self, minimum: int, maximum: int) -> int:
        if self._sources:
            return self._sources[0].allocate(minimum, maximum)
        pasid = next((number for number in range(minimum, maximum + 1) if number not in self._ids), None)
        if pasid is None:
            raise IommuError(errno.ENOSPC, f"no PASID is free in {minimum} to {maximum}")
        return pasid

    def _give_back(self, ioasid: Ioasid) -> None:
        del self._ids[ioasid.pasid]
        ioasid.owner.pasids.remove(ioasid.pasid)
        if self._sources:
            self._sources[0].free(ioasid.pasid)
