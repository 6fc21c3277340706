"""The invalidation queue: fetches descriptors, executes them one at a time, reports errors (§1.11, §5)."""

from amaranth.hdl import C, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..bus.memory import PIECE_BITS, WRITE_BITS, MemoryIds, MemoryReadSignature, MemoryWriteSignature
from ..bus.queue import Queue
from ..config import IommuConfig
from ..formats.descriptor import InvalidationError, InvalidationWait
from ..registers.signatures import QueueControlSignature
from .command import Invalidation
from .decode import Action, DescriptorDecoder
from .fetch import DescriptorFetch, next_offset, offset_mask

__all__ = ["COMPLETING", "InvalidationQueue"]


COMPLETING = 8
"""Descriptors that have been executed and whose completion, or that of one before them, is still on its way."""


class _Executed(data.Struct):
    """A descriptor that has taken effect: its status is on its way to memory; its completion raises an interrupt."""

    writes_status: 1
    interrupts: 1


class InvalidationQueue(wiring.Component):
    """Executes the descriptors between IQH and IQT.

    ::

        read --> DescriptorFetch --> DescriptorDecoder --+--> invalidations (caches)
                    ^ restart                            +--> messages (devices)
                    |                                    `--> drained? --> write (status) --> wait_complete
        control <---+---- head, error <---- sequencer --executed--> Queue --completed--> head, wait_complete

        DISABLED <--> HALT <--> NEXT --> DISPATCH --> INVALIDATE, MESSAGE or WAIT -> STATUS --> NEXT
                       ^                    |
                       `------ error -------'

    A descriptor starts only after the one before it has taken effect, so that every ordering of §5.6 holds; only the
    way of a status to memory overlaps with what comes after it, unless the wait descriptor is a fence. ``head`` moves,
    in order, when a descriptor has completed, a wait descriptor with its status in memory. The next descriptors are
    fetched meanwhile; those are dropped when the queue halts, and fetched anew from ``head`` when it goes on; it halts
    when all that it has executed has completed.

    Width and mode (IQEI 5 and 7), then the tail (IQEI 6 and 1), are verified whenever the queue is not empty and no
    descriptor executes; no read starts while one of them is wrong. An error on writing status is ignored, as nobody is
    left to be told: the wait completes.

    Timing, for memory latency L at ``read`` and ``write``: an invalidation and a wait behind it complete 2 L + 15
    cycles after the tail changed, plus the time until the caches took the invalidation and ``drained`` rose.

    Parameters
    ----------
    cfg : IommuConfig

    Members
    -------
    control : `QueueControlSignature`, in
        From the register file.
    read, write : `MemoryReadSignature`, `MemoryWriteSignature`, out
        With the id `MemoryIds.queue`.
    invalidations : stream of `Invalidation`, out
        A transfer means that the invalidation has taken effect everywhere.
    drained : 1, in
        Neither a walk that an invalidation overtook nor an access with a translation from before it is in flight.
        Follows a transfer of ``invalidations`` within 2 cycles.
    waits : 1, out
        A wait descriptor waits for ``drained``.
    drains, page_requests_idle : 1, out, 1, in
        A wait descriptor with PD wants no page request to be accepted, and all that were to be in their queue; both
        only with ``cfg.page_requests``.
    messages : stream of 128, out
        Bits 127:0 of device-TLB invalidation and page group response descriptors, verified.
    executed : 32, out
        Descriptors completed since reset (0 without ``cfg.counters``).
    """

    def __init__(self, cfg: IommuConfig):
        self._cfg = cfg
        page_requests = {"waits": Out(1), "drains": Out(1), "page_requests_idle": In(1)}
        super().__init__(
            {
                "control": In(QueueControlSignature(cfg)),
                "read": Out(MemoryReadSignature(cfg)),
                "write": Out(MemoryWriteSignature(cfg)),
                "invalidations": Out(stream.Signature(Invalidation)),
                "drained": In(1),
                **(page_requests if cfg.page_requests else {}),
                "messages": Out(stream.Signature(PIECE_BITS)),
                "executed": Out(32),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.fetch = fetch = DescriptorFetch(self._cfg)
        self._tail = Signal.like(self.control.tail)
        m.submodules.decoder = decoder = DescriptorDecoder(self._cfg)
        self._connect(m, fetch, decoder)
        self._sequence(m, fetch, decoder)
        return m

    def _connect(self, m: Module, fetch: DescriptorFetch, decoder: DescriptorDecoder):
        control = self.control
        wiring.connect(m, fetch.read, wiring.flipped(self.read))
        m.d.comb += [
            fetch.base.eq(control.base),
            fetch.size.eq(control.size),
            fetch.wide.eq(control.wide),
            fetch.tail.eq(self._tail),
            fetch.head.eq(control.head),
            decoder.descriptor.eq(fetch.descriptors.p.descriptor),
            decoder.padding_set.eq(fetch.descriptors.p.padding_set),
            decoder.scalable.eq(control.mode[0]),
            self.invalidations.payload.eq(decoder.invalidation),
            self.messages.payload.eq(fetch.descriptors.p.descriptor),
        ]
        wait = InvalidationWait.at_piece(0, fetch.descriptors.p.descriptor)
        status = self.write.request.p
        m.d.comb += [
            status.id.eq(MemoryIds(self._cfg).queue),
            status.address.eq(wait.status_address << 2),
            status.size.eq(2),
            status.data.eq(wait.status_data.replicate(WRITE_BITS // 32)),
        ]

    def _sequence(self, m: Module, fetch: DescriptorFetch, decoder: DescriptorDecoder):
        control = self.control
        wait = InvalidationWait.at_piece(0, fetch.descriptors.p.descriptor)
        misprogrammed = Signal(InvalidationError)
        error = Signal(InvalidationError)
        action = Signal(Action)
        interrupted = Signal()  # software stopped the queue since it last halted
        execute, executes, is_wait = Signal(), Signal(), Signal()  # ``executes`` one cycle later
        self._verify_registers(m, misprogrammed)
        m.submodules.executed = executed = Queue(_Executed, COMPLETING)
        completing = executed.level != 0
        m.d.comb += [
            executed.i.valid.eq(execute),
            executed.i.p.writes_status.eq(is_wait & wait.sw),
            executed.i.p.interrupts.eq(is_wait & wait.if_),
        ]
        self._complete(m, executed.o)

        m.d.comb += [
            fetch.permit.eq(control.enable & ~control.stopped & (misprogrammed == InvalidationError.NONE)),
            fetch.descriptors.ready.eq(executes),
        ]
        m.d.sync += executes.eq(execute)
        with m.If(~control.enable | control.stopped):
            m.d.sync += interrupted.eq(1)

        def report(code):
            """Set FSTS.IQE and leave ``head`` where it is."""
            return [control.error.eq(1), control.error_code.eq(code)]

        with m.FSM():
            with m.State("DISABLED"):
                m.d.comb += fetch.restart.eq(1)
                with m.If(control.enable):
                    m.d.sync += control.enabled.eq(1)
                    m.next = "HALT"

            with m.State("NEXT"):
                m.d.sync += [
                    action.eq(decoder.action),
                    error.eq(Mux(fetch.descriptors.p.failed, InvalidationError.FETCH, decoder.error)),
                ]
                halts = interrupted | ((control.head != self._tail) & (misprogrammed != InvalidationError.NONE))
                with m.If(halts):
                    with m.If(~completing):
                        with m.If(~interrupted):
                            m.d.comb += report(misprogrammed)
                        m.next = "HALT"
                with m.Elif(fetch.descriptors.valid & executed.i.ready & ~executes):
                    m.next = "DISPATCH"

            with m.State("DISPATCH"):
                with m.If(error != InvalidationError.NONE):
                    with m.If(~completing):
                        m.d.comb += report(error)
                        m.next = "HALT"
                with m.Else():
                    with m.Switch(action):
                        with m.Case(Action.INVALIDATE):
                            m.next = "INVALIDATE"
                        with m.Case(Action.WAIT):
                            m.next = "WAIT"
                        with m.Case(Action.MESSAGE):
                            m.next = "MESSAGE"

            with m.State("INVALIDATE"):
                m.d.comb += [self.invalidations.valid.eq(1), execute.eq(self.invalidations.ready)]
                with m.If(execute):
                    m.next = "NEXT"

            with m.State("MESSAGE"):
                m.d.comb += [self.messages.valid.eq(1), execute.eq(self.messages.ready)]
                with m.If(execute):
                    m.next = "NEXT"

            with m.State("WAIT"):
                with m.If(self.drained & self._drain_page_requests(m, wait)):
                    m.next = "STATUS"

            with m.State("STATUS"):
                m.d.comb += [
                    is_wait.eq(1),
                    self.write.request.valid.eq(wait.sw),
                    execute.eq(~wait.sw | self.write.request.ready),
                ]
                with m.If(execute):
                    m.next = "NEXT"
                    if self._cfg.page_requests:
                        m.d.sync += self.drains.eq(0)
                    with m.If(wait.fn):
                        m.next = "FENCE"

            with m.State("FENCE"):
                with m.If(~completing):
                    m.next = "NEXT"

            with m.State("HALT"):
                m.d.comb += fetch.restart.eq(1)
                with m.If(fetch.idle & ~control.enable):
                    m.d.sync += [control.enabled.eq(0), control.head.eq(0)]
                    m.next = "DISABLED"
                with m.Elif(fetch.idle & ~control.stopped):
                    m.d.sync += interrupted.eq(0)
                    m.next = "NEXT"

    def _drain_page_requests(self, m: Module, wait):
        """In the state WAIT: whether no page request keeps this descriptor from completing (§5.5, PD).

        None is accepted from the moment on in which everything else is drained until the status is on its way.
        """
        if not self._cfg.page_requests:
            return C(1)
        m.d.comb += self.waits.eq(1)
        with m.If(self.drained & wait.pd):
            m.d.sync += self.drains.eq(1)
        return ~wait.pd | (self.drains & self.page_requests_idle)

    def _complete(self, m: Module, executed):
        """Move ``head`` over what has been executed, in order, as it completes."""
        control = self.control
        written = Signal(range(COMPLETING + 1))  # status writes of which ``head`` does not know yet
        m.d.comb += [
            executed.ready.eq(~executed.p.writes_status | (written != 0)),
            control.wait_complete.eq(executed.valid & executed.ready & executed.p.interrupts),
        ]
        completes = executed.valid & executed.ready
        m.d.sync += written.eq(written + self.write.done.valid - (completes & executed.p.writes_status))
        with m.If(completes):
            m.d.sync += control.head.eq(next_offset(control.head, control.size, control.wide))
            if self._cfg.counters:
                m.d.sync += self.executed.eq(self.executed + 1)

    def _verify_registers(self, m: Module, misprogrammed: Signal):
        """Descriptor width, mode and tail, in this order (§1.11)."""
        control = self.control
        # The tail counts one cycle later, with what there is to say of it.
        m.d.sync += [self._tail.eq(control.tail), misprogrammed.eq(InvalidationError.NONE)]
        with m.If(control.mode == 2):
            m.d.sync += misprogrammed.eq(InvalidationError.INVALID_MODE)
        with m.Elif(Mux(control.wide, not self._cfg.scalable_mode, control.mode[0])):
            m.d.sync += misprogrammed.eq(InvalidationError.INVALID_WIDTH)
        with m.Elif(control.wide & control.tail[0]):
            m.d.sync += misprogrammed.eq(InvalidationError.TAIL_ALIGNMENT)
        with m.Elif((control.tail & ~offset_mask(control.size)).any()):
            m.d.sync += misprogrammed.eq(InvalidationError.INVALID_TAIL)
