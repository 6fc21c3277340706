"""What a request must satisfy besides the structures' own rules (§2.9, §3.2, §3.3)."""

from amaranth.hdl import C, Cat, Mux, Value
from amaranth.lib import data

from ..bus.translation import Access, AddressType, is_page_request
from ..config import IommuConfig
from ..formats.pasid import TranslationMode

__all__ = ["INTERRUPT_PAGES", "Gates", "check_gates"]

INTERRUPT_PAGES = 0xFEE
"""Address bits above 19 of FEEx_xxxxh."""

LEGACY, SCALABLE, RESERVED_MODE, ABORT = range(4)
"""Values of TTM (§1.6)."""


class Gates(data.Struct):
    """One bit for each gate, 1 where it is shut (and what `legacy` and `interrupt_request` say)."""

    legacy: 1
    interrupt_request: 1  # to be passed on untranslated
    unsupported_type: 1  # translation and translated requests, page requests while translation is disabled
    bad_interrupt: 1
    bad_mode: 1
    page_request_in_legacy: 1
    pasid_in_legacy: 1
    late_execute: 1
    pasid_disabled: 1
    page_requests_disabled: 1
    pasid_too_wide: 1
    pasid_beyond: 1
    pasid_is_rid_pasid: 1
    execute: 1
    supervisor: 1
    non_canonical: 1
    beyond_second_stage: 1
    beyond_host: 1
    to_interrupt: 1


def _start_gates(cfg: IommuConfig, request: data.View, root_pointer: data.View) -> dict[str, Value]:
    """Steps 1 to 4 of §3.3 and the interrupt range of §3.2, which page requests do not know.

    The specification does not say what becomes of page requests while translation is disabled: they meet no fault, and
    are refused.
    """
    mode, page_request = root_pointer.mode, is_page_request(cfg, request)
    in_range = ~request.pasid_valid & (request.address[20:] == INTERRUPT_PAGES) & ~page_request
    untranslated = request.address_type == AddressType.UNTRANSLATED
    interrupt = (request.access == Access.ZERO_LENGTH_READ) | ((request.access == Access.WRITE) & request.one_dword)
    return {
        "legacy": mode == LEGACY,
        "interrupt_request": in_range & interrupt,
        "unsupported_type": Mux(page_request, ~root_pointer.enabled, ~untranslated),
        "bad_interrupt": in_range & ~interrupt,
        "bad_mode": ~in_range
        & ((mode == RESERVED_MODE) | (mode == ABORT) | ((mode == SCALABLE) & (not cfg.scalable_mode))),
        "page_request_in_legacy": (mode == LEGACY) & page_request,
        "pasid_in_legacy": (mode == LEGACY) & request.pasid_valid,
        "late_execute": request.pasid_valid & request.execute & ~page_request & (cfg.version_major >= 8),
    }


def _pasid_gates(cfg: IommuConfig, request: data.View, context: data.View) -> dict[str, Value]:
    """Steps 7 and 8 of §3.3 for untranslated and page requests; SGN.10 is not listed for the latter."""
    pasid, valid, page_request = request.pasid, request.pasid_valid, is_page_request(cfg, request)
    return {
        "pasid_disabled": valid & ~context.paside,
        "page_requests_disabled": page_request & ~context.pre,
        "pasid_too_wide": valid & pasid[cfg.pasid_bits :].any() & ~page_request,
        "pasid_beyond": valid & Cat(pasid[13 + bit] & (context.pdts <= bit) for bit in range(7)).any(),
        "pasid_is_rid_pasid": valid & (pasid == context.rid_pasid),
    }


def _page_gates(cfg: IommuConfig, request: data.View, space: data.View) -> dict[str, Value]:
    """Step 12 of §3.3 and the input-address rules of §2.9."""
    address, mode = request.address, space.mode
    canonical_4 = address[47:].any() == address[47:].all()
    canonical_5 = address[56:].any() == address[56:].all()
    beyond = C(0)
    for levels in sorted(cfg.second_stage_levels):
        beyond = beyond | ((space.second_levels == levels - 2) & address[cfg.second_stage_width(levels) :].any())
    pass_through = mode == TranslationMode.PASS_THROUGH
    first = (mode == TranslationMode.FIRST_STAGE) | (mode == TranslationMode.NESTED)
    return {
        "execute": request.pasid_valid & request.execute,
        "supervisor": request.pasid_valid & request.privileged & ~space.sre,
        "non_canonical": first & ~Mux(space.first_5_level, canonical_5, canonical_4),
        "beyond_second_stage": (mode == TranslationMode.SECOND_STAGE) & beyond,
        "beyond_host": pass_through & address[cfg.haw :].any(),
        "to_interrupt": pass_through & (address[20:] == INTERRUPT_PAGES),
    }


def check_gates(
    cfg: IommuConfig, request: data.View, root_pointer: data.View, context: data.View, space: data.View
) -> dict[str, Value]:
    """The bits of `Gates` for a request, a root pointer, and the context entry or address space found for it."""
    return {
        **_start_gates(cfg, request, root_pointer),
        **_pasid_gates(cfg, request, context),
        **_page_gates(cfg, request, space),
    }
