"""The one way a call of the host stack fails: an exception that carries Linux's errno."""

import errno

__all__ = ["ENOTSUPP", "IommuError", "errno_name", "require"]

ENOTSUPP = 524
"""Linux's kernel-internal "operation not supported", which Python's errno module does not have."""


def errno_name(number: int) -> str:
    """Linux's name of an errno, such as ``EBUSY``."""
    return "ENOTSUPP" if number == ENOTSUPP else errno.errorcode[number]


class IommuError(Exception):
    """A call that failed.

    Parameters
    ----------
    number : int
        Linux's errno, positive.
    reason : str
        What was wrong, for a person.
    """

    def __init__(self, number: int, reason: str):
        super().__init__(f"{errno_name(number)}: {reason}")
        self.errno = number


def require(condition: object, reason: str, number: int = errno.EINVAL) -> None:
    """One check of a call: raise `IommuError` with ``number`` and ``reason`` unless ``condition`` holds."""
    if not condition:
        raise IommuError(number, reason)
