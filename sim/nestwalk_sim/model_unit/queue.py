"""Execution of invalidation descriptors by the software unit (§5)."""

from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from nestwalk.config import IommuConfig

from ..memory import AccessError, Memory
from ..model.page_request import PageResponse
from .caches import Caches, Tag
from .page_requests import PageRequests
from .register_file import RegisterFile

__all__ = ["DeviceTlb", "InvalidationQueue"]

INVALID_TAIL, FETCH_ERROR, INVALID_TYPE, RESERVED_FIELD, INVALID_WIDTH, TAIL_ALIGNMENT, INVALID_MODE = range(1, 8)
"""IQEI codes (§1.11)."""

LEGACY, RESERVED = 0, 2
"""TTM (§1.6)."""

GRANULARITY = 3 << 4
DOMAIN, PASID, SOURCE = 0xFFFF << 16, 0xFFFFF << 32, 0xFFFF << 32
IOTLB, WAIT = 2, 5
DRAIN_PAGE_REQUESTS = 1 << 7
DOMAIN_SELECTIVE, DEVICE, PAGE = 2, 3, 3
"""Granularities of cc_inv and iotlb_inv."""
RANGE = ~0xFFF & (1 << 64) - 1 | 0x7F

DEFINED_BITS: dict[int, tuple[int, int]] = {
    1: (0xF | GRANULARITY | DOMAIN | SOURCE | 3 << 48, 0),
    2: (0xF | GRANULARITY | 3 << 6 | DOMAIN, RANGE),
    3: (0xF | 0xF << 12 | 0x1F << 16 | SOURCE | 0xFFF << 52, ~0xFFF & (1 << 64) - 1 | 1),
    5: (0xFF | 0xFFFF_FFFF << 32, ~3 & (1 << 64) - 1),
    6: (0xF | GRANULARITY | DOMAIN | PASID, RANGE),
    7: (0xF | GRANULARITY | DOMAIN | PASID, 0),
    8: (0xF | 0x1F << 4 | 0xF << 12 | DOMAIN | PASID | 0xFFF << 52, ~0xFFF & (1 << 64) - 1 | 1 << 11 | 1),
    9: (0x1F | 0xF << 12 | DOMAIN | PASID, 0xFFC),
}
"""Bits of the two low 64-bit words that each descriptor type defines (§5.2); all others must be 0."""

GRANULARITIES = {1: {1, 2, 3}, 2: {1, 2, 3}, 6: {2, 3}, 7: {0, 1, 3}}
"""Values of G that are not reserved."""


class QueueError(Exception):
    """A descriptor that cannot be executed; ``code`` is IQEI."""

    def __init__(self, code: int):
        super().__init__(f"IQEI {code}")
        self.code = code


class DeviceTlb(Protocol):
    """What the unit sees of a device's own cache."""

    silent: bool

    def invalidate(self, pasid: int | None, word: int, size_bit: bool) -> None:
        """An invalidation request has arrived."""
        ...


class InvalidationQueue:
    """Runs from head to tail whenever something moves the tail or clears an error.

    Parameters
    ----------
    executed : list
        Every descriptor that was executed, as its 256-bit value, for tests that look at the traffic.
    device_tlbs : dict of int to DeviceTlb
        Requester ids of devices that keep translations; invalidations of others complete at once.
    mode : int
        TTM as the last SRTP latched it.
    changed : callable
        Called when a status bit has changed.
    """

    def __init__(
        self,
        config: IommuConfig,
        registers: RegisterFile,
        memory: Memory,
        caches: Caches,
        page_requests: PageRequests,
    ):
        self._page_requests = page_requests
        self._registers = registers
        self._memory = memory
        self._caches = caches
        self._config = config
        self.mode = LEGACY
        self.changed: Callable[[], None] = lambda: None
        self.executed: list[int] = []
        self.device_tlbs: dict[int, DeviceTlb] = {}
        self._unanswered = False
        self._handlers: dict[int, Callable[[int, int], None]] = {
            1: self._context_cache,
            2: self._iotlb,
            3: self._device_tlb,
            5: self._wait,
            6: self._pasid_iotlb,
            7: self._pasid_cache,
            8: self._pasid_device_tlb,
            9: self._page_group_response,
        }

    def run(self) -> None:
        """Fetch and execute while enabled and free of errors (§5.1)."""
        registers = self._registers
        units = 2 if registers.field("IQA", "DW") else 1
        slots = 256 << registers.field("IQA", "QS")
        while registers.field("GSTS", "QIES") and not registers.field("FSTS", "IQE") | registers.field("FSTS", "ITE"):
            head, tail = registers.field("IQH", "QH"), registers.field("IQT", "QT")
            if head == tail:
                return
            try:
                self._verify(tail, slots, wide=units == 2)
                if self._timed_out(head):
                    registers.set_field("FSTS", "ITE", 1)
                else:
                    self._step(head, 16 * units)
                registers.set_field("IQH", "QH", (head + units) % slots)
            except QueueError as error:
                registers.set_field("IQERCD", "IQEI", error.code)
                registers.set_field("FSTS", "IQE", 1)
            self.changed()

    def invalidate(self, low: int, high: int) -> bool:
        """Do what a descriptor of cc_inv or iotlb_inv would, for the registers that ask for it (§1.7).

        Returns
        -------
        bool
            Whether it was well-formed; otherwise nothing was done.
        """
        with suppress(QueueError):
            self._check(low, high, 0)
            self._handlers[low & 0xF](low, high)
            return True
        return False

    def _verify(self, tail: int, slots: int, *, wide: bool) -> None:
        """Mode, width and tail (§1.11)."""
        if self.mode == RESERVED:
            raise QueueError(INVALID_MODE)
        if not self._config.scalable_mode if wide else self.mode != LEGACY:
            raise QueueError(INVALID_WIDTH)
        if wide and tail & 1:
            raise QueueError(TAIL_ALIGNMENT)
        if tail >= slots:
            raise QueueError(INVALID_TAIL)

    def _timed_out(self, head: int) -> bool:
        """A device-TLB invalidation has not been answered: the wait behind it is aborted, IQH goes on (§5.4)."""
        if not self._unanswered or self._fetch(head, 16)[0] & 0xF != WAIT:
            return False
        self._unanswered = False
        return True

    def _fetch(self, head: int, size: int) -> bytes:
        place = (self._registers.field("IQA", "IQA") << 12) + 16 * head & (1 << self._config.haw) - 1
        try:
            return self._memory.read(place, size)
        except AccessError:
            raise QueueError(FETCH_ERROR) from None

    def _step(self, head: int, size: int) -> None:
        content = self._fetch(head, size)
        low, high = int.from_bytes(content[:8], "little"), int.from_bytes(content[8:16], "little")
        self._check(low, high, int.from_bytes(content[16:], "little"))
        self._handlers[low & 0xF](low, high)
        self.executed.append(int.from_bytes(content, "little"))

    def _check(self, low: int, high: int, upper: int) -> None:
        kind, granularity = low & 0xF, low >> 4 & 3
        if kind not in self._valid_types() or low >> 9 & 7:
            raise QueueError(INVALID_TYPE)
        if kind in GRANULARITIES and granularity not in GRANULARITIES[kind]:
            raise QueueError(INVALID_TYPE)
        defined_low, defined_high = DEFINED_BITS[kind]
        if kind == WAIT and not self._config.page_requests:
            defined_low &= ~DRAIN_PAGE_REQUESTS
        beyond = kind == IOTLB and granularity == PAGE and high & 0x3F > self._config.max_address_mask
        if low & ~defined_low or high & ~defined_high or upper or beyond:
            raise QueueError(RESERVED_FIELD)

    def _valid_types(self) -> set[int]:
        """Descriptor types of this unit in this mode (§5.1)."""
        always = {1: True, 2: True, 3: self._config.device_tlb, 5: True}
        scalable = {6: True, 7: True, 8: self._config.device_tlb, 9: self._config.page_requests}
        types = always if self.mode == LEGACY else always | scalable
        return {kind for kind, there in types.items() if there}

    def _device_tlb(self, low: int, high: int) -> None:
        self._send(low >> 32 & 0xFFFF, None, high, bool(high & 1))

    def _pasid_device_tlb(self, low: int, high: int) -> None:
        self._send(self._domain(low), low >> 32 & 0xFFFFF, high, bool(high >> 11 & 1))

    def _send(self, source_id: int, pasid: int | None, word: int, size_bit: bool) -> None:
        """An invalidation request to a device; one that does not answer is missed at the next wait. The answer pushes
        the device's page requests before it.
        """
        device = self.device_tlbs.get(source_id)
        if device is not None and device.silent:
            self._unanswered = True
            self._registers.set_field("IQERCD", "ITESID", source_id)
            return
        if device is not None:
            device.invalidate(pasid, word & -4096, size_bit)
        self._page_requests.push(source_id)

    def _page_group_response(self, low: int, high: int) -> None:
        pasid = low >> 32 & 0xFFFFF if low >> 4 & 1 else None
        self._page_requests.respond(PageResponse(low >> 16 & 0xFFFF, pasid, high >> 3 & 0x1FF, low >> 12 & 0xF))

    def _wait(self, low: int, high: int) -> None:
        if low >> 5 & 1:
            with suppress(AccessError):  # nobody is left to be told
                self._memory.write(high & (1 << self._config.haw) - 1, (low >> 32).to_bytes(4, "little"))
        if low >> 4 & 1:
            self._registers.set_field("ICS", "IWC", 1)

    def _domain(self, low: int) -> int:
        """DID; bits above its width are ignored (§5.2)."""
        return low >> 16 & (1 << self._config.domain_bits) - 1

    def _context_cache(self, low: int, _high: int) -> None:
        granularity, domain, source_id = low >> 4 & 3, self._domain(low), low >> 32 & 0xFFFF
        # Scalable-mode context entries have no domain: one domain means all.
        of_domain = domain if self.mode == LEGACY else None
        if granularity == DEVICE:
            self._caches.forget_devices(source_id, low >> 48 & 3, of_domain)
        else:
            self._caches.forget_devices(domain_id=of_domain if granularity == DOMAIN_SELECTIVE else None)

    def _pasid_cache(self, low: int, _high: int) -> None:
        granularity, domain, pasid = low >> 4 & 3, self._domain(low), low >> 32 & 0xFFFFF
        self._caches.forget_tags(
            lambda tag: granularity == 3 or (tag.domain_id == domain and (granularity == 0 or tag.pasid == pasid))
        )

    def _iotlb(self, low: int, high: int) -> None:
        granularity, domain = low >> 4 & 3, self._domain(low)
        if granularity == 3:
            self._caches.forget_pages_of_domain(domain, *_pages(high))
        else:
            self._caches.forget_tagged(lambda tag: granularity == 1 or tag.domain_id == domain)

    def _pasid_iotlb(self, low: int, high: int) -> None:
        tag = Tag(self._domain(low), low >> 32 & 0xFFFFF)
        if low >> 4 & 3 == 3:
            self._caches.forget_pages_of_pasid(tag, *_pages(high))
        else:
            self._caches.forget_tagged(lambda cached: cached == tag)


def _pages(high: int) -> tuple[int, int]:
    """Address and bytes of the range in a descriptor's second word."""
    size = 4096 << (high & 0x3F)
    return high & -4096 & -size, size
