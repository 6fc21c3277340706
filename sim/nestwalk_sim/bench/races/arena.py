"""Address spaces whose every entry can be made to lead elsewhere, under requesters that are new to the unit."""

from random import Random
from typing import NamedTuple

from ...builders import (
    FirstStageTables,
    GuestSpace,
    HostSpace,
    PageTables,
    SecondStageTables,
    encode,
    first_stage_fields,
    nested_fields,
    replace_fields,
    second_stage_fields,
)
from ...builders.paging import LEAF_LEVEL
from ...memory import PAGE_SIZE, Memory
from ...model import Request, Structure, UnitState
from ..cold_walk import ScatteredSpace
from ..platform import GIB, MIB

__all__ = ["DOMAINS", "SHAPES", "USES", "Arena", "Change", "Entry", "Shape", "Use", "unit_state"]

USES = 1024
"""Requesters of an arena, each with an identity, a PASID and a domain of its own."""

_LEGACY_USES = 256

DOMAINS = 1 << 15
"""An entry that changes its domain changes it by this."""

_GUEST_TABLE_BITS = 27
_PASIDS_OF_TABLE = 64
_TABLES = USES // _PASIDS_OF_TABLE
_ALL_OF_A_PAGE = 2
"""PDTS of a directory of one page."""


class Shape(NamedTuple):
    """A kind of address space: levels of each stage (0 for none), page size of both in bytes, legacy mode or not."""

    name: str
    first: int
    second: int
    size: int = PAGE_SIZE
    legacy: bool = False


SHAPES = (
    Shape("first_4k", 5, 0),
    Shape("first_2m", 4, 0, 2 * MIB),
    Shape("first_1g", 4, 0, GIB),
    Shape("second_4k", 0, 5),
    Shape("second_2m", 0, 4, 2 * MIB),
    Shape("second_1g", 0, 4, GIB),
    Shape("nested_4k", 4, 4),
    Shape("nested_2m", 4, 4, 2 * MIB),
    Shape("nested_1g", 4, 4, GIB),
    Shape("legacy_4k", 0, 4, legacy=True),
)


class Use(NamedTuple):
    """A requester; ``pasid`` is None in legacy mode."""

    source_id: int
    pasid: int | None
    domain_id: int


class Entry(NamedTuple):
    """A place on the walk. ``level`` is 0 outside page tables; ``address`` is what the entry translates: the request's
    address, or a guest-physical one."""

    structure: Structure
    level: int = 0
    leaf: bool = False
    address: int = 0


class Change(NamedTuple):
    """Bytes that software replaces atomically."""

    address: int
    old: bytes
    new: bytes


class _Page(NamedTuple):
    """A table as it is, and as the walk finds it when an entry above has changed."""

    old: int
    new: int


class _Fork:
    """A second path through page tables to another target: what each entry of the first path becomes to lead there.

    ``changes`` and ``copies`` (of the tables, addresses in their space) are by level, ``root`` is the root's copy.
    """

    def __init__(self, tables: PageTables, address: int, target: int):
        memory = tables.memory
        self.changes: dict[int, Change] = {}
        self.copies: dict[int, int] = {}
        *above, leaf = tables.path(address)
        value = replace_fields(tables.structure, memory.read64(leaf.host), ADDR=target)
        for place in (leaf, *reversed(above)):
            self.changes[place.level] = Change(place.host, memory.read(place.host, 8), value.to_bytes(8, "little"))
            copy = tables.space.new_pages()
            memory.write(tables.space.host(copy), memory.read(place.host & -PAGE_SIZE, PAGE_SIZE))
            memory.write64(tables.space.host(copy) + place.host % PAGE_SIZE, value)
            self.copies[place.level] = copy
            value = tables.table_entry(copy)
        self.root = self.copies[tables.levels]
        self.leaf = leaf.level


def unit_state(root: int, shape: Shape) -> UnitState:
    """The unit's state that uses a root table for arenas of a shape."""
    return UnitState(True, root, 0 if shape.legacy else 1)


class Arena:
    """One page for many requesters, no two of which share anything in any cache.

    Parameters
    ----------
    shape : Shape
    space : HostSpace
        Host memory.
    root : int
        Root table, shared by arenas.
    random : Random
    number : int
        Of the arena, which chooses its buses and domains.

    ``uses`` is the number of requesters, ``address`` that of the page, ``neighbour`` one in the same tables (None for
    large pages); ``entries`` are the places on the walk by name, ``leaf`` is that of the first or only stage.
    """

    def __init__(self, shape: Shape, space: HostSpace, root: int, random: Random, number: int):
        self.shape = shape
        self._space, self._random = space, random
        self._memory: Memory = space.memory
        self._first_domain = 1 + number * USES
        self._forks: dict[str, tuple[_Fork, int]] = {}
        self.entries: dict[str, Entry] = {}
        self.leaf = f"{'first' if shape.first else 'second'}_{LEAF_LEVEL[shape.size]}"
        levels = shape.first or shape.second
        last = (1 << 9 * levels + 11) // (2 * shape.size)
        self.address = (2 * random.randrange(1, last) + 1) * shape.size
        self.neighbour = self.address - PAGE_SIZE if shape.size == PAGE_SIZE else None
        old, new = self._page_tables()
        self._changes: dict[str, tuple[_Page, int]] = {}
        self.uses = _LEGACY_USES if shape.legacy else USES
        self._half = 0 if shape.legacy else random.randrange(2)
        self._per_bus = 256 if shape.legacy else 128
        buses = self.uses // self._per_bus
        self._buses = [number * buses + bus for bus in range(buses)]
        self._root = root
        if shape.legacy:
            self._legacy_structures(old, new)
        else:
            self._scalable_structures(old, new)

    # --- what the sweep needs

    def use(self, number: int) -> Use:
        """The requester of this number, below `uses`."""
        source_id = self._buses[number // self._per_bus] << 8 | self._half << 7 | number % self._per_bus
        pasid = None
        if not self.shape.legacy:
            pasid = self._indices[number // _PASIDS_OF_TABLE] << 6 | number % _PASIDS_OF_TABLE
        return Use(source_id, pasid, self._first_domain + number)

    def change(self, name: str, number: int, *, removed: bool = False) -> Change:
        """What software writes so that the requester of a number finds another page, or none."""
        change = self._change_of("pasid_present" if removed and name == "pasid" else name, number)
        if removed:
            present = 3 if self.entries[name].structure is Structure.SECOND_STAGE else 1
            return change._replace(new=bytes([change.old[0] & ~present]) + change.old[1:])
        return change

    def request(self, number: int, address: int | None = None) -> Request:
        """A read of the page, or of another address."""
        use = self.use(number)
        return Request(use.source_id, use.pasid, self.address if address is None else address)

    # --- where things lie

    def _change_of(self, name: str, number: int) -> Change:
        if name in self._forks:
            fork, level = self._forks[name]
            return fork.changes[level]
        use = self.use(number)
        bus, function = use.source_id >> 8, number % self._per_bus
        if name == "root":
            place = self._root + 16 * bus + 8 * self._half
            return Change(place, self._root_entry(self._context.old), self._root_entry(self._context.new))
        if name == "context":
            size = 16 if self.shape.legacy else 32
            return self._in_page(self._context, size * function, 16)
        assert use.pasid is not None
        if name == "directory":
            return self._in_page(self._directory, 8 * (use.pasid >> 6), 8)
        table, place = self._tables[number // _PASIDS_OF_TABLE], 64 * (use.pasid % _PASIDS_OF_TABLE)
        if name in ("pasid", "pasid_present"):
            with_first = bool(self.shape.first) and name == "pasid"
            return self._in_page(table, place + 16 * with_first, 16)
        old = self._memory.read_integer(table.old + place, 64)
        new = replace_fields(Structure.PASID_TABLE, old, SSPTPTR=self._second_root, DID=use.domain_id + DOMAINS)
        return Change(table.old + place, *(entry.to_bytes(64, "little")[:16] for entry in (old, new)))

    def _in_page(self, page: _Page, offset: int, size: int) -> Change:
        read = self._memory.read
        return Change(page.old + offset, read(page.old + offset, size), read(page.new + offset, size))

    @staticmethod
    def _root_entry(table: int) -> bytes:
        return (table | 1).to_bytes(8, "little")

    def _block(self) -> int:
        """Host memory of the page size that nothing uses, beyond all interrupt ranges."""
        return self._random.randrange((1 << 33) // self.shape.size, (1 << 50) // self.shape.size) * self.shape.size

    # --- building

    def _page_tables(self) -> tuple[dict[str, int], dict[str, int]]:
        """Fields of a PASID table entry, and those with which it leads elsewhere."""
        shape = self.shape
        if not shape.first:
            second = SecondStageTables(self._space, shape.second)
            self._map(second)
            fork = self._add_fork("second", second, self.address, self._block())
            return second_stage_fields(second), second_stage_fields(second) | {"SSPTPTR": fork.root}
        if not shape.second:
            first = FirstStageTables(self._space, shape.first)
            self._map(first)
            fork = self._add_fork("first", first, self.address, self._block())
            return first_stage_fields(first), first_stage_fields(first) | {"FSPTPTR": fork.root}
        return self._nested_tables()

    def _nested_tables(self) -> tuple[dict[str, int], dict[str, int]]:
        """Guest tables of 4 KiB pages lie close together in guest-physical space, as those of any guest do; under large
        pages every one lies in a top-level region of its own."""
        shape, random = self.shape, self._random
        second = SecondStageTables(self._space, shape.second)
        if shape.size == PAGE_SIZE:
            guest = GuestSpace(second, _GUEST_TABLE_BITS, random)
            page, other = (start + random.randrange(GIB) & -2 * PAGE_SIZE for start in (1 << 42, 1 << 43))
            for backed in (page, page + PAGE_SIZE, other):
                second.map(backed, self._block())
        else:
            guest = ScatteredSpace(second, shape.size, 52, random)
            page, other = guest.page() & -shape.size, guest.page() & -shape.size
        first = FirstStageTables(guest, shape.first)
        first.map(self.address, page, shape.size)
        if self.neighbour is not None:
            first.map(self.neighbour, page + PAGE_SIZE)
        fork = self._add_fork("first", first, self.address, other)
        for place in first.path(self.address):
            self._fork_second(second, place.level, place.address & -PAGE_SIZE, guest.host(fork.copies[place.level]))
        self._add_fork("second_page", second, page, self._block())
        fields = nested_fields(first, second)
        return fields, fields | {"FSPTPTR": fork.root}

    def _map(self, tables: PageTables) -> None:
        tables.map(self.address, self._block(), self.shape.size)
        if self.neighbour is not None:
            tables.map(self.neighbour, self._block())

    def _add_fork(self, name: str, tables: PageTables, address: int, target: int, *, pointers: bool = True) -> _Fork:
        """A fork whose changes are entries, those of pointers among them or not."""
        fork = _Fork(tables, address, target)
        for level in fork.changes if pointers else (fork.leaf,):
            self._forks[f"{name}_{level}"] = fork, level
            self.entries[f"{name}_{level}"] = Entry(tables.structure, level, level == fork.leaf, address)
        return fork

    def _fork_second(self, second: SecondStageTables, level: int, table: int, content: int) -> None:
        """Let the second stage of a first-stage table be able to lead to a page like the one at ``content``."""
        block, is_root = self._block(), level == self.shape.first
        page = block + table % self.shape.size
        self._memory.add_pages([page])
        self._memory.write(page, self._memory.read(content, PAGE_SIZE))
        fork = self._add_fork(f"second_table{level}", second, table, block, pointers=is_root)
        if is_root:
            self._second_root = fork.root

    def _scalable_structures(self, old: dict[str, int], new: dict[str, int]) -> None:
        space, memory = self._space, self._memory
        moved = 0 if self.shape.first else DOMAINS
        self._indices = self._random.sample(range(1, 512), _TABLES)  # PASID 0 is that of requests without one
        self._tables = [_Page(space.new_pages(), space.new_pages()) for _ in range(_TABLES)]
        self._directory = _Page(space.new_pages(), space.new_pages())
        self._context = _Page(space.new_pages(), space.new_pages())
        for number in range(USES):
            use, table = self.use(number), self._tables[number // _PASIDS_OF_TABLE]
            offset = 64 * (number % _PASIDS_OF_TABLE)
            for page, fields, domain_id in ((table.old, old, use.domain_id), (table.new, new, use.domain_id + moved)):
                memory.write_integer(page + offset, encode(Structure.PASID_TABLE, P=1, DID=domain_id, **fields), 64)
        for index, table in zip(self._indices, self._tables, strict=True):
            for directory, pasids in zip(self._directory, table, strict=True):
                memory.write64(directory + 8 * index, encode(Structure.PASID_DIRECTORY, P=1, SMPTBLPTR=pasids))
        for function in range(self._per_bus):
            for context, directory in zip(self._context, self._directory, strict=True):
                entry = encode(Structure.SCALABLE_CONTEXT, P=1, PASIDE=1, PDTS=_ALL_OF_A_PAGE, PASIDDIRPTR=directory)
                memory.write_integer(context + 32 * function, entry, 32)
        self._root_entries(Structure.SCALABLE_ROOT, Structure.SCALABLE_CONTEXT)
        self.entries["directory"] = Entry(Structure.PASID_DIRECTORY)
        self.entries["pasid"] = Entry(Structure.PASID_TABLE)
        if self.shape.first and self.shape.second:
            self.entries["pasid_second"] = Entry(Structure.PASID_TABLE)

    def _legacy_structures(self, old: dict[str, int], new: dict[str, int]) -> None:
        self._context = _Page(self._space.new_pages(), self._space.new_pages())
        for function in range(self._per_bus):
            pages = ((self._context.old, old, 0), (self._context.new, new, DOMAINS))
            for page, fields, moved in pages:
                domain_id = self._first_domain + function + moved
                entry = encode(Structure.LEGACY_CONTEXT, P=1, SSPTPTR=fields["SSPTPTR"], AW=fields["AW"], DID=domain_id)
                self._memory.write_integer(page + 16 * function, entry, 16)
        self._root_entries(Structure.LEGACY_ROOT, Structure.LEGACY_CONTEXT)

    def _root_entries(self, root: Structure, context: Structure) -> None:
        for bus in self._buses:
            self._memory.write(self._root + 16 * bus + 8 * self._half, self._root_entry(self._context.old))
        self.entries["root"], self.entries["context"] = Entry(root), Entry(context)
