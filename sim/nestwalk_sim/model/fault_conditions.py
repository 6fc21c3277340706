"""The fault conditions of §4 as data: reason codes, qualification, which request kinds meet them and how each is
answered."""

from collections.abc import Callable
from typing import NamedTuple

from .config import ModelConfig

__all__ = [
    "FAULT_CONDITIONS",
    "FaultCondition",
    "TranslationFault",
    "page_request_conditions",
    "untranslated_conditions",
]


class FaultCondition(NamedTuple):
    """One row of §4.2 to §4.9.

    Parameters
    ----------
    code : int
        Fault reason code.
    qualified : bool
        Whether FPD=1 in a visited entry suppresses the record.
    meaning : str
        What is wrong, in a few words.
    untranslated, translation, translated : str
        Answer to each request kind: ``UR``, ``CA``, ``S0`` (success without permissions) or ``Seff`` (success with
        the permissions that exist); empty where the kind cannot meet the condition. ``UR (P)`` is for
        requests-with-PASID only.
    page_request : bool
        Whether page requests can meet it.
    announced : callable
        Whether a unit with this configuration can meet it at all.
    """

    code: int
    qualified: bool
    meaning: str
    untranslated: str
    translation: str
    translated: str
    page_request: bool
    announced: Callable[[ModelConfig], bool]


class TranslationFault(Exception):
    """A walk ended at the fault condition of this name."""

    def __init__(self, condition: str):
        super().__init__(condition)
        self.condition = condition


def _always(config: ModelConfig) -> bool:
    return True


def _never(config: ModelConfig) -> bool:
    """For capabilities that no configuration announces (SSIRWS)."""
    return False


def _scalable(config: ModelConfig) -> bool:
    return config.scalable_mode


def _not_scalable(config: ModelConfig) -> bool:
    return not config.scalable_mode


def _pasid(config: ModelConfig) -> bool:
    return config.pasid


def _wide_pasid(config: ModelConfig) -> bool:
    """Whether a PASID can be too large for the smallest directory."""
    return config.pasid and config.pasid_bits > 13


def _narrow_pasid(config: ModelConfig) -> bool:
    return config.pasid and config.pasid_bits < 20


def _pasid_in_translated(config: ModelConfig) -> bool:
    return config.pasid and config.pasid_in_translated


def _execute_at_entry(config: ModelConfig) -> bool:
    return config.pasid and config.version_major <= 7


def _execute_at_root(config: ModelConfig) -> bool:
    return config.pasid and config.version_major >= 8


def _privileged(config: ModelConfig) -> bool:
    return config.pasid or config.rid_priv


def _abort(config: ModelConfig) -> bool:
    return config.abort_dma


def _no_abort(config: ModelConfig) -> bool:
    return not config.abort_dma


def _page_requests(config: ModelConfig) -> bool:
    return config.page_requests


def _rid_pasid(config: ModelConfig) -> bool:
    return config.rid_pasid


def _first_stage(config: ModelConfig) -> bool:
    return config.first_stage


def _first_stage_updates(config: ModelConfig) -> bool:
    return config.first_stage and config.page_walk_snoop


def _second_stage(config: ModelConfig) -> bool:
    return config.scalable_mode and config.second_stage


def _second_stage_updates(config: ModelConfig) -> bool:
    return config.second_stage_accessed_dirty


def _nested(config: ModelConfig) -> bool:
    return config.nested


def _nested_updates(config: ModelConfig) -> bool:
    return config.nested and config.page_walk_snoop


def _narrow_nested(config: ModelConfig) -> bool:
    """Whether a host-width address can be too wide for some second stage."""
    return config.nested and min(map(config.guest_width, config.second_stage_levels)) < config.haw


def _legacy_pass_through(config: ModelConfig) -> bool:
    return config.pass_through


def _pass_through(config: ModelConfig) -> bool:
    return config.scalable_mode and config.pass_through


def _host_permissions(config: ModelConfig) -> bool:
    return config.host_permission_tables


_PASID_ONLY = "UR (P) | UR (P) | UR (P)"


def _row(
    code: int,
    qualified: bool,
    meaning: str,
    answers: str,
    announced: Callable[[ModelConfig], bool] = _always,
    page_request: bool = False,
) -> FaultCondition:
    columns = (answer.strip() for answer in answers.split("|"))
    untranslated, translation, translated = ("" if answer == "-" else answer for answer in columns)
    return FaultCondition(code, qualified, meaning, untranslated, translation, translated, page_request, announced)


FAULT_CONDITIONS: dict[str, FaultCondition] = {
    # §4.2 legacy mode
    "LRT.1": _row(0x08, False, "access error on the root entry", "UR | CA | UR"),
    "LRT.2": _row(0x01, False, "root entry not present", "UR | UR | UR"),
    "LRT.3": _row(0x0A, False, "reserved bit in the root entry", "UR | CA | UR"),
    "LCT.1": _row(0x09, False, "access error on the context entry", "UR | CA | UR"),
    "LCT.2": _row(0x02, True, "context entry not present", "UR | UR | UR"),
    "LCT.3": _row(0x0B, True, "reserved bit in the context entry", "UR | CA | UR"),
    "LCT.4.1": _row(0x03, True, "address width not supported", "UR | CA | UR"),
    "LCT.4.2": _row(0x03, True, "translation type not supported", "UR | CA | UR"),
    "LCT.4.3": _row(0x03, True, "access error on the root second-stage entry", "UR | CA | -"),
    "LCT.5": _row(0x0D, True, "translation type blocks this kind of request", "- | UR | UR"),
    "LGN.1.1": _row(0x04, True, "address beyond the second-stage width", "UR | S0 | -"),
    "LGN.1.2": _row(0x04, True, "translated address beyond HAW", "- | - | UR"),
    "LGN.1.3": _row(0x04, True, "pass-through address beyond HAW", "UR | - | -", _legacy_pass_through),
    "LGN.2": _row(0x05, True, "no write permission", "UR | Seff | -"),
    "LGN.3": _row(0x06, True, "no read permission", "UR | Seff | -"),
    "LGN.4": _row(0x0E, True, "output address in the interrupt range", "UR | CA | UR"),
    "LSS.1": _row(0x07, True, "access error on a second-stage entry", "UR | CA | -"),
    "LSS.2": _row(0x0C, True, "reserved bit in a second-stage entry", "UR | CA | -"),
    # §4.3 root-table address and root table
    "RTA.1.1": _row(0x30, False, "abort-DMA mode not supported", "UR | CA | UR", _no_abort, True),
    "RTA.1.2": _row(0x30, False, "reserved translation-table mode", "UR | CA | UR", _always, True),
    "RTA.1.3": _row(0x30, False, "scalable mode not supported", "UR | CA | UR", _not_scalable, True),
    "RTA.1.4": _row(0x30, False, "SSIRWE in legacy mode", "UR | CA | UR", _never),
    "RTA.2": _row(0x31, False, "request with PASID in legacy mode", _PASID_ONLY, _pasid),
    "RTA.3": _row(0x32, False, "page request in legacy mode", "- | - | -", _always, True),
    "RTA.4": _row(0x33, False, "abort-DMA mode", "UR | UR | UR", _abort, True),
    "RTA.5": _row(0x34, False, "execute requested", _PASID_ONLY, _execute_at_root),
    "SRT.1": _row(0x38, False, "access error on the scalable-mode root entry", "UR | CA | UR", _scalable, True),
    "SRT.2": _row(0x39, False, "half of the scalable-mode root entry not present", "UR | UR | UR", _scalable, True),
    "SRT.3": _row(0x3A, False, "reserved bit in the scalable-mode root entry", "UR | CA | UR", _scalable, True),
    # §4.4 scalable-mode context table
    "SCT.1": _row(0x40, False, "access error on the scalable-mode context entry", "UR | CA | UR", _scalable, True),
    "SCT.2": _row(0x41, True, "scalable-mode context entry not present", "UR | UR | UR", _scalable, True),
    "SCT.3": _row(0x42, True, "reserved bit in the scalable-mode context entry", "UR | CA | UR", _scalable, True),
    "SCT.4.1": _row(0x43, True, "PRE without DTE", "UR | CA | UR", _page_requests, True),
    "SCT.4.2": _row(0x43, True, "RID_PASID beyond the PASID directory", "UR | CA | UR", _rid_pasid, True),
    "SCT.4.3": _row(0x43, True, "EPTR without PASIDE", "UR | CA | UR", _pasid_in_translated, True),
    "SCT.5": _row(0x44, True, "DTE clear", "- | UR | UR", _scalable),
    "SCT.6": _row(0x45, True, "PASIDE clear", "UR (P) | UR (P) | -", _scalable, True),
    "SCT.7": _row(0x46, True, "PASID beyond the PASID directory", _PASID_ONLY, _wide_pasid, True),
    "SCT.8": _row(0x47, True, "PRE clear", "- | - | -", _scalable, True),
    "SCT.9": _row(0x48, True, "PASID equal to RID_PASID", _PASID_ONLY, _pasid, True),
    "SCT.10": _row(0x49, True, "EPTR clear", "- | - | UR (P)", _pasid_in_translated),
    # §4.5 PASID directory and PASID table
    "SPD.1": _row(0x50, False, "access error on the PASID directory entry", "UR | CA | CA", _scalable, True),
    "SPD.2": _row(0x51, True, "PASID directory entry not present", "UR | S0 | UR", _scalable, True),
    "SPD.3": _row(0x52, True, "reserved bit in the PASID directory entry", "UR | CA | CA", _scalable, True),
    "SPT.1": _row(0x58, False, "access error on the PASID table entry", "UR | CA | CA", _scalable, True),
    "SPT.2": _row(0x59, True, "PASID table entry not present", "UR | S0 | UR", _scalable, True),
    "SPT.3": _row(0x5A, True, "reserved bit in the PASID table entry", "UR | CA | CA", _scalable, True),
    "SPT.4.1": _row(0x5B, True, "second-stage address width not supported", "UR | CA | CA", _second_stage, True),
    "SPT.4.2": _row(0x5B, True, "translation type not supported", "UR | CA | CA", _scalable, True),
    "SPT.4.3": _row(0x5B, True, "first-stage paging mode not supported", "UR | CA | CA", _first_stage, True),
    "SPT.4.4": _row(
        0x5B, True, "nested first-stage root beyond the second-stage width", "UR | CA | CA", _narrow_nested, True
    ),
    "SPT.5": _row(0x5C, True, "execute requested", "UR (P) | S0 | -", _execute_at_entry),
    "SPT.6": _row(0x5D, True, "privileged request with SRE clear", "UR | S0 | -", _privileged),
    "SPT.9": _row(0x60, True, "translated address beyond HPTSZ", "- | - | UR", _host_permissions),
    # §4.6 first stage
    "SFS.1": _row(0x70, True, "access error on a first-stage entry", "UR | S0 | -", _first_stage),
    "SFS.2": _row(0x71, True, "first-stage entry not present", "UR | S0 | -", _first_stage),
    "SFS.3": _row(0x72, True, "reserved bit in a first-stage entry", "UR | S0 | -", _first_stage),
    "SFS.4": _row(0x73, True, "access error on the root first-stage entry", "UR | S0 | -", _first_stage),
    "SFS.5": _row(
        0x74,
        True,
        "nested first-stage address beyond the second-stage width",
        "UR | S0 | -",
        _narrow_nested,
    ),
    "SFS.6": _row(0x75, True, "second stage denies reading the root first-stage entry", "UR | S0 | -", _nested),
    "SFS.7": _row(0x76, True, "second stage denies reading a first-stage entry", "UR | S0 | -", _nested),
    "SFS.8": _row(0x77, True, "second stage denies updating a first-stage entry", "UR | S0 | -", _nested_updates),
    "SFS.9": _row(0x90, True, "first-stage update needed but the walk is not snooped", "UR | S0 | -", _first_stage),
    "SFS.10": _row(0x91, True, "first-stage update failed", "UR | S0 | -", _first_stage_updates),
    # §4.7 second stage
    "SSS.1": _row(0x78, True, "access error on a second-stage entry", "UR | CA | -", _second_stage),
    "SSS.2": _row(0x79, True, "second-stage entry without any permission", "UR | S0 | -", _second_stage),
    "SSS.3": _row(0x7A, True, "reserved bit in a second-stage entry", "UR | CA | -", _second_stage),
    "SSS.4": _row(0x7B, True, "access error on the root second-stage entry", "UR | CA | -", _second_stage),
    "SSS.5": _row(
        0x7C, True, "second-stage update needed but the walk is not snooped", "UR | CA | -", _second_stage_updates
    ),
    "SSS.6": _row(0x7D, True, "second-stage update failed", "UR | CA | -", _second_stage_updates),
    # §4.8 general
    "SGN.1": _row(0x80, True, "first-stage input not canonical", "UR | S0 | -", _first_stage),
    "SGN.2": _row(0x81, True, "user request to a supervisor page", "UR | S0 | -", _first_stage),
    "SGN.4.1": _row(0x83, True, "translated address beyond HAW", "- | - | UR", _scalable),
    "SGN.4.2": _row(0x83, True, "pass-through address beyond HAW", "UR | S0 | -", _pass_through),
    "SGN.5": _row(0x84, True, "address beyond the second-stage width", "UR | S0 | -", _second_stage),
    "SGN.6": _row(0x85, True, "no write permission", "UR | Seff | -", _scalable),
    "SGN.7": _row(0x86, True, "no read permission", "UR | Seff | -", _second_stage),
    "SGN.8.1": _row(0x87, True, "output address in the interrupt range", "UR | - | -", _scalable),
    "SGN.8.2": _row(0x87, True, "translation in the interrupt range", "- | CA | -", _scalable),
    "SGN.8.3": _row(0x87, True, "translated address in the interrupt range", "- | - | UR", _scalable),
    "SGN.10": _row(0x89, True, "PASID beyond PSS", _PASID_ONLY, _narrow_pasid),
    # §4.9 requests to the interrupt range that are no interrupt
    "INT.1": _row(0x29, False, "no interrupt: request to the interrupt range that is not a DWORD write", "UR | - | -"),
}
"""All conditions of translations by name. ``INT.1`` is the model's name for code 29h, which §4.9 lists without one."""


def untranslated_conditions(config: ModelConfig) -> frozenset[str]:
    """Names of the conditions that an untranslated request can meet on a unit with this configuration."""
    return frozenset(
        name for name, condition in FAULT_CONDITIONS.items() if condition.untranslated and condition.announced(config)
    )


def page_request_conditions(config: ModelConfig) -> frozenset[str]:
    """Names of the conditions that a page request can meet on a unit with this configuration."""
    return frozenset(
        name for name, condition in FAULT_CONDITIONS.items() if condition.page_request and condition.announced(config)
    )
