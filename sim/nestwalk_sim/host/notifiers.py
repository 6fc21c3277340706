"""Notifier chains (S12): who is told of what becomes of a host PASID, and in which order."""

import errno
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Generic, TypeVar

from .errors import IommuError, require
from .inject import FailPoints

__all__ = ["Event", "Notifier", "NotifierChain", "Priority"]

Subject = TypeVar("Subject")
"""What is announced; the chain only hands it on."""


class Event(Enum):
    """What became of a PASID. Only the first bind and the last unbind of one are events."""

    ALLOC = "alloc"
    FREE = "free"
    BIND = "bind"
    UNBIND = "unbind"


class Priority(IntEnum):
    """Who hears first: the producer of new work, then the device, then who owns the translations."""

    LAST = 0
    IOMMU = 1
    DEVICE = 2
    CPU = 3


@dataclass(frozen=True, eq=False)
class Notifier(Generic[Subject]):
    """One subscriber.

    Parameters
    ----------
    name : str
        For people.
    priority : Priority
        Higher ones are called first, equal ones in the order of registration.
    callback : callable
        A plain function of the event and of what it happened to. It must not block: lengthy work goes to a `WorkQueue`.
    """

    name: str
    priority: Priority
    callback: Callable[[Event, Subject], None]


class NotifierChain(Generic[Subject]):
    """The subscribers of one allocator.

    ``failures`` lists what subscribers raised on events that cannot be refused.
    """

    def __init__(self, fail: FailPoints):
        self._fail = fail
        self._notifiers: list[Notifier[Subject]] = []
        self.failures: list[tuple[Event, Notifier[Subject], IommuError]] = []

    @property
    def names(self) -> list[str]:
        """The subscribers in the order in which they are called."""
        return [notifier.name for notifier in self._notifiers]

    def register(self, notifier: Notifier[Subject]) -> None:
        """Add a subscriber; a failure leaves the chain as it was.

        Raises
        ------
        IommuError
            EEXIST when it is registered already, ENOMEM.
        TypeError
            When its callback is a coroutine function: it could block.
        """
        if inspect.iscoroutinefunction(notifier.callback):
            raise TypeError(f"the callback of {notifier.name} is a coroutine function, but notifiers must not block")
        require(notifier not in self._notifiers, f"{notifier.name} is registered already", errno.EEXIST)
        self._fail.reach("notifier")
        self._notifiers.append(notifier)
        self._notifiers.sort(key=lambda each: -each.priority)

    def unregister(self, notifier: Notifier[Subject]) -> None:
        """Remove a subscriber; it hears nothing more, not even of an event under way."""
        if notifier in self._notifiers:
            self._notifiers.remove(notifier)

    def tell(self, event: Event, subject: Subject) -> None:
        """Tell everybody of an event that cannot be refused: a failing subscriber stops nobody else."""
        for notifier in list(self._notifiers):
            if notifier in self._notifiers:
                try:
                    notifier.callback(event, subject)
                except IommuError as error:
                    self.failures.append((event, notifier, error))

    def ask(self, event: Event, undo: Event, subject: Subject) -> None:
        """Tell everybody of an event that a subscriber may refuse.

        Raises
        ------
        IommuError
            The refusal; those that had agreed have heard ``undo`` since, the last first.
        """
        agreed: list[Notifier[Subject]] = []
        for notifier in list(self._notifiers):
            if notifier not in self._notifiers:
                continue
            try:
                notifier.callback(event, subject)
            except IommuError:
                for earlier in reversed(agreed):
                    earlier.callback(undo, subject)
                raise
            agreed.append(notifier)
