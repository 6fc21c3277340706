"""The golden acceptance of page requests: step 1 of §7.1, and the messages of §7.2 and §10."""

from typing import NamedTuple

from ..memory import Memory
from .config import ModelConfig
from .fault_conditions import FAULT_CONDITIONS, TranslationFault
from .request import MemoryAccess, UnitState
from .requester import LEGACY, check_root_table_address, find_requester
from .walk import Walk

__all__ = ["Acceptance", "PageRequest", "PageResponse", "ResponseCode", "accept_page_request"]


class ResponseCode:
    """Response codes of a page group (§7.2)."""

    SUCCESS = 0
    INVALID_REQUEST = 1
    FAILURE = 0xF


class PageRequest(NamedTuple):
    """One page request message.

    ``source_id`` is the 16-bit requester id; ``pasid`` 20 bits or None; ``address`` 64 bits, of which the low 12 do not
    count; ``read`` and ``write`` are what is asked for; ``last`` ends the group of this ``group`` index (9 bits).
    ``execute`` and ``privileged`` come with a PASID only.
    """

    source_id: int
    pasid: int | None
    address: int
    read: bool
    write: bool
    last: bool
    group: int
    execute: bool = False
    privileged: bool = False

    @property
    def wants_response(self) -> bool:
        """Last of its group, and no stop marker: those ask for nothing, with a PASID (§7.1)."""
        return self.last and (self.read or self.write or self.pasid is None)

    def descriptor(self) -> int:
        """page_req_dsc as it lies in the queue, 256 bits (§7.2); PASID is 0 without one."""
        with_pasid = self.pasid is not None
        low = 1 | with_pasid << 8 | self.source_id << 16
        if self.pasid is not None:
            low |= self.pasid << 32 | self.execute << 52 | self.privileged << 53
        high = self.read | self.write << 1 | self.last << 2 | self.group << 3 | self.address & ~0xFFF
        return low | high << 64


class PageResponse(NamedTuple):
    """One page group response message; ``code`` is one of `ResponseCode`."""

    source_id: int
    pasid: int | None
    group: int
    code: int


class Acceptance(NamedTuple):
    """What the tables say to a page request.

    Parameters
    ----------
    accepted : bool
        It may be queued. A request that meets a unit without translation is not, and meets no fault either.
    pasid, domain_id, translation_type : int
        Of an accepted one: its own PASID or RID_PASID, DID, and PGTT, for the implicit invalidation (§7.3).
    fault : int or None
        Reason code of §4.
    fault_condition : str or None
        Name of the condition in §4, such as ``"SCT.8"``.
    recorded : bool
        Whether the fault is reported.
    accesses : list of MemoryAccess
        Reads of memory in order.
    """

    accepted: bool
    pasid: int
    domain_id: int
    translation_type: int
    fault: int | None
    fault_condition: str | None
    recorded: bool
    accesses: list[MemoryAccess]


def accept_page_request(memory: Memory, state: UnitState, config: ModelConfig, request: PageRequest) -> Acceptance:
    """Traverse the tables for a page request. Steps 1 to 3, 5 to 8, 10, 11 and 13 of §3.3 apply to it."""
    walk = Walk(memory, config, updating=False)
    try:
        if not state.translation_enabled:
            return Acceptance(False, 0, 0, 0, None, None, False, [])
        check_root_table_address(state, config)
        if state.ttm == LEGACY:
            raise TranslationFault("RTA.3")
        requester = find_requester(walk, state.root_table, request.source_id, request.pasid, page_request=True)
    except TranslationFault as fault:
        condition = FAULT_CONDITIONS[fault.condition]
        recorded = not (condition.qualified and walk.fault_processing_disabled)
        return Acceptance(False, 0, 0, 0, condition.code, fault.condition, recorded, walk.accesses)
    entry = requester.entry
    return Acceptance(True, requester.pasid, entry.domain, entry.translation_type, None, None, False, walk.accesses)
