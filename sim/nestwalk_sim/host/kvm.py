"""KVM's PASID translation (S24): a guest's ENQCMD names the guest's PASID, the device gets the host's."""

import errno
from typing import Protocol

from .errors import IommuError
from .ioasid import Ioasid, IoasidAllocator, IoasidSet
from .notifiers import Event, Notifier, Priority

__all__ = ["GeneralProtection", "PasidTranslation", "Portal"]

HOLDER = "kvm"


class GeneralProtection(Exception):
    """What the guest's processor gets instead of a submission: the PASID stands for nothing."""


class Portal(Protocol):
    """Where a device takes work."""

    def submit(self, pasid: int, work: bytes) -> None:
        """Take a piece of work that uses a host PASID."""
        ...


class PasidTranslation:
    """The PASID translation table of one virtual machine. It is the first to hear of an end, so that no work comes
    after it.

    Parameters
    ----------
    ioasids : IoasidAllocator
        Host PASIDs; tells of binds and their ends.
    owner : IoasidSet
        The machine's set: no other PASIDs get in (S20).
    entries : int
        Most guest PASIDs at once.

    ``epoch`` counts changes of the table.
    """

    def __init__(self, ioasids: IoasidAllocator, owner: IoasidSet, entries: int = 1 << 20):
        self._ioasids = ioasids
        self._owner = owner
        self._entries = entries
        self._table: dict[int, Ioasid] = {}
        self.epoch = 0
        self._notifier: Notifier[Ioasid] = Notifier("kvm", Priority.CPU, self._on_pasid)
        ioasids.notifiers.register(self._notifier)

    def enqcmd(self, guest_pasid: int, portal: Portal, work: bytes) -> None:
        """The guest submits work.

        Raises
        ------
        GeneralProtection
            When the guest PASID stands for nothing; the device sees nothing of it.
        """
        found = self._table.get(guest_pasid)
        if found is None:
            raise GeneralProtection(f"{self._owner.name} has no PASID {guest_pasid}")
        portal.submit(found.pasid, work)

    def holds(self, pasid: int) -> int:
        """References to a host PASID."""
        return sum(ioasid.pasid == pasid for ioasid in self._table.values())

    def close(self) -> None:
        """The machine is gone."""
        for guest_pasid in list(self._table):
            self._remove(guest_pasid)
        self._ioasids.notifiers.unregister(self._notifier)

    def _on_pasid(self, event: Event, ioasid: Ioasid) -> None:
        if ioasid.owner is not self._owner or ioasid.spid is None:
            return
        if event is Event.BIND:
            if len(self._table) >= self._entries:
                raise IommuError(errno.ENOMEM, f"the PASID translation table of {self._owner.name} is full")
            self._table[ioasid.spid] = self._ioasids.get(self._owner, ioasid.pasid, HOLDER)
            self.epoch += 1
        elif event in (Event.UNBIND, Event.FREE):
            self._remove(ioasid.spid)

    def _remove(self, guest_pasid: int) -> None:
        found = self._table.pop(guest_pasid, None)
        if found is not None:
            self.epoch += 1
            self._ioasids.put(found, HOLDER)
