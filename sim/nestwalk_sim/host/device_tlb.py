"""A device's own cache of translations (§5.4): tagged and untagged entries apart, kept until an invalidation covers
them.
"""

from dataclasses import dataclass

from ..model.request import Access, Request

__all__ = ["CachedPage", "DeviceTlb"]


@dataclass(frozen=True)
class CachedPage:
    """A translation that a device keeps: the request that filled it, the page's host address and size in bytes."""

    request: Request
    host: int
    size: int

    @property
    def base(self) -> int:
        """First input address of the page."""
        return self.request.address & -self.size


class DeviceTlb:
    """What one device keeps.

    ``pages`` are all cached translations. A ``silent`` device answers no invalidation: its unit runs into a time-out.
    """

    def __init__(self):
        self.pages: list[CachedPage] = []
        self.silent = False

    def reset(self) -> None:
        """The device was reset: it keeps nothing and answers again."""
        self.pages.clear()
        self.silent = False

    def look_up(self, request: Request) -> int | None:
        """The cached host address for a request, None when it has to ask."""
        for page in self.pages:
            filled = page.request
            same = filled.pasid == request.pasid and filled.privileged == request.privileged
            covers = filled.access == request.access or request.access is Access.READ
            if same and covers and page.base == request.address & -page.size:
                return page.host | request.address & page.size - 1
        return None

    def fill(self, request: Request, host: int, size: int) -> None:
        """Keep an answer."""
        if size:
            self.pages.append(CachedPage(request, host & -size, size))

    def invalidate(self, pasid: int | None, word: int, size_bit: bool) -> None:
        """Forget a range of a PASID, or of what has none.

        Parameters
        ----------
        word : int
            Address field of the descriptor; under ``size_bit`` its lowest zero from bit 12 on gives the size.
        """
        size = 4096
        if size_bit:
            while word & size and size < 1 << 63:
                size <<= 1
            size <<= 1
        start = word & -size & (1 << 64) - 1
        self.pages = [
            page
            for page in self.pages
            if page.request.pasid != pasid or page.base + page.size <= start or start + size <= page.base
        ]
