"""Caches of the software unit: they keep everything until an invalidation covers it, and nothing longer (§5.3)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from ..model.request import Access, Mode, Request, Result, Structure

__all__ = ["Caches", "Tag"]


FUNCTION_MASKS = (0, 4, 6, 7)
"""Bits of a source identifier that each function mask (FM) leaves out."""

DOMAIN_BIT = {Structure.PASID_TABLE: 64, Structure.LEGACY_CONTEXT: 72}
"""Lowest bit of DID in the entry that has it."""


class Tag(NamedTuple):
    """What a translation is cached under besides its page."""

    domain_id: int
    pasid: int


@dataclass
class _Line:
    """A cached translation: its tag, its page, whether a first stage takes part, and the request that filled it."""

    tag: Tag
    address: int
    size: int
    first_stage: bool
    request: Request
    result: Result

    def overlaps(self, address: int, size: int) -> bool:
        return address < self.address + self.size and self.address < address + size

    def answers(self, request: Request) -> bool:
        """Whether the cached permissions cover a request. What a read filled answers no write: D may not be set yet."""
        filled, allowed = self.request, self.result.permissions
        writes, reads = request.access in (Access.WRITE, Access.ATOMIC), request.access is not Access.WRITE
        return (
            filled.privileged == request.privileged
            and not request.execute
            and (not writes or (allowed.write and filled.access in (Access.WRITE, Access.ATOMIC)))
            and (not reads or allowed.read)
        )


class Caches:
    """A PASID cache (requester and PASID to tag, of context entries in legacy mode) and an IOTLB (tag and page to
    result). Faults are never cached.
    """

    def __init__(self):
        self._tags: dict[tuple[int, int], Tag] = {}
        self._lines: list[_Line] = []

    def look_up(self, request: Request) -> Result | None:
        """The cached answer to a request, if its tag and its page are both cached with the permission it needs."""
        tag = self._tags.get((request.source_id, request.pasid or 0))
        for line in self._lines:
            if line.tag == tag and line.overlaps(request.address, 1) and line.answers(request):
                base = line.result.address & -line.size
                return line.result._replace(address=base | request.address & line.size - 1, accesses=[])
        return None

    def kept(self) -> list[tuple[Request, int]]:
        """Every translation: the request that filled it, and its host address."""
        return [(line.request, line.result.address) for line in self._lines]

    def fill(self, request: Request, result: Result) -> None:
        """Keep a granted translation under the tag that its PASID-table or legacy context entry gave."""
        entry = next((access for access in result.accesses if access.structure in DOMAIN_BIT), None)
        if entry is None or not result.granted or not result.page_size:
            return
        tag = Tag(entry.value >> DOMAIN_BIT[entry.structure] & 0xFFFF, request.pasid or 0)
        self._tags[request.source_id, tag.pasid] = tag
        first_stage = result.mode in (Mode.FIRST_STAGE, Mode.NESTED)
        base = request.address & -result.page_size
        self._lines.append(_Line(tag, base, result.page_size, first_stage, request, result))

    def forget_devices(
        self, source_id: int | None = None, function_mask: int = 0, domain_id: int | None = None
    ) -> None:
        """``cc_inv``: context entries, and with them how a requester reaches its tag; of all devices or those of one
        number under a mask, of all domains or one.
        """
        compared = 0xFFFF & ~FUNCTION_MASKS[function_mask]
        self._tags = {
            key: tag
            for key, tag in self._tags.items()
            if (source_id is not None and (source_id ^ key[0]) & compared) or domain_id not in (None, tag.domain_id)
        }

    def forget_tags(self, covered: Callable[[Tag], bool]) -> None:
        """``pc_inv``."""
        self._tags = {key: tag for key, tag in self._tags.items() if not covered(tag)}

    def forget_tagged(self, covered: Callable[[Tag], bool]) -> None:
        """``iotlb_inv`` global and domain, ``p_iotlb_inv`` PASID-selective."""
        self._lines = [line for line in self._lines if not covered(line.tag)]

    def forget_pages_of_domain(self, domain_id: int, address: int, size: int) -> None:
        """``iotlb_inv`` page: a range of second-stage pages, and everything of the domain that a first stage takes
        part in.
        """
        self._lines = [
            line
            for line in self._lines
            if line.tag.domain_id != domain_id or not (line.first_stage or line.overlaps(address, size))
        ]

    def forget_pages_of_pasid(self, tag: Tag, address: int, size: int) -> None:
        """``p_iotlb_inv`` page: a range of first-stage pages."""
        self._lines = [
            line for line in self._lines if line.tag != tag or not line.first_stage or not line.overlaps(address, size)
        ]

    def forget_everything(self) -> None:
        """What SRTP and disabling translation do."""
        self._tags.clear()
        self._lines.clear()
