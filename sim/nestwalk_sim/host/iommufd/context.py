"""One open iommufd: its objects by number, and who still uses them."""

import errno
from itertools import count
from typing import TypeVar

from ..errors import IommuError, require
from ..vtd.unit import Iommu

__all__ = ["IommufdContext", "IommufdObject"]

Kind = TypeVar("Kind", bound="IommufdObject")


class IommufdObject:
    """Something with a number. ``users`` counts what would break if it went."""

    id: int
    users: int = 0
    buried: bool = False
    """What it stands for is gone: its number answers to `IommufdContext.destroy` only."""

    async def release(self) -> None:
        """Give back what it holds; nobody uses it any more."""


class IommufdContext:
    """One file descriptor of ``/dev/iommu``.

    Parameters
    ----------
    iommu : Iommu
        The unit behind it.
    """

    def __init__(self, iommu: Iommu):
        self.iommu = iommu
        self._objects: dict[int, IommufdObject] = {}
        self._numbers = count(1)

    @property
    def objects(self) -> list[IommufdObject]:
        """All objects, oldest first."""
        return list(self._objects.values())

    def add(self, made: Kind) -> Kind:
        """Give an object its number."""
        made.id = next(self._numbers)
        self._objects[made.id] = made
        return made

    def get(self, number: int, kind: type[Kind], wrong: int = errno.ENOENT) -> Kind:
        """The object with a number.

        Raises
        ------
        IommuError
            ENOENT when there is none; ``wrong`` when it is of another kind.
        """
        found = self._objects.get(number)
        gone = found is None or found.buried
        require(not gone, f"there is no object {number}", errno.ENOENT)
        if not isinstance(found, kind):
            raise IommuError(wrong, f"object {number} is a {type(found).__name__}, not a {kind.__name__}")
        return found

    async def destroy(self, number: int) -> None:
        """`IOMMU_DESTROY`.

        Raises
        ------
        IommuError
            ENOENT for a number that stands for nothing, EBUSY while others use the object.
        """
        made = self._objects.get(number)
        if made is None:
            raise IommuError(errno.ENOENT, f"there is no object {number}")
        require(not made.users, f"{type(made).__name__} {number} is in use", errno.EBUSY)
        await made.release()
        del self._objects[number]

    async def close(self) -> None:
        """The file is closed, by a process that may be dead: everything goes, users before what they use (S14)."""
        while self.objects:
            unused = [each for each in reversed(self.objects) if not each.users]
            if not unused:
                raise AssertionError("I8: objects of a closed iommufd use each other in a circle")
            for each in unused:
                await self.destroy(each.id)
