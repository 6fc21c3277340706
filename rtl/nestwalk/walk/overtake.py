"""Which walks an invalidation overtakes."""

from amaranth.hdl import C, Cat, Value
from amaranth.lib import data

from ..config import IommuConfig
from ..formats.pasid import TranslationMode
from ..invalidation.command import Scope
from ..lookup.requester_format import INPUT_PAGE_BITS, page_of

__all__ = ["overtakes"]

LARGEST_PAGE = 18
"""log2 of the 4 KiB pages in a leaf of 1 GiB: a walk's leaf may cover the invalidated page beside its own."""


def overtakes(cfg: IommuConfig, invalidation: data.View, request: data.View, space: data.View, known: Value) -> Value:
    """Whether a walk for ``request`` may have read what ``invalidation`` covers: 1 bit, combinational.

    Parameters
    ----------
    space, known : AddressSpace, Value
        The walk's address space, and whether it is known yet; a walk that does not know its domain may be of any.
    """
    scope = invalidation.scope
    function_mask = invalidation.function_mask
    compared = Cat(function_mask != 3, function_mask < 2, function_mask == 0, C(-1, 13))
    device = (request.source_id & compared) == (invalidation.source_id & compared)
    domain = space.domain_id == invalidation.domain_id[: cfg.domain_bits]
    pasid = space.pasid == invalidation.pasid
    beyond_mask = Cat(C(bit, 6) >= invalidation.address_mask for bit in range(LARGEST_PAGE, INPUT_PAGE_BITS))
    invalid_page = Cat(invalidation.page[: INPUT_PAGE_BITS - 1], invalidation.page[-1])[LARGEST_PAGE:]
    page = ((page_of(request.address)[LARGEST_PAGE:] ^ invalid_page) & beyond_mask) == 0
    first = (space.mode == TranslationMode.FIRST_STAGE) | (space.mode == TranslationMode.NESTED)

    by_context = (scope != Scope.DEVICE) | device
    of_domain = (scope == Scope.GLOBAL) | domain
    of_pasid = ((scope != Scope.PASID) & (scope != Scope.PAGE_IN_PASID)) | pasid
    of_page = (
        ((scope != Scope.PAGE_IN_DOMAIN) & (scope != Scope.PAGE_IN_PASID))
        | page
        | ((scope == Scope.PAGE_IN_DOMAIN) & first)
    )
    by_tables = ~known | (of_domain & of_pasid & of_page)
    return (invalidation.context & by_context) | ((invalidation.pasid_cache | invalidation.iotlb) & by_tables)
