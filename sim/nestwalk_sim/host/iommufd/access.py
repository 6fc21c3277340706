"""Software that uses an address space like a device: pins pages, reads and writes, and lets go when it has to."""

import errno
from collections.abc import Callable

from ..errors import require
from ..vtd.pages import PAGE_SIZE
from .context import IommufdObject
from .ioas import Ioas

__all__ = ["Access"]


class Access(IommufdObject):
    """One such user.

    Parameters
    ----------
    ioas : Ioas
        The address space; it cannot be destroyed meanwhile.
    on_unmap : callable, optional
        Called with address and size before a range goes; what is pinned of it has to be unpinned there.
    """

    def __init__(self, ioas: Ioas, on_unmap: Callable[[int, int], None] | None = None):
        self._ioas = ioas
        self._on_unmap = on_unmap
        self.pinned: list[tuple[int, int]] = []
        ioas.users += 1
        ioas.on_unmap.append(self._going)

    async def release(self) -> None:
        self._ioas.users -= 1
        self._ioas.on_unmap.remove(self._going)

    def pin(self, iova: int, size: int) -> list[int]:
        """Host addresses of the pages of a range, which stay until `unpin`; ENOENT when some are not mapped."""
        frames = self._ioas.frames(iova, size)
        self.pinned.append((iova, size))
        return frames

    def unpin(self, iova: int, size: int) -> None:
        """Undo one `pin`; ENOENT when there was none."""
        require((iova, size) in self.pinned, f"{iova:#x}+{size:#x} is not pinned", errno.ENOENT)
        self.pinned.remove((iova, size))

    async def read(self, iova: int, size: int) -> bytes:
        """Bytes at an I/O address; ENOENT when some are not mapped."""
        pieces = [await self._memory.read(host, length) for host, length in self._pieces(iova, size)]
        return b"".join(pieces)

    async def write(self, iova: int, content: bytes) -> None:
        """Write bytes; errors as `read`, and nothing is written then."""
        for host, length in self._pieces(iova, len(content)):
            await self._memory.write(host, content[:length])
            content = content[length:]

    @property
    def _memory(self):
        return self._ioas.context.iommu.pages.memory

    def _pieces(self, iova: int, size: int) -> list[tuple[int, int]]:
        """Host address and length of each part that lies in one page."""
        pieces: list[tuple[int, int]] = []
        frames, offset = self._ioas.frames(iova, size), iova % PAGE_SIZE
        for frame in frames:
            length = min(size, PAGE_SIZE - offset)
            pieces.append((frame + offset, length))
            size, offset = size - length, 0
        return pieces

    def _going(self, iova: int, size: int) -> None:
        if self._on_unmap is not None:
            self._on_unmap(iova, size)
        still = any(first < iova + size and iova < first + length for first, length in self.pinned)
        require(not still, f"{iova:#x}+{size:#x} is pinned", errno.EBUSY)
