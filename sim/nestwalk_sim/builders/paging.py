"""First-stage and second-stage page tables of any shape, in host memory or in guest-physical space."""

from abc import ABC, abstractmethod
from random import Random
from typing import NamedTuple, Protocol

from ..memory import PAGE_SIZE, Memory
from ..model import Structure
from .layouts import encode, replace_fields

__all__ = [
    "LEAF_LEVEL",
    "FirstStageTables",
    "GuestSpace",
    "HostSpace",
    "Mapping",
    "PageTables",
    "Place",
    "SecondStageTables",
    "TableSpace",
]

LEAF_LEVEL = {1 << 12: 1, 1 << 21: 2, 1 << 30: 3}
"""Level of the leaf for each page size in bytes."""

_PAGE_SIZE_BIT = 1 << 7
_TABLE = 0x000F_FFFF_FFFF_F000


class TableSpace(Protocol):
    """Where tables lie: hands out pages and tells the host address of a place in them."""

    memory: Memory

    def new_pages(self, count: int = 1) -> int:
        """Address, in this space, of fresh zero-filled pages in one piece."""
        ...

    def host(self, address: int) -> int:
        """Host address of an address in this space."""
        ...


class HostSpace:
    """Tables in host memory.

    Parameters
    ----------
    memory : Memory
        Where the pages are made.
    width : int
        Bits of the addresses to use.
    random : Random, optional
        Scatters the tables over the whole space; in ascending order from 16 MiB on without.
    """

    def __init__(self, memory: Memory, width: int = 52, random: Random | None = None):
        self.memory = memory
        self._width = width
        self._random = random
        self._next = 0x1000

    def unused(self, count: int = 1) -> int:
        """Address of ``count`` pages in a row that do not exist yet; they are not made."""
        pages = self.memory.pages
        while True:
            if self._random is None:
                start = self._next
                self._next += count
            else:
                start = self._random.randrange(1, (1 << (self._width - 12)) - count)
            if not any(number in pages or number >> 8 == 0xFEE for number in range(start, start + count)):
                return start * PAGE_SIZE

    def new_pages(self, count: int = 1) -> int:
        address = self.unused(count)
        self.memory.add_pages(range(address, address + count * PAGE_SIZE, PAGE_SIZE))
        return address

    def host(self, address: int) -> int:
        return address


class Mapping(NamedTuple):
    """What :meth:`PageTables.map` was asked for: ``size`` bytes from ``address`` on lie at ``target``."""

    address: int
    target: int
    size: int


class Place(NamedTuple):
    """A paging entry on a path: its level, its address in the tables' space and in host memory."""

    level: int
    address: int
    host: int


class PageTables(ABC):
    """Page tables of one stage.

    Parameters
    ----------
    space : TableSpace
        Where the tables are put.
    levels : int
        Depth, 3 to 5.

    ``root`` is the address of the root table in ``space``; ``mappings`` what was mapped, in order.
    """

    structure: Structure

    def __init__(self, space: TableSpace, levels: int):
        self.space = space
        self.memory = space.memory
        self.levels = levels
        self.root = space.new_pages()
        self.mappings: list[Mapping] = []

    @abstractmethod
    def table_entry(self, table: int) -> int:
        """A permissive entry that points to the next table."""

    @abstractmethod
    def leaf_entry(self, target: int, large: bool, **fields: int) -> int:
        """A leaf; permissive where ``fields`` do not say otherwise."""

    def _place(self, table: int, address: int, level: int) -> Place:
        place = table | (address >> (3 + 9 * level) & 0x1FF) << 3
        return Place(level, place, self.space.host(place))

    def map(self, address: int, target: int, size: int = PAGE_SIZE, **fields: int) -> Mapping:
        """Map one page and make the tables on the way.

        Parameters
        ----------
        address, target : int
            Input and output address in bytes, aligned to ``size``.
        size : int
            4 KiB, 2 MiB or 1 GiB.
        **fields : int
            Fields of the leaf by name.

        Raises
        ------
        ValueError
            For an address that is not aligned, or where a larger page or a table is in the way.
        """
        if address % size or target % size:
            raise ValueError(f"{address:#x} to {target:#x} is not aligned to {size:#x} bytes")
        leaf_level = LEAF_LEVEL[size]
        table = self.root
        for level in range(self.levels, leaf_level, -1):
            place = self._place(table, address, level).host
            entry = self.memory.read64(place)
            if not entry:
                entry = self.table_entry(self.space.new_pages())
                self.memory.write64(place, entry)
            elif entry & _PAGE_SIZE_BIT:
                raise ValueError(f"{address:#x} lies in a larger page")
            table = entry & _TABLE
        place = self._place(table, address, leaf_level).host
        present = self.memory.read64(place)
        if present and leaf_level > 1 and not present & _PAGE_SIZE_BIT:
            raise ValueError(f"{address:#x} is mapped by smaller pages")
        self.memory.write64(place, self.leaf_entry(target, leaf_level > 1, **fields))
        mapping = Mapping(address, target, size)
        self.mappings.append(mapping)
        return mapping

    def path(self, address: int) -> list[Place]:
        """The entries that serve ``address``, from the root to the leaf; the tables must be sane."""
        places = []
        table = self.root
        for level in range(self.levels, 0, -1):
            place = self._place(table, address, level)
            places.append(place)
            entry = self.memory.read64(place.host)
            if not entry & 3 or (entry & _PAGE_SIZE_BIT and 1 < level < 4):
                break
            table = entry & _TABLE
        return places

    def set_fields(self, place: Place, **fields: int) -> None:
        """Change fields of an entry."""
        self.memory.write64(place.host, replace_fields(self.structure, self.memory.read64(place.host), **fields))

    def flip(self, place: Place, bit: int) -> None:
        """Invert one bit of an entry."""
        self.memory.write64(place.host, self.memory.read64(place.host) ^ 1 << bit)


class FirstStageTables(PageTables):
    """First-stage tables (§2.7) of 4 or 5 levels; entries have A (and leaves D) set unless told otherwise."""

    structure = Structure.FIRST_STAGE

    def table_entry(self, table: int) -> int:
        return encode(self.structure, P=1, RW=1, US=1, A=1, ADDR=table)

    def leaf_entry(self, target: int, large: bool, **fields: int) -> int:
        return encode(
            self.structure, **{"P": 1, "RW": 1, "US": 1, "A": 1, "D": 1, "PS": large, "ADDR": target} | fields
        )


class SecondStageTables(PageTables):
    """Second-stage tables (§2.8) of 3 to 5 levels, which legacy mode uses too."""

    structure = Structure.SECOND_STAGE

    def table_entry(self, table: int) -> int:
        return encode(self.structure, R=1, W=1, ADDR=table)

    def leaf_entry(self, target: int, large: bool, **fields: int) -> int:
        return encode(self.structure, **{"R": 1, "W": 1, "PS": large, "ADDR": target} | fields)


class GuestSpace:
    """Tables in guest-physical space: every page is backed by a host page that the second stage maps.

    Parameters
    ----------
    second : SecondStageTables
        The second stage, whose space holds the pages.
    width : int
        Bits of guest-physical addresses to use.
    random : Random, optional
        Scatters the pages; ascending from 1 MiB on without.
    """

    def __init__(self, second: SecondStageTables, width: int, random: Random | None = None):
        self.memory = second.space.memory
        self.second = second
        self._width = width
        self._random = random
        self._next = 0x100
        self._host_pages: dict[int, int] = {}

    def unused(self, count: int = 1) -> int:
        """Guest-physical address of pages that no table of this space uses."""
        while True:
            if self._random is None:
                start = self._next
                self._next += count
            else:
                start = self._random.randrange(1, (1 << (self._width - 12)) - count)
            if not any(number in self._host_pages for number in range(start, start + count)):
                return start * PAGE_SIZE

    def new_pages(self, count: int = 1) -> int:
        address = self.unused(count)
        for page in range(address, address + count * PAGE_SIZE, PAGE_SIZE):
            backing = self.second.space.new_pages()
            self._host_pages[page >> 12] = backing
            self.second.map(page, backing)
        return address

    def host(self, address: int) -> int:
        return self._host_pages[address >> 12] | address & 0xFFF
