"""Domain identifiers of one unit (§2.6): the tags of everything that it caches."""

import errno
from collections import deque

from ..errors import IommuError
from ..inject import FailPoints

__all__ = ["DomainIds"]


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
