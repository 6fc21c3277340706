"""What goes into a modelled translation and what comes out of it."""

from enum import Enum, IntEnum
from typing import NamedTuple

__all__ = [
    "Access",
    "AccessKind",
    "AddressType",
    "MemoryAccess",
    "Mode",
    "Permissions",
    "Request",
    "Result",
    "Structure",
    "UnitState",
]


class Access(IntEnum):
    """What a request does to its page (§3.1)."""

    READ = 0
    WRITE = 1
    ATOMIC = 2
    ZERO_LENGTH_READ = 3


class AddressType(IntEnum):
    """The AT field of a request (§3.1)."""

    UNTRANSLATED = 0
    TRANSLATION_REQUEST = 1
    TRANSLATED = 2


class Request(NamedTuple):
    """One device request.

    ``source_id`` is the 16-bit requester id; ``pasid`` 20 bits or None for a request-without-PASID; ``address`` 64
    bits. ``privileged`` and ``execute`` count for requests-with-PASID only. ``one_dword`` tells an access of exactly
    one aligned DWORD.
    """

    source_id: int
    pasid: int | None
    address: int
    access: Access = Access.READ
    privileged: bool = False
    execute: bool = False
    address_type: AddressType = AddressType.UNTRANSLATED
    one_dword: bool = False


class UnitState(NamedTuple):
    """The global state that a request meets: GSTS.TES and the latched RTADDR (§1.6).

    ``root_table`` is the host address of the root table in bytes, ``ttm`` the 2-bit translation-table mode.
    """

    translation_enabled: bool
    root_table: int
    ttm: int

    @classmethod
    def from_register(cls, root_table_address: int, translation_enabled: bool = True) -> "UnitState":
        """The state after SRTP with this RTADDR_REG value (64 bits)."""
        return cls(translation_enabled, root_table_address & ~0xFFF, root_table_address >> 10 & 3)


class AccessKind(Enum):
    """Kind of a memory access of a walk."""

    READ = "read"
    UPDATE = "update"


class Structure(Enum):
    """The table that a memory access of a walk goes to."""

    LEGACY_ROOT = "root entry"
    LEGACY_CONTEXT = "context entry"
    SCALABLE_ROOT = "scalable-mode root entry"
    SCALABLE_CONTEXT = "scalable-mode context entry"
    PASID_DIRECTORY = "PASID directory entry"
    PASID_TABLE = "PASID table entry"
    FIRST_STAGE = "first-stage entry"
    SECOND_STAGE = "second-stage entry"


class MemoryAccess(NamedTuple):
    """One access of a walk to memory, in the order of the walk.

    Parameters
    ----------
    kind : AccessKind
        A read, or an atomic update that follows the read of the same entry.
    address, size : int
        Host address in bytes, naturally aligned; 8, 16, 32 or 64 bytes.
    structure : Structure
        What lies there.
    level : int
        Paging level 5 to 1; 0 outside page tables.
    value : int
        Little-endian content as read (0 for a read that failed); for an update the old value.
    new_value : int
        What an update writes; 0 for reads.
    input_address : int
        The address whose translation this entry serves: for a first-stage entry the request's address, for a
        second-stage entry the guest-physical address.
    failed : bool
        The memory answered with an error.
    """

    kind: AccessKind
    address: int
    size: int
    structure: Structure
    level: int
    value: int
    new_value: int
    input_address: int
    failed: bool


class Mode(Enum):
    """How far a request came: the translation that was, or would have been, done for it."""

    NONE = "none"
    UNTRANSLATED = "untranslated"
    INTERRUPT = "interrupt"
    LEGACY = "legacy"
    FIRST_STAGE = "first-stage"
    SECOND_STAGE = "second-stage"
    NESTED = "nested"
    PASS_THROUGH = "pass-through"


class Permissions(NamedTuple):
    """What the translation allows to requests of the same privilege."""

    read: bool
    write: bool


class Result(NamedTuple):
    """The answer to a request.

    Parameters
    ----------
    granted : bool
        Whether the access may go on.
    address : int
        Host address in bytes; 0 when blocked.
    page_size : int
        Bytes of the page that holds the translation, for nested translation the smaller of the two; 0 where no page
        tables take part (pass-through, untranslated) and when blocked.
    permissions : Permissions
        Effective permissions; none when blocked.
    fault : int or None
        Reason code of §4.
    fault_condition : str or None
        Name of the condition in §4, such as ``"SFS.2"``.
    recorded : bool
        Whether the fault is reported: unqualified, or no FPD met so far.
    mode : Mode
        The translation type that was reached.
    accesses : list of MemoryAccess
        Reads and updates of memory in order.
    """

    granted: bool
    address: int
    page_size: int
    permissions: Permissions
    fault: int | None
    fault_condition: str | None
    recorded: bool
    mode: Mode
    accesses: list[MemoryAccess]
