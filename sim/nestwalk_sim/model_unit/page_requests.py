"""Page requests of the software unit: acceptance, queue, overflow and responses (§7)."""

from collections import defaultdict
from collections.abc import Callable

from ..memory import AccessError, Memory
from ..model.page_request import Acceptance, PageRequest, PageResponse, ResponseCode
from ..model.structures import FIRST_STAGE, NESTED
from .caches import Caches, Tag
from .register_file import RegisterFile

__all__ = ["PageRequests"]

DESCRIPTOR_BYTES = 32
PAGE_SIZE = 4096


class PageRequests:
    """What devices ask for, and what they are told.

    Parameters
    ----------
    registers : RegisterFile
    memory : Memory
        Where the queue lies.
    caches : Caches
        For the implicit invalidations.
    accept : callable
        Step 1 of §7.1: looks a request up in the tables, and records the fault if there is one.

    Attributes
    ----------
    responses : dict of int to list of PageResponse
        By source id: what a device has been told and has not taken yet.
    on_response : list of callable
        Told of each response.
    on_the_way : list of PageRequest
        Sent by devices and not yet received.
    slow : bool
        Requests stay on the way until `push`, as behind a busy link. What pushes them is the completion of a device-TLB
        invalidation, which cannot overtake them: when it has been waited for, all are in the queue (§7.5).
    queued : callable
        Called when a request has been put into the queue.
    """

    def __init__(
        self, registers: RegisterFile, memory: Memory, caches: Caches, accept: Callable[[PageRequest], Acceptance]
    ):
        self._registers = registers
        self._memory = memory
        self._caches = caches
        self._accept = accept
        self.responses: defaultdict[int, list[PageResponse]] = defaultdict(list)
        self.on_response: list[Callable[[PageResponse], None]] = []
        self.on_the_way: list[PageRequest] = []
        self.slow = False
        self.queued: Callable[[], None] = lambda: None

    def send(self, request: PageRequest) -> None:
        """A device sends a request."""
        self.on_the_way.append(request)
        if not self.slow:
            self.push()

    def push(self, source_id: int | None = None) -> None:
        """Receive what is on the way, of one device or of all."""
        arriving = [request for request in self.on_the_way if source_id in (None, request.source_id)]
        self.on_the_way = [request for request in self.on_the_way if request not in arriving]
        for request in arriving:
            self._receive(request)

    def respond(self, response: PageResponse) -> None:
        """Send a page group response to its device."""
        self.responses[response.source_id].append(response)
        for listener in self.on_response:
            listener(response)

    def _receive(self, request: PageRequest) -> None:
        """§7.1. A fault comes before an overflow, and automatic responses carry the request's PASID: the specification
        leaves both open.
        """
        verdict = self._accept(request)
        if not verdict.accepted:
            self._answer(request, ResponseCode.INVALID_REQUEST)
        elif self._registers.field("PRS", "PRO"):
            self._answer(request, ResponseCode.SUCCESS)
        elif self._full() or not self._queue(request, verdict):
            self._registers.set_field("PRS", "PRO", 1)
            self._answer(request, ResponseCode.SUCCESS)

    def _answer(self, request: PageRequest, code: int) -> None:
        if request.wants_response:
            self.respond(PageResponse(request.source_id, request.pasid, request.group, code))

    def _next(self) -> int:
        """Where the tail goes from here."""
        return (self._registers.field("PQT", "PQT") + 1) % (1 << self._registers.field("PQA", "PQS") + 7)

    def _full(self) -> bool:
        return self._next() == self._registers.field("PQH", "PQH")

    def _queue(self, request: PageRequest, verdict: Acceptance) -> bool:
        """Forget what the request shows to be of no use, and put it into the queue; whether memory took it."""
        self._forget(request, verdict)
        place = (self._registers.field("PQA", "PQA") << 12) + DESCRIPTOR_BYTES * self._registers.field("PQT", "PQT")
        try:
            self._memory.write(place, request.descriptor().to_bytes(DESCRIPTOR_BYTES, "little"))
        except AccessError:
            # The specification says nothing of this: the request is not lost unnoticed, and its device asks again.
            return False
        self._registers.set_field("PQT", "PQT", self._next())
        self._registers.set_field("PRS", "PPR", 1)
        self.queued()
        return True

    def _forget(self, request: PageRequest, verdict: Acceptance) -> None:
        """The implicit invalidation (§7.3)."""
        page = request.address & -PAGE_SIZE
        if verdict.translation_type == NESTED:
            self._caches.forget_tagged(lambda tag: tag.domain_id == verdict.domain_id)
        elif verdict.translation_type == FIRST_STAGE:
            self._caches.forget_pages_of_pasid(Tag(verdict.domain_id, verdict.pasid), page, PAGE_SIZE)
        else:
            self._caches.forget_pages_of_domain(verdict.domain_id, page, PAGE_SIZE)
