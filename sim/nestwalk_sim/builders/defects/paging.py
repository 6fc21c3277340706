"""Defects of page tables and of memory below them."""

from ...memory import PAGE_SIZE, ErrorKind
from ...model import Access
from ..paging import Place
from ..target import Target
from .catalogue import (
    beyond_guest_width,
    change_legacy_context,
    change_pasid,
    defect,
    is_deep_second,
    is_first,
    is_legacy_deep_second,
    is_legacy_second,
    is_narrow_nested,
    is_nested,
    is_only_first,
    is_only_second,
    is_second,
)


def _first_tables(target: Target):
    assert target.first is not None
    return target.first


def _second_tables(target: Target):
    assert target.second is not None
    return target.second


def _random_first(target: Target) -> Place:
    return target.random.choice(target.first_path())


def _random_second_path(target: Target) -> list[Place]:
    return target.second_path(target.random.choice(target.second_inputs()))


def _change_backing(target: Target, place: Place, **fields: int) -> None:
    """Change the second-stage leaf that maps the page of a nested first-stage entry."""
    _second_tables(target).set_fields(target.second_path(place.address)[-1], **fields)


def _allow_everything(target: Target) -> None:
    """Grant every permission at every leaf, user mode included."""
    if target.first is not None:
        target.first.set_fields(target.first_path()[-1], RW=1, US=1)
    if target.second is not None:
        target.second.set_fields(target.second_path(target.second_inputs()[-1])[-1], R=1, W=1)


def _make_write(target: Target) -> None:
    _allow_everything(target)
    target.request["access"] = target.random.choice((Access.WRITE, Access.ATOMIC))


def _make_read(target: Target) -> None:
    _allow_everything(target)
    target.request |= {"access": target.random.choice((Access.READ, Access.ATOMIC)), "execute": False}


def _need_update(target: Target) -> Place:
    """Clear the accessed bit of one first-stage entry; the other entries need none before it."""
    place = _random_first(target)
    tables = _first_tables(target)
    if place.level == target.first_path()[-1].level and target.writes and target.random.getrandbits(1):
        tables.set_fields(place, D=0)
    else:
        tables.set_fields(place, A=0)
    return place


# First stage ----------------------------------------------------------------------------------------------------------


@defect("SFS.4", is_only_first)
def _no_first_stage_root(target: Target) -> None:
    change_pasid(target, FSPTPTR=target.space.unused())


@defect("SFS.4", is_nested)
def _nested_root_has_no_memory(target: Target) -> None:
    _change_backing(target, target.first_path()[0], ADDR=target.space.unused())


@defect("SFS.1", is_only_first)
def _no_first_stage_table(target: Target) -> None:
    place = target.random.choice(target.first_path()[:-1])
    _first_tables(target).set_fields(place, ADDR=target.space.unused())


@defect("SFS.1", is_nested)
def _nested_table_has_no_memory(target: Target) -> None:
    _change_backing(target, target.random.choice(target.first_path()[1:]), ADDR=target.space.unused())


@defect("SFS.2", is_first)
def _first_stage_not_present(target: Target) -> None:
    _first_tables(target).set_fields(_random_first(target), P=0)


@defect("SFS.3", is_first)
def _first_stage_reserved(target: Target) -> None:
    path = target.first_path()
    leaf = path[-1].level
    choices = [(place, 7) for place in path if place.level >= 4]
    choices += [(path[-1], bit) for bit in range(13, 3 + 9 * leaf)]
    choices += [(place, bit) for place in path for bit in range(target.config.haw, 52)]
    place, bit = target.random.choice(choices)
    address = place.host
    target.memory.write64(address, target.memory.read64(address) | 1 << bit)


@defect("SFS.5", is_narrow_nested)
def _first_stage_address_too_large(target: Target) -> None:
    place = _random_first(target)
    size = target.shape.first_size if place == target.first_path()[-1] else PAGE_SIZE
    _first_tables(target).set_fields(place, ADDR=beyond_guest_width(target) & ~(size - 1))


@defect("SFS.6", is_nested)
def _root_table_not_readable(target: Target) -> None:
    _change_backing(target, target.first_path()[0], R=0, W=1)


@defect("SFS.7", is_nested)
def _table_not_readable(target: Target) -> None:
    _change_backing(target, target.random.choice(target.first_path()[1:]), R=0, W=1)


@defect("SFS.8", is_nested)
def _table_not_writable(target: Target) -> None:
    change_pasid(target, PWSNP=1, SSADE=0)
    _change_backing(target, _need_update(target), R=1, W=0)


@defect("SFS.9", is_first)
def _update_without_snoop(target: Target) -> None:
    change_pasid(target, PWSNP=0, SSADE=0)
    _need_update(target)


@defect("SFS.10", is_first)
def _update_fails(target: Target) -> None:
    change_pasid(target, PWSNP=1)
    page = _need_update(target).host & -PAGE_SIZE
    target.memory.inject_error(page, PAGE_SIZE, ErrorKind.UPDATE)


@defect("SGN.2", is_first)
def _supervisor_page(target: Target) -> None:
    target.request["privileged"] = False
    _first_tables(target).set_fields(_random_first(target), US=0)


@defect("SGN.6", is_first)
def _first_stage_read_only(target: Target) -> None:
    _make_write(target)
    _first_tables(target).set_fields(_random_first(target), RW=0)
    change_pasid(target, WPE=1)


@defect("SGN.6", is_nested)
def _final_page_read_only(target: Target) -> None:
    _make_write(target)
    _second_tables(target).set_fields(target.second_path(target.guest_address)[-1], W=0)


# Second stage ---------------------------------------------------------------------------------------------------------


@defect("SSS.4", is_second)
def _no_second_stage_root(target: Target) -> None:
    change_pasid(target, SSPTPTR=target.space.unused())


@defect("LCT.4.3", is_legacy_second)
def _no_legacy_second_stage_root(target: Target) -> None:
    change_legacy_context(target, SSPTPTR=target.space.unused())


@defect("SSS.1", is_deep_second)
@defect("LSS.1", is_legacy_deep_second)
def _no_second_stage_table(target: Target) -> None:
    path: list[Place] = []
    while len(path) < 2:
        path = _random_second_path(target)
    place = target.random.choice(path[:-1])
    _second_tables(target).set_fields(place, ADDR=target.space.unused())


@defect("SSS.2", is_second)
def _second_stage_not_present(target: Target) -> None:
    _second_tables(target).set_fields(target.random.choice(_random_second_path(target)), R=0, W=0)


@defect("SSS.2", is_deep_second)
def _second_stage_permissions_exclude_each_other(target: Target) -> None:
    path = target.second_path(target.second_inputs()[0])
    readable, writable = target.random.sample(path, 2)
    _second_tables(target).set_fields(readable, R=1, W=0)
    _second_tables(target).set_fields(writable, R=0, W=1)


@defect("SSS.3", is_second)
@defect("LSS.2", is_legacy_second)
def _second_stage_reserved(target: Target) -> None:
    path = _random_second_path(target)
    leaf = path[-1].level
    choices = [(place, 7) for place in path if place.level >= 4]
    choices += [(place, bit) for place in path for bit in (*range(target.config.haw, 52), 62)]
    choices += [(place, 11) for place in (path[:-1] if target.config.snoop_control else path)]
    choices += [(path[-1], bit) for bit in range(12, 3 + 9 * leaf)]
    place, bit = target.random.choice(choices)
    target.memory.write64(place.host, target.memory.read64(place.host) | 1 << bit)


@defect("SSS.5", is_second)
def _second_stage_update_without_snoop(target: Target) -> None:
    change_pasid(target, SSADE=1, PWSNP=0)
    _second_tables(target).set_fields(target.second_path(target.second_inputs()[0])[0], A=0)


@defect("SSS.6", is_second)
def _second_stage_update_fails(target: Target) -> None:
    change_pasid(target, SSADE=1, PWSNP=1)
    place = target.second_path(target.second_inputs()[0])[0]
    _second_tables(target).set_fields(place, A=0)
    target.memory.inject_error(place.host & -PAGE_SIZE, PAGE_SIZE, ErrorKind.UPDATE)


@defect("SGN.6", is_only_second)
def _second_stage_read_only(target: Target) -> None:
    _make_write(target)
    _second_tables(target).set_fields(target.random.choice(_random_second_path(target)), R=1, W=0)


@defect("SGN.7", is_only_second)
def _second_stage_write_only(target: Target) -> None:
    _make_read(target)
    _second_tables(target).set_fields(target.random.choice(_random_second_path(target)), R=0, W=1)


@defect("SGN.7", is_nested)
def _final_page_write_only(target: Target) -> None:
    _make_read(target)
    _second_tables(target).set_fields(target.second_path(target.guest_address)[-1], R=0, W=1)


@defect("LGN.2", is_legacy_second)
def _legacy_not_writable(target: Target) -> None:
    _make_write(target)
    place = target.random.choice(_random_second_path(target))
    _second_tables(target).set_fields(place, R=target.random.getrandbits(1), W=0)


@defect("LGN.3", is_legacy_second)
def _legacy_not_readable(target: Target) -> None:
    _allow_everything(target)
    access = target.random.choice((Access.READ, Access.ATOMIC, Access.ZERO_LENGTH_READ))
    target.request["access"] = access
    writable = {Access.READ: target.random.getrandbits(1), Access.ATOMIC: 1, Access.ZERO_LENGTH_READ: 0}[access]
    place = target.random.choice(_random_second_path(target))
    _second_tables(target).set_fields(place, R=0, W=writable)
