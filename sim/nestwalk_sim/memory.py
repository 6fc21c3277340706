"""Simulated physical memory: 4 KiB pages that exist or do not, little-endian, with errors that a test can inject."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

__all__ = ["PAGE_SIZE", "AccessError", "ErrorKind", "ErrorRange", "Memory"]

PAGE_SIZE = 4096
"""Bytes of a memory page."""

_PAGE_SHIFT = 12
_OFFSET = PAGE_SIZE - 1


class AccessError(Exception):
    """The memory answered with an error response.

    Parameters
    ----------
    address : int
        First byte of the access that failed.
    """

    def __init__(self, address: int):
        super().__init__(f"no memory answers at {address:#x}")
        self.address = address


class ErrorKind(Enum):
    """What fails inside an injected error range."""

    READ = "read"
    """Every read answers with an error response (poison, decode error); updates read first, so they fail too."""
    UPDATE = "update"
    """Reads work, atomic updates do not: the memory there has no exclusive accesses."""


@dataclass(frozen=True)
class ErrorRange:
    """Addresses ``start`` (inclusive) to ``stop`` (exclusive), in bytes, whose accesses of one kind fail."""

    start: int
    stop: int
    kind: ErrorKind

    def hits(self, address: int, size: int) -> bool:
        return address < self.stop and self.start < address + size


class Memory:
    """Sparse memory, a dictionary of pages.

    Parameters
    ----------
    image : mapping of int to bytes, optional
        Page address (a multiple of 4096) to its 4096 bytes; copied.

    Addresses outside the pages answer with :class:`AccessError`. ``pages`` (page number to ``bytearray``) and
    ``errors`` (a list of :class:`ErrorRange`) are open to simulators that mirror this memory.
    """

    def __init__(self, image: Mapping[int, bytes] | None = None):
        self.pages: dict[int, bytearray] = {}
        self.errors: list[ErrorRange] = []
        if image is not None:
            self.load(image)

    def load(self, image: Mapping[int, bytes]) -> None:
        """Replace the whole of memory by an image; injected errors are forgotten.

        Raises
        ------
        ValueError
            When a page is not aligned or not 4096 bytes long; memory is unchanged then.
        """
        pages = {}
        for address, content in image.items():
            if address & _OFFSET or len(content) != PAGE_SIZE:
                raise ValueError(
                    f"a memory image holds aligned pages of {PAGE_SIZE} bytes, not {len(content)} bytes at {address:#x}"
                )
            pages[address >> _PAGE_SHIFT] = bytearray(content)
        self.pages = pages
        self.errors = []

    def image(self) -> dict[int, bytes]:
        """A copy of all pages, page address to bytes, ascending."""
        return {number << _PAGE_SHIFT: bytes(self.pages[number]) for number in sorted(self.pages)}

    def copy(self) -> "Memory":
        """An independent memory with the same pages and errors."""
        twin = Memory()
        twin.pages = {number: bytearray(page) for number, page in self.pages.items()}
        twin.errors = list(self.errors)
        return twin

    def add_pages(self, addresses: Iterable[int]) -> None:
        """Make the pages at these addresses exist, zero-filled; pages that exist keep their content."""
        for address in addresses:
            self.pages.setdefault(address >> _PAGE_SHIFT, bytearray(PAGE_SIZE))

    def inject_error(self, address: int, size: int, kind: ErrorKind = ErrorKind.READ) -> None:
        """Make accesses of one kind to ``size`` bytes from ``address`` on fail."""
        self.errors.append(ErrorRange(address, address + size, kind))

    def _check(self, address: int, size: int, *kinds: ErrorKind) -> None:
        for error in self.errors:
            if error.kind in kinds and error.hits(address, size):
                raise AccessError(address)

    def read(self, address: int, size: int) -> bytes:
        """Read ``size`` bytes.

        Raises
        ------
        AccessError
            When any of them does not exist or lies in an error range.
        """
        if self.errors:
            self._check(address, size, ErrorKind.READ)
        offset = address & _OFFSET
        page = self.pages.get(address >> _PAGE_SHIFT)
        if page is None:
            raise AccessError(address)
        if offset + size <= PAGE_SIZE:
            return bytes(page[offset : offset + size])
        head = PAGE_SIZE - offset
        return bytes(page[offset:]) + self.read(address + head, size - head)

    def read_integer(self, address: int, size: int) -> int:
        """Read ``size`` bytes as a little-endian integer; errors as :meth:`read`."""
        return int.from_bytes(self.read(address, size), "little")

    def read64(self, address: int) -> int:
        """Read the naturally aligned 64-bit word at ``address``; errors as :meth:`read`."""
        return int.from_bytes(self.read(address, 8), "little")

    def write(self, address: int, content: bytes) -> None:
        """Write bytes to pages that exist.

        Raises
        ------
        AccessError
            When a page does not exist; nothing is written then.
        """
        first, last = address >> _PAGE_SHIFT, (address + max(len(content), 1) - 1) >> _PAGE_SHIFT
        for number in range(first, last + 1):
            if number not in self.pages:
                raise AccessError(address)
        offset = address & _OFFSET
        for number in range(first, last + 1):
            piece = content[: PAGE_SIZE - offset]
            self.pages[number][offset : offset + len(piece)] = piece
            content, offset = content[len(piece) :], 0

    def write_integer(self, address: int, value: int, size: int) -> None:
        """Write a little-endian integer of ``size`` bytes; errors as :meth:`write`."""
        self.write(address, value.to_bytes(size, "little"))

    def write64(self, address: int, value: int) -> None:
        """Write the naturally aligned 64-bit word at ``address``; errors as :meth:`write`."""
        self.write(address, value.to_bytes(8, "little"))

    def update64(self, address: int, expected: int, value: int) -> bool:
        """Atomic compare-exchange of a 64-bit word, as an exclusive pair on the memory port does it.

        Returns
        -------
        bool
            False when the word was not ``expected``; nothing is written then.

        Raises
        ------
        AccessError
            When the memory cannot do it: no such page, or an error range of either kind.
        """
        if self.errors:
            self._check(address, 8, ErrorKind.UPDATE)
        if self.read64(address) != expected:
            return False
        self.write64(address, value)
        return True
