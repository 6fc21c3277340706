"""Page tables in host memory as the order checker sees them: which table serves which addresses of which root (§2.7,
§2.8).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .monitor import ADDRESS, Words

__all__ = ["Change", "Trees"]

PAGE = 4096
LARGE = 1 << 7
FIRST_STAGE_UPDATES = 1 << 5 | 1 << 6
SECOND_STAGE_UPDATES = 1 << 8 | 1 << 9
"""Accessed and dirty bits, which are no changes of the mapping."""


@dataclass(frozen=True)
class _Table:
    """One table: its tree, its level, and the first input address that it serves."""

    root: int
    level: int
    base: int
    second: bool

    def present(self, entry: int) -> bool:
        return bool(entry & (3 if self.second else 1))

    def leaf(self, entry: int) -> bool:
        return self.level == 1 or bool(entry & LARGE)


@dataclass(frozen=True)
class Change:
    """One entry that was changed.

    Parameters
    ----------
    root : int
        Host address of the tree's top table.
    region : range
        Input addresses that the entry serves.
    leaf : bool
        Whether the old entry mapped a page; else it led to a table.
    was_present : bool
        Whether it was present before.
    empty : bool
        Whether it led to no table, or to one in which nothing was present.
    target : range
        Host memory that the old entry led to.
    """

    root: int
    region: range
    leaf: bool
    was_present: bool
    empty: bool
    target: range

    def __str__(self) -> str:
        what = "mapping" if self.leaf else "table"
        return f"change of the {what} at {self.region.start:#x}+{len(self.region):#x}"


class Trees:
    """The tables below all roots that entries have led to.

    Parameters
    ----------
    words : callable
        Reads ``count`` 64-bit words at an address.
    """

    def __init__(self, words: Callable[[int, int], Words]):
        self._words = words
        self._tables: dict[int, _Table] = {}

    def add(self, root: int, levels: int, second: bool) -> None:
        """Follow a tree from now on."""
        self._follow(root, _Table(root, levels, 0, second))

    def knows(self, address: int) -> bool:
        """Whether an address lies in a table of a tree."""
        return address & -PAGE in self._tables

    def forget(self, memory: range) -> None:
        """Tables in this memory are freed."""
        for page in range(memory.start, memory.stop, PAGE):
            self._tables.pop(page, None)

    def changed(self, address: int, old: bytes, new: bytes) -> Iterator[Change]:
        """Entries of a table that a write has changed; new tables are followed."""
        table = self._tables[address & -PAGE]
        updates = SECOND_STAGE_UPDATES if table.second else FIRST_STAGE_UPDATES
        for at in range(0, len(new), 8):
            before, after = (int.from_bytes(each[at : at + 8], "little") for each in (old, new))
            if (before ^ after) & ~updates == 0 or not (table.present(before) or table.present(after)):
                continue
            size = PAGE << 9 * (table.level - 1)
            start = table.base + (address + at & PAGE - 1) // 8 * size
            if table.present(after) and not table.leaf(after):
                self._follow(after & ADDRESS, _Table(table.root, table.level - 1, start, table.second))
            leaf = table.leaf(before if table.present(before) else after)
            length = size if leaf else PAGE
            target = range(before & ADDRESS & -length, (before & ADDRESS & -length) + length)
            was_present = table.present(before)
            content = self._words(target.start, 512) if was_present and not leaf else ()
            empty = not leaf and not any(table.present(entry) for entry in content)
            yield Change(table.root, range(start, start + size), leaf, was_present, empty, target)

    def _follow(self, page: int, table: _Table) -> None:
        self._tables[page] = table
        if table.level == 1:
            return
        size = PAGE << 9 * (table.level - 1)
        for index, entry in enumerate(self._words(page, 512)):
            if table.present(entry) and not table.leaf(entry):
                child = _Table(table.root, table.level - 1, table.base + index * size, table.second)
                self._follow(entry & ADDRESS, child)
