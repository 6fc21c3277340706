"""Every block that has a specification."""

from collections.abc import Iterable, Mapping

from nestwalk.config import CacheShape, preset
from nestwalk_sim.errors import UserError

from .arbiter import RoundRobinSpec
from .block_cache import BlockCacheSpec, ProbedCacheSpec
from .fault_log import FaultLogSpec
from .fork import ForkSpec
from .merge import MergeSpec
from .queue import QueueSpec
from .register_cache import RegisterCacheSpec
from .spec import Spec, Task
from .tags import ContextTags, GuestTags, PageTags, PasidTags, StructureTags
from .update import EntryUpdateSpec

__all__ = ["BLOCKS", "Block", "wanted"]


class Block:
    """A block with the size that it is proved at.

    Parameters
    ----------
    spec : type of Spec
    parameters
        Arguments of ``spec`` beside the task.
    """

    def __init__(self, spec: type[Spec], **parameters):
        self._spec = spec
        self._parameters = parameters

    @property
    def tasks(self) -> Mapping[str, Task]:
        """The depth table."""
        return self._spec.TASKS

    @property
    def promises(self) -> str:
        """What is proved and what is assumed, in English."""
        return self._spec.__doc__ or ""

    def specification(self, task: str) -> Spec:
        """The specification for one of the tasks."""
        return self._spec(task, **self._parameters)


FORMAL = preset("FORMAL")
WITH_PAGE_REQUESTS = FORMAL.replace(device_tlb=True, page_requests=True, waiting_misses=64)

BLOCKS = {
    "iotlb_4k": Block(BlockCacheSpec, tags=PageTags(FORMAL), shape=FORMAL.iotlb_4k),
    "iotlb_2m": Block(ProbedCacheSpec, tags=PageTags(FORMAL, page_shift=9), shape=CacheShape(sets=8, ways=1)),
    "iotlb_1g": Block(RegisterCacheSpec, tags=PageTags(FORMAL, page_shift=18), entries=2),
    "pasid_cache": Block(BlockCacheSpec, tags=PasidTags(FORMAL), shape=FORMAL.pasid_cache),
    "context_cache": Block(BlockCacheSpec, tags=ContextTags(FORMAL), shape=FORMAL.context_cache),
    "structure_cache": Block(BlockCacheSpec, tags=StructureTags(FORMAL, 1), shape=CacheShape(sets=2, ways=1)),
    "nested_tlb": Block(BlockCacheSpec, tags=GuestTags(FORMAL, 0), shape=CacheShape(sets=2, ways=1)),
    "guest_cache": Block(BlockCacheSpec, tags=GuestTags(FORMAL, 9), shape=CacheShape(sets=2, ways=1)),
    "entry_update": Block(EntryUpdateSpec, cfg=FORMAL),
    "fault_log": Block(FaultLogSpec, cfg=WITH_PAGE_REQUESTS.replace(fault_records=2)),
    "queue_2": Block(QueueSpec, depth=2),
    "queue_2_cleared": Block(QueueSpec, depth=2, cleared=True),
    "queue_4": Block(QueueSpec, depth=4),
    "round_robin": Block(RoundRobinSpec, count=3),
    "merge": Block(MergeSpec),
    "fork": Block(ForkSpec, count=3),
}
"""The blocks by name."""


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
