"""Host PASID numbers: who allocated each, and what hangs on it (S11, first part)."""

import errno
from dataclasses import dataclass
from typing import Any

from .errors import IommuError
from .inject import FailPoints

__all__ = ["Ioasid", "IoasidAllocator", "IoasidSet"]


@dataclass(frozen=True)
class IoasidSet:
    """The PASIDs of one owner, such as a virtual machine."""

    name: str


@dataclass
class Ioasid:
    """One allocated PASID: its number, the set it belongs to, and its user's private data."""

    pasid: int
    owner: IoasidSet
    data: Any = None


class IoasidAllocator:
    """The system's PASIDs. 0 is never handed out: it stands for requests without PASID."""

    def __init__(self, fail: FailPoints):
        self._fail = fail
        self._ids: dict[int, Ioasid] = {}

    @property
    def allocated(self) -> dict[int, Ioasid]:
        """All allocated PASIDs by number."""
        return dict(self._ids)

    def allocate(self, owner: IoasidSet, minimum: int = 1, maximum: int = (1 << 20) - 1) -> int:
        """The lowest free PASID in the range.

        Raises
        ------
        IommuError
            EINVAL for an impossible range, ENOSPC when it is used up.
        """
        if not 1 <= minimum <= maximum < 1 << 20:
            raise IommuError(errno.EINVAL, f"PASIDs are 1 to {(1 << 20) - 1}, not {minimum} to {maximum}")
        self._fail.reach("ioasid")
        pasid = next((number for number in range(minimum, maximum + 1) if number not in self._ids), None)
        if pasid is None:
            raise IommuError(errno.ENOSPC, f"no PASID is free in {minimum} to {maximum}")
        self._ids[pasid] = Ioasid(pasid, owner)
        return pasid

    def find(self, owner: IoasidSet, pasid: int) -> Ioasid:
        """An allocated PASID of this owner.

        Raises
        ------
        IommuError
            ENOENT when it is not allocated, EACCES when it belongs to another set.
        """
        found = self._ids.get(pasid)
        if found is None:
            raise IommuError(errno.ENOENT, f"PASID {pasid} is not allocated")
        if found.owner is not owner:
            raise IommuError(errno.EACCES, f"PASID {pasid} belongs to {found.owner.name}, not to {owner.name}")
        return found

    def free(self, owner: IoasidSet, pasid: int) -> None:
        """Give a PASID back.

        Raises
        ------
        IommuError
            EBUSY while something is bound to it, and as `find`.
        """
        if self.find(owner, pasid).data is not None:
            raise IommuError(errno.EBUSY, f"PASID {pasid} is still bound")
        del self._ids[pasid]
