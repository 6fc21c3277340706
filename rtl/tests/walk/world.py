"""Two root tables of the same devices, whose pages a test remaps while they are in use."""

from dataclasses import dataclass, field
from random import Random

from nestwalk.config import IommuConfig
from nestwalk.invalidation.command import Scope
from nestwalk_sim.builders import (
    FirstStageTables,
    GuestSpace,
    HostSpace,
    PageTables,
    Place,
    ScalableTables,
    SecondStageTables,
    first_stage_fields,
    nested_fields,
    second_stage_fields,
)
from nestwalk_sim.memory import Memory
from nestwalk_sim.model import Access, Request, Structure

__all__ = ["Page", "Version", "World"]

SIZE = 4096
GUEST = 0x4000_0000
PAGES = [0x7FFF_F000, 0x7654_3000, 0x7654_4000, 0x1_0000_0000]


@dataclass
class Version:
    """What a page was mapped to from cycle ``begin`` to ``end``, None for nothing.

    ``forgotten`` is the cycle in which the invalidation after its end was done, ``drained`` the first one after that
    in which nothing older was under way.
    """

    target: int | None
    begin: int = 0
    end: int | None = None
    forgotten: int | None = None
    drained: int | None = None


@dataclass
class Page:
    """One page of one requester under one root table."""

    source_id: int
    pasid: int | None
    domain: int
    address: int
    first: PageTables | None
    second: PageTables | None
    versions: list[Version] = field(default_factory=list)

    def request(self, rng: Random) -> Request:
        access = rng.choice([Access.READ, Access.READ, Access.WRITE])
        return Request(self.source_id, self.pasid, self.address | rng.getrandbits(12), access)

    @property
    def guest(self) -> int:
        """The address that a second stage translates for it."""
        return GUEST + self.address % (1 << 20) if self.first else self.address

    def changes(self) -> list[tuple[PageTables, Place]]:
        """Entries that map it."""
        found = [(self.first, self.first.path(self.address)[-1])] if self.first and not self.second else []
        return found + ([(self.second, self.second.path(self.guest)[-1])] if self.second else [])

    def invalidation(self, rng: Random, *, moved: bool) -> dict:
        """One that covers a change of its last stage, of the table too if that has ``moved``."""
        scopes = [Scope.PAGE_IN_DOMAIN, Scope.PAGE_IN_DOMAIN, Scope.DOMAIN, Scope.GLOBAL]
        if not self.second:
            scopes += [Scope.PAGE_IN_PASID] * 4 + [Scope.PASID]
        scope = rng.choice(scopes)
        page = (self.guest if self.second else self.address) >> 12
        mask = rng.choice([0, 0, 1, 3, 10])
        tags = {"domain_id": self.domain, "pasid": self.pasid or 0, "hint": 0 if moved else rng.getrandbits(1)}
        return {"iotlb": 1, "scope": scope, "page": page >> mask << mask, "address_mask": mask} | tags


class World:
    """Three requesters (second stage, first stage, nested) under two root tables.

    Parameters
    ----------
    cfg : IommuConfig
    rng : Random
    """

    def __init__(self, cfg: IommuConfig, rng: Random):
        self.rng = rng
        self.memory = Memory()
        self.space = HostSpace(self.memory, min(cfg.haw, 40), rng)
        # The same domains mean other tables under the other root pointer.
        self.roots = [self._root() for _ in range(2)]
        self.pages = [pages for _, pages in self.roots]
        self.active = 0

    @property
    def state(self):
        return self.roots[self.active][0].state

    def _root(self) -> tuple[ScalableTables, list[Page]]:
        tables = ScalableTables(self.space)
        own, below = SecondStageTables(self.space, 3), SecondStageTables(self.space, 3)
        first, guest = FirstStageTables(self.space, 4), FirstStageTables(GuestSpace(below, 30, self.rng), 4)
        kinds = [
            (0x100, None, 1, None, own, second_stage_fields(own)),
            (0x100, 5, 2, first, None, first_stage_fields(first)),
            (0x280, 5, 3, guest, below, nested_fields(guest, below)),
        ]
        pages = []
        for source_id in (0x100, 0x280):
            tables.add_device(source_id, RID_PASID=0, PASIDE=1)
        for source_id, pasid, domain, stage1, stage2, fields in kinds:
            tables.add_pasid(source_id, pasid or 0, DID=domain, **fields)
            for address in PAGES:
                page = Page(source_id, pasid, domain, address, stage1, stage2)
                target = self.space.unused()
                if stage1:
                    stage1.map(address, page.guest if stage2 else target)
                if stage2:
                    stage2.map(page.guest, target)
                page.versions.append(Version(target))
                pages.append(page)
        return tables, pages

    def change(self, page: Page, now: int, *, moves: bool | None = None) -> bool:
        """Map a page elsewhere, or nowhere, perhaps in a new copy of its table; the value says whether in a new one."""
        ((tables, place),) = page.changes()
        address = page.guest if page.second else page.address
        if moves is None:
            moves = self.rng.random() < 0.4
        if moves:
            table = tables.space.new_pages()
            content = self.memory.read(place.host & -SIZE, SIZE)
            self.memory.write(tables.space.host(table), content)
            tables.set_fields(tables.path(address)[-2], ADDR=table)
            place = tables.path(address)[-1]
        present = {"P": 1} if tables.structure is Structure.FIRST_STAGE else {"R": 1, "W": 1}
        target = self.space.unused() if self.rng.random() < 0.8 else None
        if target is None:
            tables.set_fields(place, **dict.fromkeys(present, 0))
        else:
            tables.set_fields(place, ADDR=target, **present)
        page.versions[-1].end = now
        page.versions.append(Version(target, now))
        return moves
