"""From RTADDR to the PASID-table entry of a requester: steps 1, 2 and 5 to 11 of §3.3."""

from typing import NamedTuple

from .config import ModelConfig
from .fault_conditions import TranslationFault
from .request import Structure, UnitState
from .structures import ContextEntry, PasidEntry, pasid_directory, pasid_entry, scalable_context, scalable_root
from .walk import Walk

__all__ = ["LEGACY", "Requester", "check_root_table_address", "find_requester"]

LEGACY, SCALABLE, RESERVED, ABORT = range(4)
"""Values of TTM."""


class Requester(NamedTuple):
    """What the tables say of a requester; ``pasid`` is its own or, without one, RID_PASID."""

    context: ContextEntry
    pasid: int
    entry: PasidEntry


def check_root_table_address(state: UnitState, config: ModelConfig) -> None:
    """Steps 1 and 2: a mode that there is not, or that aborts everything, is raised as `TranslationFault`."""
    if state.ttm == RESERVED:
        raise TranslationFault("RTA.1.2")
    if state.ttm == ABORT:
        raise TranslationFault("RTA.4" if config.abort_dma else "RTA.1.1")
    if state.ttm == SCALABLE and not config.scalable_mode:
        raise TranslationFault("RTA.1.3")


def find_requester(
    walk: Walk, root_table: int, source_id: int, pasid: int | None, *, page_request: bool = False
) -> Requester:
    """Walk the scalable-mode tables; the first condition that applies is raised as `TranslationFault`."""
    config = walk.config
    bus, device_function = source_id >> 8, source_id & 0xFF
    root = walk.read(root_table + 16 * bus, 16, Structure.SCALABLE_ROOT, "SRT.1")
    table = scalable_root(root >> 64 if device_function & 0x80 else root & (1 << 64) - 1, config)
    context_entry = walk.read(table + 32 * (device_function & 0x7F), 32, Structure.SCALABLE_CONTEXT, "SCT.1")
    walk.fault_processing_disabled |= bool(context_entry & 2)
    context = scalable_context(context_entry, config)
    _check_gates(walk, context, pasid, page_request)
    effective = context.rid_pasid if pasid is None else pasid
    directory_address = context.pasid_directory + 8 * (effective >> 6)
    directory_entry = walk.read(directory_address, 8, Structure.PASID_DIRECTORY, "SPD.1")
    walk.fault_processing_disabled |= bool(directory_entry & 2)
    table = pasid_directory(directory_entry, config)
    table_entry = walk.read(table + 64 * (effective & 0x3F), 64, Structure.PASID_TABLE, "SPT.1")
    walk.fault_processing_disabled |= bool(table_entry & 2)
    return Requester(context, effective, pasid_entry(table_entry, config))


def _check_gates(walk: Walk, context: ContextEntry, pasid: int | None, page_request: bool) -> None:
    """Steps 7 and 8. SGN.10 is not listed for page requests."""
    if pasid is not None and not context.pasid_enabled:
        raise TranslationFault("SCT.6")
    if page_request and not context.page_requests:
        raise TranslationFault("SCT.8")
    if pasid is None:
        return
    if pasid >> walk.config.pasid_bits and not page_request:
        raise TranslationFault("SGN.10")
    if pasid >= context.pasid_limit:
        raise TranslationFault("SCT.7")
    if pasid == context.rid_pasid:
        raise TranslationFault("SCT.9")
