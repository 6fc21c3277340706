"""Random changes of table entries in use."""

from dataclasses import dataclass, field

from nestwalk_sim.builders import LAYOUTS
from nestwalk_sim.host.vtd.descriptors import Descriptor
from nestwalk_sim.memory import PAGE_SIZE
from nestwalk_sim.model import Request, Structure

from .covering import Changed, covering_descriptors
from .world import TABLE, Entry, Group, Space, random_page

__all__ = ["Edit", "random_edit"]

PRESENT = dict.fromkeys(Structure, 1) | {Structure.SECOND_STAGE: 3}
"""Bits of the first word that make an entry present, all of them or one."""

WHOLE = PRESENT | {Structure.FIRST_STAGE: 7, Structure.SCALABLE_CONTEXT: 9}
"""Bits without which some request of the group is blocked."""

CHILD_STRIDE = {
    Structure.SCALABLE_ROOT: 32,
    Structure.LEGACY_ROOT: 16,
    Structure.SCALABLE_CONTEXT: 8,
    Structure.PASID_DIRECTORY: 64,
}
"""Bytes of the entries in the table that an entry points to; 8 in page tables."""


@dataclass
class Edit:
    """One change that software makes.

    ``prepare`` is written before it where nothing leads, then atomically ``content`` at ``address``, and after the
    invalidation ``cleanup`` where nothing leads any more. ``request`` is one whose walk meets the entry. ``covering``
    are the descriptors that complete it, none where the specification asks for none. ``begun`` is the cycle from which
    on memory is changed, ``done`` the one from which on nothing old may be used.
    """

    what: str
    request: Request
    address: int
    content: bytes
    covering: list[Descriptor]
    prepare: list[tuple[int, bytes]] = field(default_factory=list)
    cleanup: list[tuple[int, bytes]] = field(default_factory=list)
    begun: int = 0
    done: int = 0

    def __str__(self) -> str:
        covering = ", ".join(map(str, self.covering)) or "nothing to invalidate"
        return f"{self.begun} to {self.done}: {self.what} for {self.request}; {covering}"


class _Change(Changed):
    """An edit in the making, and the pages it takes and frees."""

    def __init__(self, group: Group, entry: Entry, space: Space, source_id: int):
        super().__init__(group, entry, space, source_id)
        self.was_present = bool(self.value & PRESENT[entry.structure])
        self.prepare: list[tuple[int, bytes]] = []
        self.cleanup: list[tuple[int, bytes]] = []

    def permissions_changed(self) -> int:
        if self.entry.structure is Structure.FIRST_STAGE:
            return self.value ^ self.random.choice((2, 4, 6))
        allowed = (1, 2, 3) if self.group.nested_bits_set else (2, 3)
        return self.value & ~3 | self.random.choice([bits for bits in allowed if bits != self.value & 3])

    @property
    def _nested_first_stage(self) -> bool:
        return self.entry.structure is Structure.FIRST_STAGE and self.space.second is not None

    def retargeted(self) -> int:
        """A leaf that leads elsewhere.

        Under nesting a first-stage leaf takes the place of another one of its size, and a first-stage table under a
        second-stage leaf moves.
        """
        group, size = self.group, 1 << (3 + 9 * self.entry.level)
        old = self.value & TABLE & ~(size - 1)
        if self._nested_first_stage:
            leaves = [group.first_path(self.space, page.address)[-1] for page in self.space.pages]
            other = self.random.choice([leaf for leaf in leaves if leaf.level == self.entry.level])
            target = group.memory.read64(other.address) & TABLE & ~(size - 1)
        elif old >> 12 in group.memory.pages:
            target = group.host.new_pages()
            self._move(old, target)
        else:
            target = random_page(self.random, 52, size)
        return self.value & ~(TABLE & ~(size - 1)) | target

    def repointed(self) -> int:
        """An entry that leads to a copy of its table in which one entry is different; the old table becomes free."""
        group, old = self.group, self.value & TABLE
        if self._nested_first_stage:
            new = group.spare_guest_pages.pop(0)
            group.spare_guest_pages.append(old)
            self._move(group.host_page(self.space, old), group.host_page(self.space, new))
        else:
            new = group.host.new_pages()
            self._move(old, new)
        return self.value & ~TABLE | new

    def _move(self, old: int, new: int) -> None:
        copy = bytearray(self.group.memory.read(old, PAGE_SIZE))
        child = self._child_in(old)
        copy[child] ^= 1
        self.prepare.append((new, bytes(copy)))
        self.cleanup.append((old, bytes(PAGE_SIZE)))

    def _child_in(self, table: int) -> int:
        """Offset of an entry of the table that some request uses: one that is not zero."""
        memory, stride = self.group.memory, CHILD_STRIDE.get(self.entry.structure, 8)
        return self.random.choice([at for at in range(0, PAGE_SIZE, stride) if memory.read64(table + at)])


def random_edit(group: Group) -> Edit:
    """A change of an entry that some request of the group uses, not made yet.

    More often than not an entry is mended if one on the way is not whole, lest nothing be granted for long.
    """
    random = group.random
    request = random.choice(group.pool)
    space, structures, paging = group.walk_of(request)
    broken = [entry for entry in structures + paging if not _is_whole(group, entry)]
    if broken and random.random() < 0.75:
        entry = random.choice(broken)
    else:
        entry = random.choice(paging if paging and random.random() < 0.7 else structures)
    change = _Change(group, entry, space, request.source_id)
    kind, value = _kind_and_value(change, mend=entry in broken)
    covering = [] if kind == "present" and random.random() < 0.7 else covering_descriptors(change)
    what = f"{entry.structure.value} level {entry.level} at {entry.address:#x}: {kind}"
    content = value.to_bytes(8, "little")
    return Edit(what, request, entry.address + change.offset, content, covering, change.prepare, change.cleanup)


def _is_whole(group: Group, entry: Entry) -> bool:
    wanted = WHOLE[entry.structure]
    return group.memory.read64(entry.address) & wanted == wanted


def _kind_and_value(change: _Change, mend: bool) -> tuple[str, int]:
    """What is changed, and the word that does it."""
    group, entry, random = change.group, change.entry, change.random
    structure = entry.structure
    if not change.was_present:
        if structure is Structure.PASID_TABLE:
            _rebind(change)
        return "present", change.value | WHOLE[structure]
    if mend:
        return "permissions", change.value | WHOLE[structure]
    if structure is Structure.PASID_TABLE and random.random() < 0.5:
        change.offset = 16
        return "SRE", group.memory.read64(entry.address + 16) ^ 1
    if structure is Structure.SCALABLE_CONTEXT and random.random() < 0.4:
        change.offset = 8
        rid_pasid = random.choice(group.rid_pasids)
        return "RID_PASID", group.memory.read64(entry.address + 8) & ~0xFFFFF | rid_pasid
    if structure is Structure.SCALABLE_CONTEXT and random.random() < 0.3:
        return "PASIDE", change.value ^ 8
    if entry.level and random.random() < 0.3:
        return "permissions", change.permissions_changed()
    if change.leaf and random.random() < 0.7:
        return "target", change.retargeted()
    if structure not in (Structure.PASID_TABLE, Structure.LEGACY_CONTEXT) and not change.leaf and random.random() < 0.6:
        return "pointer", change.repointed()
    return "not present", change.value & ~PRESENT[structure]


def _rebind(change: _Change) -> None:
    """While a PASID table entry is not present: make it pass-through, or what its address space is."""
    random, space = change.random, change.space
    own = random.random() < 0.6 or not space.fields
    domain_id = space.domain_id if own else change.group.pass_through_domain
    layout = LAYOUTS[Structure.PASID_TABLE]
    fields = (space.fields if own else {"PGTT": 4}) | {"DID": domain_id, "SRE": random.getrandbits(1)}
    entry = sum(layout[name].insert(value) for name, value in fields.items())
    change.prepare.append((change.entry.address, entry.to_bytes(64, "little")))
    change.value = entry & (1 << 64) - 1
