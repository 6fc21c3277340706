"""Every block that has a specification."""

from collections.abc import Callable, Iterable
from functools import partial

from nestwalk.config import CacheShape, preset
from nestwalk_sim.errors import UserError

from .block_cache import BlockCacheSpec
from .queue import QueueSpec
from .register_cache import RegisterCacheSpec
from .spec import Spec
from .tags import ContextTags, PageTags, PasidTags

__all__ = ["BLOCKS", "tasks", "wanted"]

FORMAL = preset("FORMAL")

BLOCKS: dict[str, Callable[[str], Spec]] = {
    "iotlb_4k": partial(BlockCacheSpec, tags=PageTags(FORMAL), shape=FORMAL.iotlb_4k),
    "iotlb_1g": partial(RegisterCacheSpec, tags=PageTags(FORMAL, page_shift=18), entries=2),
    "iotlb_probe": partial(BlockCacheSpec, tags=PageTags(FORMAL), shape=CacheShape(sets=8, ways=1), spread_bits=1),
    "pasid_cache": partial(BlockCacheSpec, tags=PasidTags(FORMAL), shape=FORMAL.pasid_cache),
    "context_cache": partial(BlockCacheSpec, tags=ContextTags(FORMAL), shape=FORMAL.context_cache),
    "iotlb_2m": partial(BlockCacheSpec, tags=PageTags(FORMAL, page_shift=9), shape=FORMAL.iotlb_2m),
    "queue_2": partial(QueueSpec, depth=2),
    "queue_4": partial(QueueSpec, depth=4),
}
"""What makes the specification of a block for one of its tasks."""


def tasks(block: str) -> list[str]:
    """The tasks of ``block``, in order."""
    maker = BLOCKS[block]
    spec = maker.func if isinstance(maker, partial) else maker
    return list(spec.TASKS)


def wanted(names: Iterable[str]) -> list[str]:
    """The blocks of these names, all if there are none.

    Raises
    ------
    UserError
        For a name that is not one of a block.
    """
    chosen = list(names) or list(BLOCKS)
    unknown = [name for name in chosen if name not in BLOCKS]
    if unknown:
        raise UserError(f"no specification for {', '.join(unknown)}: choose from {', '.join(BLOCKS)}")
    return chosen
