"""Editors of first-stage and second-stage page tables (§2.7, §2.8): map, unmap, look up."""

import errno
from dataclasses import dataclass
from enum import Flag, auto
from typing import Self

from ..errors import IommuError
from ..transport import Memory
from .pages import PAGE_SIZE, PageAllocator

__all__ = ["FIRST_STAGE", "PAGE_SIZES", "SECOND_STAGE", "EntryFormat", "Leaf", "PageTable", "Permission"]

PAGE_SIZES = {1: 1 << 12, 2: 1 << 21, 3: 1 << 30}
"""Bytes of a leaf at each level."""

ADDRESS = (1 << 52) - PAGE_SIZE
PAGE_SIZE_BIT = 1 << 7
ENTRIES = 512


class Permission(Flag):
    """What a mapping allows. First-stage pages are always readable; second-stage pages know no user."""

    READ = auto()
    WRITE = auto()
    USER = auto()


@dataclass(frozen=True)
class EntryFormat:
    """How one stage writes its entries.

    Parameters
    ----------
    name : str
        The stage, for messages.
    present : int
        Bits of which one at least is set in a present entry.
    always, write, user : int
        Bits of a leaf: always set, set for writable pages, set for user pages.
    table : int
        Bits of an entry that points to a table: everything is allowed there, leaves decide.
    """

    name: str
    present: int
    always: int
    write: int
    user: int
    table: int

    def leaf(self, address: int, permission: Permission, level: int) -> int:
        """A leaf entry at ``level``."""
        entry = address | (self.always if Permission.READ in permission else 0)
        entry |= self.write if Permission.WRITE in permission else 0
        entry |= self.user if Permission.USER in permission else 0
        return entry | (PAGE_SIZE_BIT if level > 1 else 0)


FIRST_STAGE = EntryFormat("first-stage", present=1, always=1, write=1 << 1, user=1 << 2, table=0b111)
"""P, R/W and U/S (§2.7). Accessed and dirty bits are left to the unit."""

SECOND_STAGE = EntryFormat("second-stage", present=0b11, always=1, write=1 << 1, user=0, table=0b11)
"""R and W (§2.8)."""


@dataclass(frozen=True)
class Leaf:
    """A mapping that was found: the entry (64 bits), where it lies and its level (1: 4 KiB, 2: 2 MiB, 3: 1 GiB)."""

    entry: int
    entry_address: int
    level: int

    def output(self, address: int) -> int:
        """The address that ``address`` translates to."""
        size = PAGE_SIZES[self.level]
        return (self.entry & ADDRESS & -size) | (address & size - 1)


class PageTable:
    """One table tree.

    Entries are written one by one, 8 bytes at once. The editor invalidates nothing: who unmaps flushes, and frees the
    pages of emptied tables only then.

    Parameters
    ----------
    entry_format : EntryFormat
        `FIRST_STAGE` or `SECOND_STAGE`.
    pages : PageAllocator
        Where tables lie: host memory, or a guest's memory for its own first stage.
    levels : int
        3, 4 or 5.
    root : int
        Address of the top table.
    """

    def __init__(self, entry_format: EntryFormat, pages: PageAllocator, levels: int, root: int):
        self.format = entry_format
        self.levels = levels
        self.root = root
        self._pages = pages
        self._memory: Memory = pages.memory

    @classmethod
    async def create(cls, entry_format: EntryFormat, pages: PageAllocator, levels: int) -> Self:
        """An empty tree."""
        return cls(entry_format, pages, levels, await pages.allocate())

    @property
    def width(self) -> int:
        """Bits of an input address."""
        return 12 + 9 * self.levels

    async def map(
        self, address: int, output: int, size: int, permission: Permission, page_size: int = PAGE_SIZE
    ) -> None:
        """Map ``size`` bytes at ``address`` to ``output`` with pages of one size, all aligned to it.

        Raises
        ------
        IommuError
            EINVAL for a bad alignment or range, EEXIST when something is mapped there already: nothing is changed then.
            ENOMEM for tables: what comes first in the range is mapped.
        """
        if page_size not in PAGE_SIZES.values() or not size or (address | output | size) % page_size:
            raise IommuError(errno.EINVAL, f"{size:#x} bytes at {address:#x} are not whole pages of {page_size:#x}")
        self._check_range(address, size)
        level = next(level for level, bytes_ in PAGE_SIZES.items() if bytes_ == page_size)
        for offset in range(0, size, page_size):
            if await self._occupied(address + offset, level):
                raise IommuError(errno.EEXIST, f"{self.format.name} address {address + offset:#x} is mapped already")
        for offset in range(0, size, page_size):
            slot = await self._slot(address + offset, level)
            await self._store(slot, self.format.leaf(output + offset, permission, level))

    async def unmap(self, address: int, size: int) -> list[int]:
        """Clear every leaf of the range and unlink tables that become empty.

        Returns
        -------
        list of int
            The unlinked tables. Free them once the flush is complete.

        Raises
        ------
        IommuError
            EINVAL for a range that cuts a large page, ENOENT when a part of it is not mapped; nothing is changed then.
        """
        self._check_range(address, size)
        leaves: list[tuple[int, Leaf]] = []
        at = address
        while at < address + size:
            leaf = await self.look_up(at)
            if leaf is None:
                raise IommuError(errno.ENOENT, f"{self.format.name} address {at:#x} is not mapped")
            page_size = PAGE_SIZES[leaf.level]
            if at % page_size or at + page_size > address + size:
                raise IommuError(errno.EINVAL, f"the range cuts the {page_size:#x} bytes page at {at & -page_size:#x}")
            leaves.append((at, leaf))
            at += page_size
        unlinked: list[int] = []
        for at, leaf in leaves:
            await self._store(leaf.entry_address, 0)
            unlinked += await self._unlink_empty(at, leaf.level)
        return unlinked

    async def look_up(self, address: int) -> Leaf | None:
        """The mapping of ``address``, or None."""
        table = self.root
        for level in range(self.levels, 0, -1):
            slot = self._entry_address(table, address, level)
            entry = await self._load(slot)
            if not entry & self.format.present:
                return None
            if level == 1 or entry & PAGE_SIZE_BIT:
                return Leaf(entry, slot, level)
            table = entry & ADDRESS
        return None

    async def destroy(self) -> None:
        """Free every table. Nothing may use the tree any more."""
        await self._free_tables(self.root, self.levels)

    async def _free_tables(self, table: int, level: int) -> None:
        if level > 1:
            content = await self._memory.read(table, PAGE_SIZE)
            for at in range(0, PAGE_SIZE, 8):
                entry = int.from_bytes(content[at : at + 8], "little")
                if entry & self.format.present and not entry & PAGE_SIZE_BIT:
                    await self._free_tables(entry & ADDRESS, level - 1)
        await self._pages.free(table)

    async def _occupied(self, address: int, leaf_level: int) -> bool:
        """Whether something is mapped at the entry for ``address`` at ``leaf_level``, above it, or below it."""
        table = self.root
        for level in range(self.levels, leaf_level - 1, -1):
            entry = await self._load(self._entry_address(table, address, level))
            if not entry & self.format.present or level == leaf_level or entry & PAGE_SIZE_BIT:
                return bool(entry & self.format.present)
            table = entry & ADDRESS
        return False

    async def _slot(self, address: int, leaf_level: int) -> int:
        """Address of the entry for ``address`` at ``leaf_level``; missing tables are made."""
        table = self.root
        for level in range(self.levels, leaf_level, -1):
            slot = self._entry_address(table, address, level)
            entry = await self._load(slot)
            if not entry & self.format.present:
                entry = await self._pages.allocate() | self.format.table
                await self._store(slot, entry)
            table = entry & ADDRESS
        return self._entry_address(table, address, leaf_level)

    async def _unlink_empty(self, address: int, leaf_level: int) -> list[int]:
        """Unlink the tables on the way to ``address`` that hold nothing any more, except the root."""
        path = [self.root]
        for level in range(self.levels, leaf_level, -1):
            path.append(await self._load(self._entry_address(path[-1], address, level)) & ADDRESS)
        unlinked: list[int] = []
        for level, table in zip(range(leaf_level, self.levels), reversed(path[1:]), strict=True):
            if any(await self._memory.read(table, PAGE_SIZE)):
                break
            await self._store(self._entry_address(path[self.levels - level - 1], address, level + 1), 0)
            unlinked.append(table)
        return unlinked

    def _check_range(self, address: int, size: int) -> None:
        if address < 0 or address + size > 1 << self.width:
            raise IommuError(errno.EINVAL, f"{self.format.name} range {address:#x}+{size:#x} exceeds {self.width} bits")

    @staticmethod
    def _entry_address(table: int, address: int, level: int) -> int:
        return table + 8 * (address >> 12 + 9 * (level - 1) & ENTRIES - 1)

    async def _load(self, address: int) -> int:
        return int.from_bytes(await self._memory.read(address, 8), "little")

    async def _store(self, address: int, entry: int) -> None:
        await self._memory.write(address, entry.to_bytes(8, "little"))
