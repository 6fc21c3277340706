"""What is raced: each entry of a walk, with each invalidation that covers its change (§5.3, §6.1)."""

from collections.abc import Iterator
from typing import NamedTuple

from ...host.vtd.descriptors import (
    ContextCacheInvalidate,
    Descriptor,
    IotlbInvalidate,
    PasidCacheInvalidate,
    PasidIotlbInvalidate,
)
from ...model import Structure
from .arena import Arena, Shape

__all__ = ["NOTHING", "Row", "covering", "peer_of", "rows_of"]

NOTHING = "nothing"
"""The target of rows in which no entry changes."""

_LEAF_LEVELS = {"4k": 1, "2m": 2, "1g": 3}

MAX_MASK = 18
"""CAP.MAMV, which limits ``iotlb_inv``."""


class Row(NamedTuple):
    """An entry, what becomes of it, and the invalidation that covers that.

    Parameters
    ----------
    shape : Shape
        Of the address space.
    target : str
        Name of the entry, `NOTHING` for none.
    covering : str
        Name of the invalidation.
    narrow : bool
        No invalidation that covers the change covers less.
    removed : bool
        The entry is made not present; it leads elsewhere otherwise.
    recycled : bool
        The tables that it led to are then used for something else, without a further invalidation.
    """

    shape: Shape
    target: str
    covering: str
    narrow: bool
    removed: bool = False
    recycled: bool = False

    @property
    def name(self) -> str:
        """As in figures."""
        kind = "_removed" * self.removed + "_recycled" * self.recycled
        return f"{self.shape.name}.{self.target}{kind}.{self.covering}"


def covering(arena: Arena, target: str, number: int) -> dict[str, list[Descriptor]]:
    """The invalidations, by name, that cover a change of an entry for the requester of a number."""
    if target == NOTHING:
        return _unrelated(arena, number)
    entry = arena.entries[target]
    structure = entry.structure
    if structure is Structure.FIRST_STAGE:
        return _first_stage(arena, target, number)
    if structure is Structure.SECOND_STAGE:
        return _second_stage(arena, target, number)
    use = arena.use(number)
    domain = IotlbInvalidate(use.domain_id)
    if arena.shape.legacy:
        everything: list[Descriptor] = [ContextCacheInvalidate(), IotlbInvalidate()]
        if structure is Structure.LEGACY_ROOT:
            return {"global": everything}
        return {
            "device": [ContextCacheInvalidate(use.source_id, use.domain_id), domain],
            "domain": [ContextCacheInvalidate(domain_id=use.domain_id), domain],
            "global": everything,
        }
    pasids = PasidCacheInvalidate(use.domain_id)
    everything = [ContextCacheInvalidate(), PasidCacheInvalidate(), IotlbInvalidate()]
    if structure is Structure.SCALABLE_ROOT:
        return {"global": everything}
    if structure is Structure.SCALABLE_CONTEXT:
        return {
            "device": [ContextCacheInvalidate(use.source_id), pasids, domain],
            "functions": [ContextCacheInvalidate(use.source_id ^ 5, function_mask=3), pasids, domain],
            "domain": [ContextCacheInvalidate(domain_id=use.domain_id), pasids, domain],
            "global": everything,
        }
    one = PasidCacheInvalidate(use.domain_id, use.pasid)
    found: dict[str, list[Descriptor]] = {
        "pasid_domain": [one, domain],
        "domain": [pasids, domain],
        "global": [PasidCacheInvalidate(), IotlbInvalidate()],
    }
    if target == "pasid" and arena.shape.first and not arena.shape.second:
        assert use.pasid is not None
        return {"pasid": [one, PasidIotlbInvalidate(use.domain_id, use.pasid)]} | found
    if target == "pasid" and arena.shape.first:
        assert use.pasid is not None
        # With a second stage it covers a change of the first-stage pointer, but not the entry's end.
        found["pasid"] = [one, PasidIotlbInvalidate(use.domain_id, use.pasid)]
    return found


def _first_stage(arena: Arena, target: str, number: int) -> dict[str, list[Descriptor]]:
    use, entry = arena.use(number), arena.entries[target]
    domain_id, pasid, address = use.domain_id, use.pasid, arena.address
    assert pasid is not None
    mask = 9 * (entry.level - 1)
    start = address & -(4096 << mask)
    hint: dict[str, list[Descriptor]] = {"hint": [PasidIotlbInvalidate(domain_id, pasid, start, mask, True)]}
    found: dict[str, list[Descriptor]] = {
        "page": [PasidIotlbInvalidate(domain_id, pasid, address)],
        "pasid": [PasidIotlbInvalidate(domain_id, pasid)],
        "iotlb_page": [IotlbInvalidate(domain_id, address)],
        "domain": [IotlbInvalidate(domain_id)],
        "global": [IotlbInvalidate()],
    }
    if mask:
        found["range"] = [PasidIotlbInvalidate(domain_id, pasid, start, mask)]
    return (hint if entry.leaf else {}) | found


def _second_stage(arena: Arena, target: str, number: int) -> dict[str, list[Descriptor]]:
    entry, domain_id = arena.entries[target], arena.use(number).domain_id
    mask = 9 * (entry.level - 1)
    start = entry.address & -(4096 << mask)
    hint: dict[str, list[Descriptor]] = {"hint": [IotlbInvalidate(domain_id, start, mask, True)]}
    found: dict[str, list[Descriptor]] = {
        "page": [IotlbInvalidate(domain_id, entry.address & -4096)],
        "domain": [IotlbInvalidate(domain_id)],
        "global": [IotlbInvalidate()],
    }
    if 0 < mask <= MAX_MASK:
        found["range"] = [IotlbInvalidate(domain_id, start, mask)]
    return (hint if entry.leaf else {}) | found


def _unrelated(arena: Arena, number: int) -> dict[str, list[Descriptor]]:
    """What covers nothing of the requester, and what does though nothing has changed."""
    use = arena.use(number)
    other = arena.use((number + arena.uses // 2) % arena.uses)
    found: dict[str, list[Descriptor]] = {
        "other_device": [ContextCacheInvalidate(other.source_id, other.domain_id)],
        "other_domain": [IotlbInvalidate(other.domain_id)],
        "other_page": [IotlbInvalidate(other.domain_id, arena.address)],
        "device": [ContextCacheInvalidate(use.source_id, use.domain_id)],
        "global": [IotlbInvalidate()],
    }
    if other.pasid is not None:
        found["other_pasid"] = [PasidCacheInvalidate(other.domain_id, other.pasid)]
        found["pasid"] = [PasidCacheInvalidate(use.domain_id, use.pasid)]
        found["other_pasid_page"] = [PasidIotlbInvalidate(other.domain_id, other.pasid, arena.address)]
    return found


def rows_of(arena: Arena, *, removed: bool) -> Iterator[Row]:
    """All rows of an arena's shape, those with ``removed`` entries too, which end in faults, or without.

    Entries are removed under the narrowest invalidation; tables are recycled when a requester no longer leads to them.
    """
    for target in (*arena.entries, NOTHING):
        for number, name in enumerate(covering(arena, target, 0)):
            narrow = number == 0
            yield Row(arena.shape, target, name, narrow)
            if removed and narrow and target not in (NOTHING, "pasid_second"):
                yield Row(arena.shape, target, name, narrow, removed=True)
            if target == ("context" if arena.shape.legacy else "pasid"):
                yield Row(arena.shape, target, name, narrow, recycled=True)


def peer_of(shape: str, target: str) -> str:
    """The share of timings that are stale in the peer's row of the same kind; empty where it was not measured."""
    nested, leaf = shape.startswith("nested"), _LEAF_LEVELS[shape[-2:]]
    stage, _, level = target.rpartition("_")
    if stage and level == str(leaf):
        return "0 %"
    if target in ("root", "pasid"):
        return "53–67 %" if nested and target == "pasid" else "9–60 %"
    if nested and stage == "first":
        return "32–43 %"
    return "0–21 %" if stage and level == "2" else ""
