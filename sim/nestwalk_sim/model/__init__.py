"""Golden model of the translation unit in plain Python: decodes memory with its own masks, shares nothing with the
hardware sources."""

from .config import MODEL_PRESETS, ModelConfig, model_preset
from .fault_conditions import FAULT_CONDITIONS, FaultCondition, page_request_conditions, untranslated_conditions
from .page_request import Acceptance, PageRequest, PageResponse, ResponseCode, accept_page_request
from .request import (
    Access,
    AccessKind,
    AddressType,
    MemoryAccess,
    Mode,
    Permissions,
    Request,
    Result,
    Structure,
    UnitState,
)
from .translate import translate

__all__ = [
    "FAULT_CONDITIONS",
    "MODEL_PRESETS",
    "Acceptance",
    "Access",
    "AccessKind",
    "AddressType",
    "FaultCondition",
    "MemoryAccess",
    "Mode",
    "ModelConfig",
    "PageRequest",
    "PageResponse",
    "Permissions",
    "Request",
    "ResponseCode",
    "Result",
    "Structure",
    "UnitState",
    "accept_page_request",
    "model_preset",
    "page_request_conditions",
    "translate",
    "untranslated_conditions",
]
