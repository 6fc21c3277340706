"""Fail points: the named places where the stack may run out of something, and the switch that makes one of them
fail.
"""

import errno

from .errors import IommuError

__all__ = ["FailPoints"]


class FailPoints:
    """Counts the fail points that are passed and makes the Nth of them fail, once.

    A sweep over N = 1, 2, ... ends at the first N for which `fired` stays false (S07).
    """

    def __init__(self):
        self.passed: list[str] = []
        self.fired = False
        self._name: str | None = None
        self._left = 0

    def fail_nth(self, nth: int, name: str | None = None) -> None:
        """Arm: the ``nth`` fail point from now on (counted from 1; only those called ``name`` if given) fails."""
        if nth < 1:
            raise ValueError(f"fail points are counted from 1, not {nth}")
        self._left, self._name = nth, name
        self.passed.clear()
        self.fired = False

    def disarm(self) -> None:
        """No fail point fails any more; `fired` and `passed` stay to be looked at."""
        self._left = 0

    def reach(self, name: str, number: int = errno.ENOMEM) -> None:
        """Pass the fail point ``name``.

        Raises
        ------
        IommuError
            With errno ``number``, if this is the one that shall fail.
        """
        self.passed.append(name)
        if self._left and self._name in (None, name):
            self._left -= 1
            if not self._left:
                self.fired = True
                raise IommuError(number, f"injected failure at {name}")
