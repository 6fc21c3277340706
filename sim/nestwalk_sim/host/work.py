"""Work that a caller who must not block leaves for later: Linux's work queue, for coroutines of any event loop."""

from collections import deque
from collections.abc import Awaitable, Callable

from .transport import Mutex, Transport

__all__ = ["WorkQueue"]


class WorkQueue:
    """Clean-up in the order in which it was asked for.

    Nothing runs by itself: whoever may block calls `flush`, at the latest before the stack counts as quiescent.

    Parameters
    ----------
    transport : Transport
        Lets time pass while another caller flushes.
    """

    def __init__(self, transport: Transport):
        self._work: deque[Callable[[], Awaitable[None]]] = deque()
        self._mutex = Mutex(transport)

    @property
    def pending(self) -> int:
        """Pieces of work that have not run yet."""
        return len(self._work)

    def add(self, work: Callable[[], Awaitable[None]]) -> None:
        """Leave ``work`` to be done. Never fails and never blocks."""
        self._work.append(work)

    async def flush(self) -> None:
        """Do everything that is left, and what that leaves in turn.

        Raises
        ------
        IommuError
            What a piece of work raised; it stays first in line, so that the flush can be repeated.
        """
        async with self._mutex:
            while self._work:
                await self._work[0]()
                self._work.popleft()
