"""What a walk slot remembers between two memory reads, and what a step decides."""

from amaranth.lib import data, enum

from ..bus.translation import PageSize
from ..config import IommuConfig
from ..formats.fault import FaultReason
from ..lookup.configuration import AddressSpace, ContextFields
from ..lookup.iotlb import Permissions

__all__ = ["Action", "Decision", "Leaf", "Phase", "Progress", "StructureKind", "TableEvent"]


class StructureKind(enum.Enum, shape=3):
    """Which structure of §3.3 or §3.4 an event brings; ``START`` begins a walk without any."""

    START = 0
    ROOT = 1
    LEGACY_ROOT = 2
    CONTEXT = 3
    LEGACY_CONTEXT = 4
    DIRECTORY = 5
    PASID = 6


class TableEvent(data.StructLayout):
    """A root, context, PASID-directory or PASID-table entry, checked: the predicates are those of its struct.

    ``page`` is the host page of the next table (root and directory), ``context`` and ``space`` what the other entries
    say. A legacy context entry comes as a ``space``. An entry from a cache has passed all checks.
    """

    def __init__(self, cfg: IommuConfig):
        super().__init__(
            {
                "kind": StructureKind,
                "error": 1,
                "present": 1,
                "reserved": 1,
                "invalid": 1,
                "fpd": 1,
                "page": cfg.page_bits,
                "context": ContextFields(cfg),
                "space": AddressSpace(cfg),
            }
        )


class Phase(enum.Enum, shape=2):
    """What the paging entry that a slot waits for is."""

    FIRST_STAGE = 0
    SECOND_STAGE_TABLE = 1  # of the walk for the address of a first-stage entry
    SECOND_STAGE_FINAL = 2  # of the walk for the page itself
    UPDATE = 3  # the first-stage leaf again, after its accessed and dirty bits were set


class Progress(data.StructLayout):
    """Where a page walk is.

    ``first_level`` and ``second_level`` are those of the entry waited for (or, while its address is walked, of the
    first-stage entry); ``address`` is the input of the second-stage walk, or the host address while a leaf is updated;
    the permissions are the ANDs over the entries met; ``table_write`` is the second stage's write permission for the
    first-stage entry; ``entry`` is the host address of the entry waited for, in 8-byte units.
    """

    def __init__(self, cfg: IommuConfig):
        super().__init__(
            {
                "phase": Phase,
                "first_level": 3,
                "second_level": 3,
                "first_size": PageSize,
                "address": 57,
                "first_write": 1,
                "first_user": 1,
                "second_read": 1,
                "second_write": 1,
                "table_write": 1,
                "entry": cfg.haw - 3,
            }
        )


class Leaf(data.StructLayout):
    """The first-stage leaf of a nested walk, kept until its bits may be set (§3.8): value, place, may it be written."""

    def __init__(self, cfg: IommuConfig):
        super().__init__({"value": 64, "entry": cfg.haw - 3, "table_write": 1})


class Action(enum.Enum, shape=3):
    """What a step does."""

    READ_STRUCTURE = 0
    READ_ENTRY = 1
    UPDATE = 2  # set bits in an entry, then look at it again
    GRANT = 3
    FAULT = 4
    RESTART = 5  # walk the pages again from their root
    LOOKUP_GUEST = 6  # begin a second-stage walk: at what the guest caches know, else at ``address``


class Decision(data.StructLayout):
    """The outcome of a step.

    ``address`` is what to read or update, or the host address granted. ``kind`` counts for `Action.READ_STRUCTURE`;
    ``mask`` and ``expected`` for `Action.UPDATE`; ``recorded`` for `Action.FAULT`; ``permissions``, ``size`` and
    ``cached`` (may the answer be cached) for `Action.GRANT`. ``progress``, ``space`` and ``leaf`` are the slot's new
    state.
    """

    def __init__(self, cfg: IommuConfig):
        super().__init__(
            {
                "action": Action,
                "address": cfg.haw,
                "kind": StructureKind,
                "expected": 64,
                "mask": 64,
                "fault": FaultReason,
                "recorded": 1,
                "permissions": Permissions,
                "size": PageSize,
                "cached": 1,
                "progress": Progress(cfg),
                "space": AddressSpace(cfg),
                "leaf": Leaf(cfg),
            }
        )
