"""The golden translation: one request against tables in memory, step by step as §3.2 to §3.4 order it."""

from ..memory import Memory
from .config import ModelConfig
from .fault_conditions import FAULT_CONDITIONS, TranslationFault
from .paging import Translation, first_stage, in_interrupt_range, second_stage_only
from .request import Access, AddressType, Mode, Permissions, Request, Result, Structure, UnitState
from .requester import LEGACY, check_root_table_address, find_requester
from .structures import FIRST_STAGE, NESTED, SECOND_STAGE, legacy_context, legacy_root
from .walk import Walk

__all__ = ["translate"]

_EVERYTHING = Permissions(True, True)
_NOTHING = Permissions(False, False)


def _pass(address: int) -> Translation:
    return Translation(address, 0, _EVERYTHING)


class _Attempt:
    """One translation in progress; ``mode`` tells how far it came."""

    __slots__ = ("mode", "request", "state", "walk")

    def __init__(self, walk: Walk, state: UnitState, request: Request):
        self.walk = walk
        self.state = state
        self.request = request
        self.mode = Mode.NONE

    def run(self) -> Translation:
        """The dispatch of §3.2."""
        request, state = self.request, self.state
        if not state.translation_enabled:
            self.mode = Mode.UNTRANSLATED
            return _pass(request.address)
        if request.pasid is None and in_interrupt_range(request.address):
            self.mode = Mode.INTERRUPT
            if request.access is Access.ZERO_LENGTH_READ or (request.access is Access.WRITE and request.one_dword):
                return _pass(request.address)
            raise TranslationFault("INT.1")
        check_root_table_address(self.state, self.walk.config)
        if state.ttm == LEGACY and request.pasid is not None:
            raise TranslationFault("RTA.2")
        if self.walk.config.version_major >= 8 and request.pasid is not None and request.execute:
            raise TranslationFault("RTA.5")
        return self._legacy() if state.ttm == LEGACY else self._scalable()

    def _legacy(self) -> Translation:
        """The legacy walk of §3.4."""
        self.mode = Mode.LEGACY
        walk, request = self.walk, self.request
        config = walk.config
        bus, device_function = request.source_id >> 8, request.source_id & 0xFF
        root = walk.read(self.state.root_table + 16 * bus, 16, Structure.LEGACY_ROOT, "LRT.1")
        table = legacy_root(root, config)
        context = walk.read(table + 16 * device_function, 16, Structure.LEGACY_CONTEXT, "LCT.1")
        walk.fault_processing_disabled |= bool(context & 2)
        entry = legacy_context(context, config)
        if not entry.pass_through:
            return second_stage_only(walk, request, entry.table, entry.levels, None)
        self.mode = Mode.PASS_THROUGH
        return self._pass_through("LGN.1.3", "LGN.4")

    def _pass_through(self, beyond_haw: str, interrupt: str) -> Translation:
        address = self.request.address
        if address >> self.walk.config.haw:
            raise TranslationFault(beyond_haw)
        if in_interrupt_range(address):
            raise TranslationFault(interrupt)
        return _pass(address)

    def _scalable(self) -> Translation:
        """Steps 5 to 15 of §3.3."""
        walk, request = self.walk, self.request
        context, _, entry = find_requester(walk, self.state.root_table, request.source_id, request.pasid)
        privileged = context.rid_privileged if request.pasid is None else request.privileged
        if request.pasid is not None and request.execute:
            raise TranslationFault("SPT.5")
        if privileged and not entry.supervisor:
            raise TranslationFault("SPT.6")
        if entry.translation_type == FIRST_STAGE:
            self.mode = Mode.FIRST_STAGE
            return first_stage(walk, request, privileged, entry, nested=False)
        if entry.translation_type == NESTED:
            self.mode = Mode.NESTED
            return first_stage(walk, request, privileged, entry, nested=True)
        if entry.translation_type == SECOND_STAGE:
            self.mode = Mode.SECOND_STAGE
            return second_stage_only(walk, request, entry.second_stage_table, entry.second_stage_levels, entry)
        self.mode = Mode.PASS_THROUGH
        return self._pass_through("SGN.4.2", "SGN.8.1")


def translate(
    memory: Memory, state: UnitState, config: ModelConfig, request: Request, *, updating: bool = True
) -> Result:
    """Translate one untranslated request.

    Parameters
    ----------
    memory : Memory
        Physical memory; accessed and dirty bits are set in it.
    state : UnitState
        TES and the latched root-table address.
    config : ModelConfig
        Announced capabilities.
    request : Request
        The request, with AT = 00.
    updating : bool
        False leaves memory as it is; the updates are listed all the same.

    Returns
    -------
    Result
        Answer, fault and the ordered accesses.

    Raises
    ------
    ValueError
        For translation requests and translated requests.
    """
    if request.address_type is not AddressType.UNTRANSLATED:
        raise ValueError(f"the model answers untranslated requests, not {request.address_type.name}")
    walk = Walk(memory, config, updating)
    attempt = _Attempt(walk, state, request)
    try:
        answer = attempt.run()
    except TranslationFault as fault:
        condition = FAULT_CONDITIONS[fault.condition]
        recorded = not (condition.qualified and walk.fault_processing_disabled)
        return Result(False, 0, 0, _NOTHING, condition.code, fault.condition, recorded, attempt.mode, walk.accesses)
    return Result(
        True, answer.address, answer.page_size, answer.permissions, None, None, True, attempt.mode, walk.accesses
    )
