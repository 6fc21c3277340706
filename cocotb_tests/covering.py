"""The invalidations that cover a change of a table entry (§6.1, §5.3)."""

from random import Random

from nestwalk_sim.host.vtd.descriptors import (
    ContextCacheInvalidate,
    Descriptor,
    IotlbInvalidate,
    PasidCacheInvalidate,
    PasidIotlbInvalidate,
)
from nestwalk_sim.memory import PAGE_SIZE
from nestwalk_sim.model import Structure

from .world import TABLE, Entry, Group, Space

__all__ = ["Changed", "covering_descriptors", "unrelated_invalidation"]

MAX_ADDRESS_MASK = 18
"""CAP.MAMV, which limits ``iotlb_inv`` only."""


class Changed:
    """An entry of a group about to change: ``value`` of its word with the pointer, ``offset`` of the word that changes.

    ``space`` and ``source_id`` are those of a request that meets it.
    """

    def __init__(self, group: Group, entry: Entry, space: Space, source_id: int):
        self.group, self.entry, self.space, self.source_id = group, entry, space, source_id
        self.random = group.random
        self.value = group.memory.read64(entry.address)
        self.offset = 0

    @property
    def leaf(self) -> bool:
        return self.entry.level > 0 and self.group.is_leaf(self.entry, self.value)


def covering_descriptors(change: Changed) -> list[Descriptor]:
    """Descriptors that cover a change, mostly no more than it needs: context cache first, then PASID cache, IOTLB."""
    structure = change.entry.structure
    if structure is Structure.FIRST_STAGE:
        return _cover_first_stage(change)
    if structure is Structure.SECOND_STAGE:
        return [_cover_second_stage(change)]
    if structure in (Structure.SCALABLE_ROOT, Structure.LEGACY_ROOT):
        pasids: list[Descriptor] = [PasidCacheInvalidate()] if change.group.scalable else []
        return [ContextCacheInvalidate(), *pasids, IotlbInvalidate()]
    if structure is Structure.LEGACY_CONTEXT:
        domain_id = change.space.domain_id
        return [_context(change, domain_id), _domain(change.random, domain_id)]
    if structure is Structure.SCALABLE_CONTEXT:
        domains = sorted(change.group.domains)
        caches = _pasid_cache(change.random, [(domain_id, None) for domain_id in domains])
        return [_context(change, change.random.choice(domains)), *caches, *_domains(change.random, domains)]
    if structure is Structure.PASID_DIRECTORY:
        return _cover_directory(change)
    return _cover_pasid_entry(change)


def _rarely(random: Random) -> bool:
    return random.random() < 0.15


def _domain(random: Random, domain_id: int) -> Descriptor:
    return IotlbInvalidate() if _rarely(random) else IotlbInvalidate(domain_id)


def _domains(random: Random, domains: list[int]) -> list[Descriptor]:
    return [IotlbInvalidate()] if _rarely(random) else [IotlbInvalidate(domain_id) for domain_id in domains]


def _pasid_cache(random: Random, tags: list[tuple[int, int | None]]) -> list[Descriptor]:
    if _rarely(random):
        return [PasidCacheInvalidate()]
    if _rarely(random):
        return [PasidCacheInvalidate(domain_id) for domain_id in sorted({domain_id for domain_id, _ in tags})]
    return [PasidCacheInvalidate(domain_id, pasid) for domain_id, pasid in tags]


def _context(change: Changed, domain_id: int) -> Descriptor:
    random, source_id = change.random, change.source_id
    if _rarely(random):
        return ContextCacheInvalidate()
    if _rarely(random):
        return ContextCacheInvalidate(domain_id=domain_id)
    mask = random.choice((0, 0, 0, 1, 2, 3))
    masked = (0, 4, 6, 7)[mask]
    return ContextCacheInvalidate(source_id ^ random.getrandbits(3) & masked, domain_id, mask)


def _aligned(random: Random, address: int, level: int, limit: int) -> tuple[int, int]:
    """An address and mask of at least the span of an entry at ``level``."""
    mask = 9 * (level - 1)
    if _rarely(random):
        mask = random.randrange(mask, max(limit, mask) + 1)
    return address & ~((PAGE_SIZE << mask) - 1) & (1 << 64) - 1, mask


def _cover_first_stage(change: Changed) -> list[Descriptor]:
    random, space, entry = change.random, change.space, change.entry
    lot = random.random()
    if lot < 0.1:
        return [_domain(random, space.domain_id)]
    if lot < 0.2:
        # Whatever the page, every first-stage translation of the domain goes.
        return [IotlbInvalidate(space.domain_id, random.getrandbits(48) & ~0xFFF)]
    if lot < 0.3:
        return [PasidIotlbInvalidate(space.domain_id, pasid) for pasid in space.pasids]
    address, mask = _aligned(random, entry.input_address, entry.level, 45)
    hint = change.leaf and bool(random.getrandbits(1))
    return [PasidIotlbInvalidate(space.domain_id, pasid, address, mask, hint) for pasid in space.pasids]


def _cover_second_stage(change: Changed) -> Descriptor:
    random, space, entry = change.random, change.space, change.entry
    if entry.level > 3 or _rarely(random):
        return _domain(random, space.domain_id)
    address, mask = _aligned(random, entry.input_address, entry.level, MAX_ADDRESS_MASK)
    return IotlbInvalidate(space.domain_id, address, mask, change.leaf and bool(random.getrandbits(1)))


def _present_domain(change: Changed, entry_address: int) -> int:
    return change.group.memory.read64(entry_address + 8) & 0xFFFF


def _cover_pasid_entry(change: Changed) -> list[Descriptor]:
    random, pasid = change.random, change.entry.input_address
    domain_id = _present_domain(change, change.entry.address)
    second = domain_id == change.space.domain_id and change.space.second is not None
    whole = second and change.offset == 0
    iotlb = _domain(random, domain_id) if whole or _rarely(random) else PasidIotlbInvalidate(domain_id, pasid)
    return [*_pasid_cache(random, [(domain_id, pasid)]), iotlb]


def _cover_directory(change: Changed) -> list[Descriptor]:
    """Every PASID whose entry lies in the table that the entry leads to."""
    group, pasid = change.group, change.entry.input_address
    table = change.value & TABLE
    tags: list[tuple[int, int | None]] = []
    for other in (other for space in group.spaces for other in space.pasids):
        if other >> 6 == pasid >> 6:
            tags.append((_present_domain(change, table + 64 * (other & 0x3F)), other))
    domains = sorted({domain_id for domain_id, _ in tags})
    return [*_pasid_cache(change.random, tags), *_domains(change.random, domains)]


def unrelated_invalidation(group: Group) -> Descriptor:
    """Anything that covers no change of this moment, or covers it by chance."""
    random, space = group.random, group.random.choice(group.spaces)
    address, mask = _aligned(random, random.getrandbits(48), 1, MAX_ADDRESS_MASK)
    choices: list[Descriptor] = [
        IotlbInvalidate(space.domain_id, address, mask, bool(random.getrandbits(1))),
        ContextCacheInvalidate(random.choice(group.devices), space.domain_id),
    ]
    if space.pasids:
        pasid = random.choice(space.pasids)
        choices += [
            PasidCacheInvalidate(space.domain_id, pasid),
            PasidIotlbInvalidate(space.domain_id, pasid, address, mask),
        ]
    return random.choice(choices)
