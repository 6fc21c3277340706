"""Dirty tracking (§3.8, second stage): which pages devices have written since somebody looked last."""

import errno
from collections.abc import AsyncIterator
from dataclasses import replace

from .domain import PagingDomain
from .errors import require
from .vtd.page_tables import PAGE_SIZES, Leaf
from .vtd.pages import PAGE_SIZE
from .vtd.pasid import update

__all__ = ["read_dirty", "set_dirty_tracking"]

DIRTY = 1 << 9


async def set_dirty_tracking(domain: PagingDomain, on: bool) -> None:
    """Begin or end it for everything that uses a second stage, nested entries included. Twice is no error.

    Raises
    ------
    IommuError
        EOPNOTSUPP when the unit has no second-stage dirty bits.
    """
    iommu = domain.iommu
    require(iommu.capabilities["SSADS"], "the unit tracks no dirty pages", errno.EOPNOTSUPP)
    if domain.dirty_tracking == on:
        return
    domain.dirty_tracking = on
    trace = iommu.log.trace("set_dirty_tracking", "R4")
    for tag in dict.fromkeys(domain.tags):
        entry = iommu.state_of(tag.device).entries.get(tag.pasid)
        if entry is not None:
            changed = replace(entry, second_stage_updates=on)
            await update(iommu, tag.device, tag.pasid, changed, f"SSADE={int(on)}", trace)


async def read_dirty(domain: PagingDomain, iova: int, size: int, *, clear: bool = True) -> list[int]:
    """Addresses of the 4 KiB pages in a range that were written.

    Parameters
    ----------
    clear : bool
        Begin anew: what was reported is not reported again until it is written again.
    """
    written: list[int] = []
    cleared = False
    async for page, leaf in _leaves(domain, iova, size):
        if leaf.entry & DIRTY:
            covered = range(page, page + PAGE_SIZES[leaf.level], PAGE_SIZE)
            written += [each for each in covered if iova <= each < iova + size]
            cleared = cleared or clear
            if clear:
                # The unit sets bits by exclusive access, and this byte holds A and D and no others.
                byte = leaf.entry >> 8 & 0xFF & ~(DIRTY >> 8)
                await domain.iommu.memory.write(leaf.entry_address + 1, bytes([byte]))
    if cleared:
        await domain.tags.flush(iova, size, domain.iommu.log.trace("read_dirty", "R7"))
    return written


async def _leaves(domain: PagingDomain, iova: int, size: int) -> AsyncIterator[tuple[int, Leaf]]:
    """Each mapping of a range with its first address; holes are passed over."""
    at = iova
    while at < iova + size:
        leaf = await domain.table.look_up(at)
        length = PAGE_SIZE if leaf is None else PAGE_SIZES[leaf.level]
        if leaf is not None:
            yield at & -length, leaf
        at = (at & -length) + length
