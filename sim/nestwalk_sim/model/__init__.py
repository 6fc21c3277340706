"""Golden model of the translation unit in plain Python: decodes memory with its own masks, shares nothing with the
hardware sources."""

from .config import MODEL_PRESETS, ModelConfig, model_preset
from .fault_conditions import FAULT_CONDITIONS, FaultCondition, untranslated_conditions
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
    "Access",
    "AccessKind",
    "AddressType",
    "FaultCondition",
    "MemoryAccess",
    "Mode",
    "ModelConfig",
    "Permissions",
    "Request",
    "Result",
    "Structure",
    "UnitState",
    "model_preset",
    "translate",
    "untranslated_conditions",
]
