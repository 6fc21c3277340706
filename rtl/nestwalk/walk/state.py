"""What a walk slot remembers between two memory reads, and what a step decides."""

from amaranth.hdl import Value
from amaranth.lib import data, enum
from amaranth.utils import exact_log2

from ..bus.translation import PageSize, RootPointer
from ..config import IommuConfig
from ..formats.fault import FaultReason
from ..lookup.configuration import AddressSpace, ContextFields
from ..lookup.iotlb import Permissions
from ..lookup.miss_queue import Configuration
from ..lookup.structure_caches import StructureHint, structure_shapes

__all__ = [
    "Action",
    "Beginning",
    "Decision",
    "Identity",
    "Phase",
    "Progress",
    "StructureKind",
    "TableEvent",
    "does",
    "is_at",
]


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
    say. A legacy context entry comes as a ``space``. What is not of the ``kind`` means nothing.
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


class Beginning(data.StructLayout):
    """What a walk begins with: the snapshot of its request, and what the caches knew, as the event of ``kind``."""

    def __init__(self, cfg: IommuConfig):
        fields = {"kind": StructureKind, "root_pointer": RootPointer(cfg), "configuration": Configuration(cfg)}
        super().__init__(fields | ({"hint_hit": 1, "hint": StructureHint(cfg)} if structure_shapes(cfg) else {}))


class Phase(enum.Enum, shape=4):
    """What the paging entry that a slot waits for is, one-hot."""

    FIRST_STAGE = 1
    SECOND_STAGE_TABLE = 2  # of the walk for the address of a first-stage entry
    SECOND_STAGE_FINAL = 4  # of the walk for the page itself
    UPDATE = 8  # the first-stage leaf again, after its accessed and dirty bits were set


class Identity(data.Struct):
    """What the table entries met so far say of the requester: its effective PASID, and FPD of any of them."""

    pasid: 20
    fpd: 1


class Progress(data.Struct):
    """Where a page walk is.

    ``first_level`` and ``second_level`` are those of the entry waited for (or, while its address is walked, of the
    first-stage entry); the permissions are the ANDs over the entries met; ``table_write`` is the second stage's write
    permission for the first-stage entry.

    Beside it a slot has what is written only where it changes: ``address``, the guest-physical input of the
    second-stage walk, or the host address to be granted while a leaf is updated; ``entry``, the host address of the
    last first-stage entry, in 8-byte units; ``leaf``, the value of the last first-stage entry, which under nesting
    waits until its bits may be set (§3.8).
    """

    phase: Phase
    first_level: 3
    second_level: 3
    first_size: PageSize
    first_write: 1
    first_user: 1
    second_read: 1
    second_write: 1
    table_write: 1


class Action(enum.Flag, shape=6):
    """What a step does: one of these, or none without an event."""

    READ_STRUCTURE = 1
    READ_ENTRY = 2
    UPDATE = 4  # set bits in an entry, then look at it again
    GRANT = 8
    FAULT = 16
    LOOKUP_GUEST = 32  # begin a second-stage walk: at what the guest caches know, else at ``address``


class Decision(data.StructLayout):
    """The outcome of either step.

    ``address`` is what to read or update, or the host address granted. ``recorded`` counts for `Action.FAULT`;
    ``permissions``, ``size`` and ``cached`` (may the answer be cached) for `Action.GRANT`. ``progress`` is the slot's
    new state.
    """

    def __init__(self, cfg: IommuConfig):
        super().__init__(
            {
                "action": Action,
                "address": cfg.haw,
                "fault": FaultReason,
                "recorded": 1,
                "permissions": Permissions,
                "size": PageSize,
                "cached": 1,
                "progress": Progress,
            }
        )


def is_at(progress: data.View, phase: Phase) -> Value:
    """Whether ``progress`` is in ``phase``: a bit, no comparison."""
    return Value.cast(progress.phase)[exact_log2(phase.value)]


def does(decision: data.View, action: Action) -> Value:
    """Whether ``decision`` is for ``action``: a bit, no comparison."""
    return Value.cast(decision.action)[exact_log2(action.value)]
