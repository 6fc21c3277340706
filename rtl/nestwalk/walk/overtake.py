"""Which walks an invalidation overtakes."""

from amaranth.hdl import C, Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..bus.counting import exceeds
from ..bus.translation import TranslationRequest
from ..config import IommuConfig
from ..formats.pasid import TranslationMode
from ..invalidation.command import Invalidation, Scope
from ..lookup.configuration import AddressSpace
from ..lookup.requester_format import INPUT_PAGE_BITS, page_of

__all__ = ["Overtake"]

LARGEST_PAGE = 18
"""log2 of the 4 KiB pages in a leaf of 1 GiB: a walk's leaf may cover the invalidated page beside its own."""


class Overtake(wiring.Component):
    """Tells whether a walk may have read what an invalidation covers. One cycle, after one for a new invalidation.

    ::

        invalidation ──> decoded ──┐
        request, space, known ─────┴─> compare term by term ──> register ──> covered

    Parameters
    ----------
    cfg : IommuConfig

    Attributes
    ----------
    invalidation : In(Invalidation)
        Counts from the second cycle on in which it is there.
    request : In(TranslationRequest)
    space, known : In(AddressSpace), In(1)
        The walk's address space, and whether it is known yet; a walk that does not know its domain may be of any.
    covered : Out(1)
        One cycle later.
    """

    def __init__(self, cfg: IommuConfig):
        self.cfg = cfg
        super().__init__(
            {
                "invalidation": In(Invalidation),
                "request": In(TranslationRequest(cfg)),
                "space": In(AddressSpace(cfg)),
                "known": In(1),
                "covered": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        self._decode(m)
        self._compare(m)
        return m

    def _decode(self, m):
        """What an invalidation asks, each part of the question apart."""
        asked = self.invalidation
        scope, function_mask, address_mask = asked.scope, asked.function_mask, asked.address_mask
        names = ("context", "tables", "any_device", "any_domain", "any_pasid", "any_page", "first_stage_pages")
        self._asks = asks = {name: Signal(name=name) for name in names}
        self._functions = Signal(3, name="functions")
        self._page_bits = Signal(INPUT_PAGE_BITS - LARGEST_PAGE, name="page_bits")
        m.d.sync += [
            asks["context"].eq(asked.context),
            asks["tables"].eq(asked.pasid_cache | asked.iotlb),
            asks["any_device"].eq(scope != Scope.DEVICE),
            asks["any_domain"].eq(scope == Scope.GLOBAL),
            asks["any_pasid"].eq((scope != Scope.PASID) & (scope != Scope.PAGE_IN_PASID)),
            asks["any_page"].eq((scope != Scope.PAGE_IN_DOMAIN) & (scope != Scope.PAGE_IN_PASID)),
            asks["first_stage_pages"].eq(scope == Scope.PAGE_IN_DOMAIN),
            self._functions.eq(Cat(function_mask != 3, function_mask < 2, function_mask == 0)),
            self._page_bits.eq(Cat(~exceeds(address_mask, bit) for bit in range(LARGEST_PAGE, INPUT_PAGE_BITS))),
        ]

    def _compare(self, m):
        """Compare a walk with each part, and combine the answers one cycle later."""
        asked, asks, space = self.invalidation, self._asks, self.space
        compared = Cat(self._functions, C(-1, 13))
        invalid_page = Cat(asked.page[: INPUT_PAGE_BITS - 1], asked.page[-1])[LARGEST_PAGE:]
        page = page_of(self.request.address)[LARGEST_PAGE:]
        terms = {
            "device": ((self.request.source_id ^ asked.source_id) & compared) == 0,
            "domain": space.domain_id == asked.domain_id[: self.cfg.domain_bits],
            "pasid": space.pasid == asked.pasid,
            "page": ((page ^ invalid_page) & self._page_bits) == 0,
            "first": (space.mode == TranslationMode.FIRST_STAGE) | (space.mode == TranslationMode.NESTED),
            "unknown": ~self.known,
        }
        is_same = {name: Signal(name=f"same_{name}") for name in terms}
        m.d.sync += [is_same[name].eq(term) for name, term in terms.items()]
        of_page = asks["any_page"] | is_same["page"] | (asks["first_stage_pages"] & is_same["first"])
        of_space = (asks["any_domain"] | is_same["domain"]) & (asks["any_pasid"] | is_same["pasid"]) & of_page
        by_context = asks["context"] & (asks["any_device"] | is_same["device"])
        m.d.comb += self.covered.eq(by_context | (asks["tables"] & (is_same["unknown"] | of_space)))
