"""Groups of devices whose tables change while they are in use.

Every group has a bus, domain identifiers and page tables of its own, so that one pending change per group is one per
request. Entries are switched off by their present bits alone and keep their pointers, so that the tables can always
be followed.
"""

from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from nestwalk_sim.builders import (
    FirstStageTables,
    GuestSpace,
    HostSpace,
    LegacyTables,
    PageTables,
    ScalableTables,
    SecondStageTables,
    first_stage_fields,
    nested_fields,
    pass_through_fields,
    second_stage_fields,
)
from nestwalk_sim.memory import PAGE_SIZE, Memory
from nestwalk_sim.model import Access, ModelConfig, Request, Structure

__all__ = ["TABLE", "Entry", "Group", "Page", "Space", "legacy_group", "random_page", "scalable_group"]

SIZES = (1 << 12, 1 << 12, 1 << 12, 1 << 21, 1 << 30)
TABLE = 0x000F_FFFF_FFFF_F000
LARGE = 1 << 7
INTERRUPT_RANGE = 0xFEE
SWEEPS = 8
SPARES = 6
"""Guest-physical pages that wait to become first-stage tables."""


class Page(NamedTuple):
    """A page that requests go to: bytes from ``address`` on that are mapped alike."""

    address: int
    size: int


class Entry(NamedTuple):
    """A table entry in use: host address of its 8-byte word with the pointer, paging level (0 outside page tables),
    and the input address that it serves, which is the request's in the first stage."""

    structure: Structure
    address: int
    level: int = 0
    input_address: int = 0


@dataclass
class Space:
    """An address space. ``pasids`` all lead to it; it has none in legacy mode. Pass-through has no tables."""

    domain_id: int
    fields: dict[str, int]
    pasids: list[int]
    first: FirstStageTables | None = None
    second: SecondStageTables | None = None
    pages: list[Page] = field(default_factory=list)


@dataclass
class Group:
    """Devices that share page tables and nothing with other groups. ``sweeps`` are requests of the ``pool``, by number,
    that go from page to page.

    ``memory`` is what software believes to be in memory: without the accessed and dirty bits that hardware sets.
    Whether hardware may set them under nesting depends on the second stage, and whether it has to on what it did
    before: so either software sets them all (``nested_bits_set``), or no second-stage entry is ever read-only.
    """

    random: Random
    memory: Memory
    host: HostSpace
    tables: ScalableTables | LegacyTables
    devices: list[int]
    spaces: list[Space]
    pass_through_domain: int = 0
    nested_bits_set: bool = True
    rid_pasids: list[int] = field(default_factory=list)
    spare_guest_pages: list[int] = field(default_factory=list)
    pool: list[Request] = field(default_factory=list)
    sweeps: list[list[int]] = field(default_factory=list)

    @property
    def domains(self) -> set[int]:
        own = {space.domain_id for space in self.spaces}
        return own | {self.pass_through_domain} if self.scalable else own

    @property
    def scalable(self) -> bool:
        return isinstance(self.tables, ScalableTables)

    def space_of(self, pasid: int) -> Space:
        return next(space for space in self.spaces if pasid in space.pasids)

    def rid_pasid(self, source_id: int) -> int:
        return self.memory.read64(self.tables.context_entry_address(source_id) + 8) & 0xFFFFF

    def walk_of(self, request: Request) -> tuple[Space, list[Entry], list[Entry]]:
        """The address space that a request meets, and the entries on its walk: structures, and paging entries."""
        memory, tables, source_id = self.memory, self.tables, request.source_id
        context, root = tables.context_entry_address(source_id), tables.root_entry_address(source_id)
        if not self.scalable:
            space = legacy_space(self, source_id)
            structures = [Entry(Structure.LEGACY_ROOT, root), Entry(Structure.LEGACY_CONTEXT, context)]
        else:
            pasid = self.rid_pasid(source_id) if request.pasid is None else request.pasid
            space = self.space_of(pasid)
            directory = (memory.read64(context) & TABLE) + 8 * (pasid >> 6)
            structures = [
                Entry(Structure.SCALABLE_ROOT, root + 8 * bool(source_id & 0x80)),
                Entry(Structure.SCALABLE_CONTEXT, context),
                Entry(Structure.PASID_DIRECTORY, directory, input_address=pasid),
                Entry(Structure.PASID_TABLE, (memory.read64(directory) & TABLE) + 64 * (pasid & 0x3F), 0, pasid),
            ]
        if space.first is None and space.second is None:
            return space, structures, []
        page = next((page for page in space.pages if page.address <= request.address < page.address + page.size), None)
        address = (page or self.random.choice(space.pages)).address
        paging = [] if space.first is None else self.first_path(space, address)
        if space.second is not None:
            for guest in self.guest_addresses(space, address):
                paging += self.second_path(space.second, guest)
        return space, structures, list({entry.address: entry for entry in paging}.values())

    # --- following tables whatever their present bits say

    def second_path(self, second: SecondStageTables, address: int) -> list[Entry]:
        """Second-stage entries that serve an address, root first."""
        return self._path(second, address, lambda table: table)

    def first_path(self, space: Space, address: int) -> list[Entry]:
        """First-stage entries that serve an address, root first."""
        assert space.first is not None
        return self._path(space.first, address, lambda table: self.host_page(space, table))

    def _path(self, tables: PageTables, address: int, host) -> list[Entry]:
        table, path = tables.root, []
        for level in range(tables.levels, 0, -1):
            place = host(table) | (address >> (3 + 9 * level) & 0x1FF) << 3
            path.append(Entry(tables.structure, place, level, address))
            value = self.memory.read64(place)
            if self.is_leaf(path[-1], value):
                break
            table = value & TABLE
        return path

    @staticmethod
    def is_leaf(entry: Entry, value: int) -> bool:
        return entry.level == 1 or (entry.level in (2, 3) and bool(value & LARGE))

    def host_page(self, space: Space, page: int) -> int:
        """Host page of a first-stage table, which is guest-physical under nesting."""
        if space.second is None:
            return page
        leaf = self.second_path(space.second, page)[-1]
        offset = (1 << (3 + 9 * leaf.level)) - 1
        return self.memory.read64(leaf.address) & TABLE & ~offset | page & offset & TABLE

    def guest_addresses(self, space: Space, address: int) -> list[int]:
        """What the walk for ``address`` gives to the second stage: its first-stage tables, then the page itself."""
        if space.first is None:
            return [address]
        places, table, offset = [], space.first.root, 0
        for entry in self.first_path(space, address):
            places.append(table | entry.address & 0xFFF)
            table = self.memory.read64(entry.address) & TABLE
            offset = (1 << (3 + 9 * entry.level)) - 1
        return [*places, table & ~offset | address & offset]


def random_page(random: Random, width: int, size: int, *, canonical: bool = False) -> int:
    """An aligned address of ``width`` bits away from the interrupt range."""
    while True:
        page = random.getrandbits(width) & ~(size - 1)
        if canonical and page >> (width - 1):
            page |= (1 << 64) - (1 << width)
        if page >> 30 != INTERRUPT_RANGE >> 10:
            return page


def map_pages(
    random: Random, tables: PageTables, width: int, output_width: int, *, guest: bool = False, bits_set: bool = False
) -> list[Page]:
    """Map pages of all sizes, and beside the first one its neighbour. ``guest``: use but one 4 KiB part of each.
    ``bits_set``: nothing is left for hardware to set in first-stage leaves.
    """
    pages: list[Page] = []
    canonical = isinstance(tables, FirstStageTables)
    while len(pages) < len(SIZES) + 1:
        size = SIZES[max(len(pages) - 1, 0)]
        page = random_page(random, width, size, canonical=canonical)
        if len(pages) == 1:
            page = pages[0].address ^ PAGE_SIZE
        fields = {"A": bits_set or random.getrandbits(1), "D": bits_set or random.getrandbits(1)} if canonical else {}
        try:
            tables.map(page, random_page(random, output_width, size), size, **fields)
        except ValueError:
            continue  # something is in the way
        part = random.randrange(0, size, PAGE_SIZE) if guest else 0
        pages.append(Page(page + part, PAGE_SIZE if guest else size))
    return pages


def make_pool(group: Group, count: int = 64) -> None:
    """The requests of a group, over all its devices, address spaces and pages."""
    random = group.random
    for _ in range(count):
        source_id = random.choice(group.devices)
        with_pasid = group.scalable and random.random() < 0.7
        pasid = None
        if with_pasid:
            space = random.choice(group.spaces)
            pasid = space.pasids[0] if random.random() < 0.8 else random.choice(space.pasids)
        elif group.scalable:
            space = group.space_of(random.choice(group.rid_pasids))
        else:
            space = legacy_space(group, source_id)
        page = random.choice(space.pages)
        access = random.choice((Access.READ, Access.READ, *Access))
        privileged = with_pasid and random.random() < 0.2
        group.pool.append(Request(source_id, pasid, page.address + random.randrange(page.size), access, privileged))
    for request in random.sample(group.pool, SWEEPS):
        add_sweep(group, request)


def add_sweep(group: Group, request: Request) -> None:
    """Read one page after the other, as far as a page of 4 KiB and its neighbour go, or a part of a larger page.

    ``group.sweeps`` tells where the requests are in the pool.
    """
    space, _, _ = group.walk_of(request)
    page = group.random.choice(space.pages)
    pages = min(page.size // PAGE_SIZE, group.random.randrange(3, 10))
    start = page.address + group.random.randrange(page.size // PAGE_SIZE - pages + 1) * PAGE_SIZE
    if page.size == PAGE_SIZE:
        start, pages = page.address & ~PAGE_SIZE, 2
    group.sweeps.append(list(range(len(group.pool), len(group.pool) + pages)))
    group.pool += [request._replace(address=start + number * PAGE_SIZE, access=Access.READ) for number in range(pages)]


def legacy_space(group: Group, source_id: int) -> Space:
    return group.spaces[group.devices.index(source_id) % len(group.spaces)]


def add_nested_pages(group: Group, config: ModelConfig, space: Space, width: int) -> None:
    """Map the pages of a nested space, and what they lead to in the second stage."""
    random, second = group.random, space.second
    assert space.first is not None
    assert second is not None
    levels = space.first.levels
    space.pages = map_pages(random, space.first, 9 * levels + 12, width, guest=True, bits_set=group.nested_bits_set)
    for page in list(space.pages):
        guest = group.guest_addresses(space, page.address)[-1]
        size = random.choice((1 << 12, 1 << 12, 1 << 21))
        try:
            second.map(guest & ~(size - 1), random_page(random, config.haw, size), size)
        except ValueError:
            space.pages.remove(page)  # where a table lies already


def scalable_group(random: Random, config: ModelConfig, tables: ScalableTables, bus: int, domains: list[int]) -> Group:
    """Three devices with spaces of all kinds, two of them with first-stage tables; takes five domains."""
    host, memory = tables.space, tables.memory
    devices = [bus << 8 | function for function in (*random.sample(range(0x80), 2), random.randrange(0x80, 0x100))]
    pasids = random.sample(range(1 << 15), 9)
    second = SecondStageTables(host, random.choice(sorted(config.second_stage_levels)))
    width = min(config.guest_width(second.levels), config.haw)
    guest = GuestSpace(second, width, random)
    firsts = [FirstStageTables(place, random.choice((4, 5))) for place in (host, host, guest)]
    spaces = [
        Space(domains[0], second_stage_fields(second), pasids[0:2], second=second),
        Space(domains[0], nested_fields(firsts[2], second), pasids[2:5], firsts[2], second),
        Space(domains[1], first_stage_fields(firsts[0]), pasids[5:7], firsts[0]),
        Space(domains[2], first_stage_fields(firsts[1]), [pasids[7]], firsts[1]),
        Space(domains[3], pass_through_fields(), [pasids[8]]),
    ]
    group = Group(random, memory, host, tables, devices, spaces, domains[4], bool(random.getrandbits(1)))
    group.rid_pasids = [space.pasids[-1] for space in spaces[:3]]
    spaces[0].pages = map_pages(random, second, width, config.haw)
    add_nested_pages(group, config, spaces[1], width)
    group.spare_guest_pages = [guest.new_pages() for _ in range(SPARES)]
    for space in spaces[2:4]:
        assert space.first is not None
        space.pages = map_pages(random, space.first, 9 * space.first.levels + 12, config.haw)
    spaces[4].pages = [Page(random_page(random, config.haw, PAGE_SIZE), PAGE_SIZE)]
    for source_id in devices:
        tables.add_device(source_id, 2, RID_PASID=random.choice(group.rid_pasids), PASIDE=1)
        for space in spaces:
            for pasid in space.pasids:
                tables.add_pasid(source_id, pasid, DID=space.domain_id, SRE=random.getrandbits(1), **space.fields)
    make_pool(group)
    return group


def legacy_group(random: Random, config: ModelConfig, tables: LegacyTables, bus: int, domains: list[int]) -> Group:
    """Four devices with two second-stage spaces; takes two domains."""
    host = tables.space
    devices = [bus << 8 | function for function in random.sample(range(0x100), 4)]
    spaces = []
    for domain_id in domains[:2]:
        second = SecondStageTables(host, random.choice(sorted(config.second_stage_levels)))
        width = min(config.guest_width(second.levels), config.haw)
        pages = map_pages(random, second, width, config.haw)
        spaces.append(Space(domain_id, {}, [], second=second, pages=pages))
    group = Group(random, tables.memory, host, tables, devices, spaces)
    for source_id in devices:
        space = legacy_space(group, source_id)
        tables.add_device(source_id, space.second, DID=space.domain_id)
    make_pool(group)
    return group
