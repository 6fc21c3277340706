"""What the invalidation queue and the global commands ask the caches to forget."""

from amaranth.lib import data, enum

__all__ = ["Invalidation", "Scope"]


class Scope(enum.Enum, shape=3):
    """Granularity of an invalidation (§5.2, §5.3)."""

    GLOBAL = 0
    DOMAIN = 1
    DEVICE = 2  # context cache only: source id under the function mask
    PASID = 3  # domain and PASID
    PAGE_IN_DOMAIN = 4  # iotlb_inv_dsc, page selective
    PAGE_IN_PASID = 5  # p_iotlb_inv_dsc, page selective


class Invalidation(data.Struct):
    """One invalidation, decoded.

    ``context``, ``pasid_cache`` and ``iotlb`` name the caches that it reaches; ``page`` is the address in 4 KiB pages
    and ``address_mask`` the log2 of the number of pages; ``hint`` is IH (keep non-leaf entries).
    """

    context: 1
    pasid_cache: 1
    iotlb: 1
    scope: Scope
    domain_id: 16
    source_id: 16
    function_mask: 2
    pasid: 20
    page: 52
    address_mask: 6
    hint: 1
