"""First-stage, second-stage and nested page walks (§3.5), and their accessed and dirty bits (§3.8).

Where §3 leaves a choice, the model decides as follows; the captures agree where they tell.

* Inside an entry the order is present, reserved, address range, permission.
* First-stage permissions are decided at the level where they are lost, user/supervisor (SGN.2) before read/write
  (SGN.6): below a supervisor entry nothing is read for a user request, so SGN.2 goes before an SFS.2 further down
  (`fl48_pasid` tells).
* In the second stage, an entry without any permission, or a level at which neither reading nor writing is left, ends
  the walk there (SSS.2); a missing permission of which the other one is left is decided at the leaf (SGN.6, SGN.7).
  In legacy mode the walk ends at the level where the requested permission is lost (LGN.2, LGN.3).
* An AtomicOp that lacks both permissions reports the write.
* A first-stage entry above the leaf gets its accessed bits when it is met. The leaf gets accessed and dirty in one
  update after every check of the request has passed, including the final second-stage walk of a nested request and
  the interrupt range of the output; the final second-stage leaf follows it. An update that needs a snooped walk and
  has none is SFS.9, before permissions of its page (SFS.8).
* With SSADE=1 the second stage sees every access to a first-stage entry as a write: it needs both permissions and
  sets D.
"""

from typing import NamedTuple

from .fault_conditions import TranslationFault
from .request import Access, Permissions, Request, Structure
from .structures import PasidEntry
from .walk import Walk

__all__ = ["Translation", "first_stage", "in_interrupt_range", "second_stage_only"]

_FIRST_ACCESSED, _FIRST_DIRTY, _FIRST_EXTENDED = 1 << 5, 1 << 6, 1 << 10
_SECOND_ACCESSED, _SECOND_DIRTY = 1 << 8, 1 << 9
_PAGE_SIZE_BIT = 1 << 7


class Translation(NamedTuple):
    """A walk that passed every check: host address and page size in bytes, effective permissions."""

    address: int
    page_size: int
    permissions: Permissions


class _SecondStage(NamedTuple):
    """A second-stage table as one walk uses it.

    ``legacy_access`` is the access whose permission a legacy walk checks level by level, None in scalable mode.
    ``updates`` is SSADE, ``snooped`` whether updates are allowed.
    """

    table: int
    levels: int
    legacy_access: Access | None
    updates: bool
    snooped: bool


class _SecondStageLeaf(NamedTuple):
    """The end of a second-stage walk; its accessed and dirty bits are not set yet."""

    address: int
    page_size: int
    read: bool
    write: bool
    entry_address: int
    entry: int
    level: int


def in_interrupt_range(address: int) -> bool:
    """Whether a byte address lies in FEEx_xxxxh."""
    return address >> 20 == 0xFEE


def _is_write(access: Access) -> bool:
    return access is Access.WRITE or access is Access.ATOMIC


def _check_permission(
    access: Access, read: bool, write: bool, zero_length_read: bool, conditions: tuple[str, str]
) -> None:
    """Raise the first or second condition when the access lacks write or read permission (§3.5.2)."""
    if _is_write(access) and not write:
        raise TranslationFault(conditions[0])
    if (
        access is not Access.WRITE
        and not read
        and not (access is Access.ZERO_LENGTH_READ and zero_length_read and write)
    ):
        raise TranslationFault(conditions[1])


def _second_stage_update(
    walk: Walk, stage: _SecondStage, address: int, entry: int, bits: int, level: int, guest: int
) -> None:
    """Set accessed and dirty bits of a second-stage entry where SSADE asks for it and they are missing."""
    if stage.updates and bits & ~entry:
        if not stage.snooped:
            raise TranslationFault("SSS.5")
        walk.update(address, entry, bits, Structure.SECOND_STAGE, "SSS.6", level, guest)


def _second_stage(walk: Walk, stage: _SecondStage, address: int) -> _SecondStageLeaf:
    """Walk a second-stage table for an address inside its width, up to and including its leaf."""
    config = walk.config
    legacy = stage.legacy_access is not None
    table = stage.table
    read = write = True
    root_error, error = ("LCT.4.3", "LSS.1") if legacy else ("SSS.4", "SSS.1")
    for level in range(stage.levels, 0, -1):
        shift = 12 + 9 * (level - 1)
        entry_address = table | (address >> shift & 0x1FF) << 3
        entry = walk.read(
            entry_address, 8, Structure.SECOND_STAGE, root_error if level == stage.levels else error, level, address
        )
        if not entry & 3 and not legacy:
            raise TranslationFault("SSS.2")
        page_size_bit = bool(entry & _PAGE_SIZE_BIT)
        if entry & 3 and entry & config.second_stage_reserved[level, page_size_bit]:
            raise TranslationFault("LSS.2" if legacy else "SSS.3")
        read = read and bool(entry & 1)
        write = write and bool(entry & 2)
        if stage.legacy_access is not None:
            _check_permission(stage.legacy_access, read, write, config.zero_length_read, ("LGN.2", "LGN.3"))
        elif not (read or write):
            raise TranslationFault("SSS.2")
        if level == 1 or page_size_bit:
            offset = (1 << shift) - 1
            return _SecondStageLeaf(
                entry & config.table_address & ~offset | address & offset,
                offset + 1,
                read,
                write,
                entry_address,
                entry,
                level,
            )
        _second_stage_update(walk, stage, entry_address, entry, _SECOND_ACCESSED, level, address)
        table = entry & config.table_address
    raise AssertionError("level 1 is always a leaf")


def second_stage_only(walk: Walk, request: Request, table: int, levels: int, entry: PasidEntry | None) -> Translation:
    """Translate through the second stage alone.

    Parameters
    ----------
    walk : Walk
        Memory, capabilities and the list of accesses.
    request : Request
        The request.
    table, levels : int
        SSPTPTR and the number of levels of AW.
    entry : PasidEntry or None
        The PASID table entry; None in legacy mode.

    Raises
    ------
    TranslationFault
        At the first condition of §4 that applies.
    """
    config = walk.config
    address, access = request.address, request.access
    if address >> config.guest_width(levels):
        raise TranslationFault("SGN.5" if entry else "LGN.1.1")
    if entry:
        stage = _SecondStage(table, levels, None, entry.second_stage_updates, entry.snooped)
    else:
        stage = _SecondStage(table, levels, access, False, False)
    leaf = _second_stage(walk, stage, address)
    if entry:
        _check_permission(access, leaf.read, leaf.write, config.zero_length_read, ("SGN.6", "SGN.7"))
    if in_interrupt_range(leaf.address):
        raise TranslationFault("SGN.8.1" if entry else "LGN.4")
    bits = _SECOND_ACCESSED | _SECOND_DIRTY if _is_write(access) else _SECOND_ACCESSED
    _second_stage_update(walk, stage, leaf.entry_address, leaf.entry, bits, leaf.level, address)
    return Translation(leaf.address, leaf.page_size, Permissions(leaf.read, leaf.write))


class _EntryPlace(NamedTuple):
    """Where a first-stage entry lies in host memory, and whether the second stage lets hardware update it."""

    address: int
    writable: bool


def _place_entry(walk: Walk, stage: _SecondStage | None, address: int, root: bool) -> _EntryPlace:
    """Translate the address of a first-stage entry, which is guest-physical under nesting (§3.5.3)."""
    if stage is None:
        return _EntryPlace(address, True)
    leaf = _second_stage(walk, stage, address)
    if not leaf.read or (stage.updates and not leaf.write):
        raise TranslationFault("SFS.6" if root else "SFS.7")
    _second_stage_update(
        walk, stage, leaf.entry_address, leaf.entry, _SECOND_ACCESSED | _SECOND_DIRTY, leaf.level, address
    )
    return _EntryPlace(leaf.address, leaf.write)


def _first_stage_update(
    walk: Walk, place: _EntryPlace, snooped: bool, entry: int, bits: int, level: int, address: int
) -> None:
    """Set accessed and dirty bits of a first-stage entry where they are missing (§3.8)."""
    if bits & ~entry:
        if not snooped:
            raise TranslationFault("SFS.9")
        if not place.writable:
            raise TranslationFault("SFS.8")
        walk.update(place.address, entry, bits, Structure.FIRST_STAGE, "SFS.10", level, address)


def first_stage(walk: Walk, request: Request, privileged: bool, entry: PasidEntry, nested: bool) -> Translation:
    """Translate through the first stage, over the second one when ``nested``.

    Parameters
    ----------
    walk : Walk
        Memory, capabilities and the list of accesses.
    request : Request
        The request.
    privileged : bool
        Its effective privilege, from PASID prefix or RID_PRIV.
    entry : PasidEntry
        The PASID table entry.

    Raises
    ------
    TranslationFault
        At the first condition of §4 that applies.
    """
    config = walk.config
    address, access = request.address, request.access
    levels = entry.first_stage_levels
    width = 9 * levels + 12
    if address >> (width - 1) not in (0, (1 << (65 - width)) - 1):
        raise TranslationFault("SGN.1")
    stage = None
    guest_width = 64
    if nested:
        stage = _SecondStage(
            entry.second_stage_table, entry.second_stage_levels, None, entry.second_stage_updates, entry.snooped
        )
        guest_width = config.guest_width(entry.second_stage_levels)
    accessed = _FIRST_ACCESSED | (_FIRST_EXTENDED if entry.extended_accessed else 0)
    table = entry.first_stage_table
    write = _is_write(access)
    obeys_read_only = not privileged or entry.write_protect
    writable = True
    for level in range(levels, 0, -1):
        shift = 12 + 9 * (level - 1)
        root = level == levels
        place = _place_entry(walk, stage, table | (address >> shift & 0x1FF) << 3, root)
        value = walk.read(place.address, 8, Structure.FIRST_STAGE, "SFS.4" if root else "SFS.1", level, address)
        if not value & 1:
            raise TranslationFault("SFS.2")
        page_size_bit = bool(value & _PAGE_SIZE_BIT)
        if value & config.first_stage_reserved[level, page_size_bit]:
            raise TranslationFault("SFS.3")
        leaf = level == 1 or page_size_bit
        offset = (1 << shift) - 1
        table = value & config.table_address & (~offset if leaf else -1)
        if table >> guest_width:
            raise TranslationFault("SFS.5")
        if not value & 4 and not privileged:
            raise TranslationFault("SGN.2")
        if not value & 2 and obeys_read_only:
            writable = False
            if write:
                raise TranslationFault("SGN.6")
        if leaf:
            translation = Translation(table | address & offset, offset + 1, Permissions(True, writable))
            return _finish(walk, request, stage, entry.snooped, accessed, place, value, level, translation)
        _first_stage_update(walk, place, entry.snooped, value, accessed, level, address)
    raise AssertionError("level 1 is always a leaf")


def _finish(
    walk: Walk,
    request: Request,
    stage: _SecondStage | None,
    snooped: bool,
    accessed: int,
    place: _EntryPlace,
    entry: int,
    level: int,
    translation: Translation,
) -> Translation:
    """Translate the page of a first-stage leaf when nested, check it, then set the bits of both leaves."""
    access = request.access
    write = _is_write(access)
    final = None
    if stage is not None:
        final = _second_stage(walk, stage, translation.address)
        _check_permission(access, final.read, final.write, walk.config.zero_length_read, ("SGN.6", "SGN.7"))
        allowed = Permissions(final.read, translation.permissions.write and final.write)
        translation = Translation(final.address, min(translation.page_size, final.page_size), allowed)
    if in_interrupt_range(translation.address):
        raise TranslationFault("SGN.8.1")
    bits = accessed | _FIRST_DIRTY if write else accessed
    _first_stage_update(walk, place, snooped, entry, bits, level, request.address)
    if stage is not None and final is not None:
        second_bits = _SECOND_ACCESSED | _SECOND_DIRTY if write else _SECOND_ACCESSED
        _second_stage_update(
            walk, stage, final.entry_address, final.entry, second_bits, final.level, translation.address
        )
    return translation
