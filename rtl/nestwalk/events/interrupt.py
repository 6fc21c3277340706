"""Event messages: the interrupts that tell software about faults and completed waits (§1.8.2, §1.9)."""

from amaranth.hdl import C, Cat, Module, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, Signature

from ..bus.arbiter import lowest, selected
from ..bus.memory import WRITE_BITS, MemoryIds, MemoryWriteSignature
from ..config import IommuConfig

__all__ = ["EventMessages", "EventSignature"]

DWORD = 2
"""log2 of the bytes of a message."""


class EventSignature(Signature):
    """One kind of event, seen from its status and control registers.

    Members
    -------
    condition : Out(1)
        A status bit is set that raises the interrupt.
    status : Out(1)
        Some status bit is set, also one that does not raise it but keeps others from doing so.
    mask : Out(1)
        IM.
    address, data : Out(64), Out(16)
        Message address and data.
    pending : In(1)
        IP.
    irq : In(1)
        Wire beside the message: high while ``condition`` is and IM=0.
    """

    def __init__(self):
        super().__init__(
            {
                "condition": Out(1),
                "status": Out(1),
                "mask": Out(1),
                "address": Out(64),
                "data": Out(16),
                "pending": In(1),
                "irq": In(1),
            }
        )


class EventMessages(wiring.Component):
    """Sends the interrupt messages of several kinds of event through one write port, earlier kinds first.

    ::

        condition rises from no status --> IP=1 --> IM=0: write {0000h, data} to address, IP=0
                                             `----> all status cleared: IP=0

    Parameters
    ----------
    cfg : IommuConfig
    count : int
        Kinds of event.

    Members
    -------
    events : array of ``count`` `EventSignature`, in
    write : `MemoryWriteSignature`, out
        Messages, one at a time; whether a message arrived makes no difference. With ``cfg.page_requests`` the request
        is all zeros while there is none.
    claimed, idle : In(1), Out(1)
        No message begins, and none is on its way.
    busy : Out(1)
        A message is due or on its way. High from the cycle in which the condition rises (IM=0) until the message's
        write is acknowledged, so that register reads that wait for it cannot overtake the message.
    """

    def __init__(self, cfg: IommuConfig, count: int):
        self._cfg = cfg
        super().__init__(
            {
                "events": In(EventSignature()).array(count),
                "write": Out(MemoryWriteSignature(cfg)),
                "claimed": In(1),
                "idle": Out(1),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        sending = Signal()
        taken = Signal(len(self.events))
        rises = Cat(self._pending(m, event, taken[number]) for number, event in enumerate(self.events))
        due = Cat(event.pending & event.status & ~event.mask for event in self.events)
        unmasked = ~Cat(event.mask for event in self.events)
        m.d.comb += self.busy.eq((rises & unmasked).any() | due.any() | sending)

        with m.FSM() as fsm:
            m.d.comb += [self.idle.eq(fsm.ongoing("IDLE")), sending.eq(~self.idle)]
            with m.State("IDLE"):
                with m.If(~self.claimed):
                    m.d.comb += taken.eq(lowest(due))
                with m.If(taken.any()):
                    m.next = "SEND"
            with m.State("SEND"):
                m.d.comb += self.write.request.valid.eq(1)
                with m.If(self.write.request.ready):
                    m.next = "WAIT"
            with m.State("WAIT"):
                with m.If(self.write.done.valid):
                    m.next = "IDLE"
        self._keep_message(m, taken)
        return m

    def _keep_message(self, m: Module, taken):
        """The message of the kind that is ``taken``, until it has been written."""
        request = self.write.request
        message = Signal(data.StructLayout({"address": len(request.p.address), "data": 16}))
        with m.If(taken.any()):
            m.d.sync += [
                message.address.eq(selected(taken, (event.address for event in self.events))),
                message.data.eq(selected(taken, (event.data for event in self.events))),
            ]
        if self._cfg.page_requests:
            with m.If(request.valid & request.ready):
                m.d.sync += Value.cast(message).eq(0)
        with m.If(request.valid):
            m.d.comb += [request.p.id.eq(MemoryIds(self._cfg).event), request.p.size.eq(DWORD)]
        m.d.comb += [
            request.p.address.eq(message.address),
            request.p.data.eq(Cat(message.data, C(0, 16)).replicate(WRITE_BITS // 32)),
        ]

    def _pending(self, m: Module, event, taken):
        """IP of one kind of event; returns the rise of its condition from no status at all."""
        quiet = Signal(init=1)
        rises = Signal()
        m.d.comb += [rises.eq(event.condition & quiet), event.irq.eq(event.condition & ~event.mask)]
        m.d.sync += quiet.eq(~event.status)
        with m.If(~event.status | taken):
            m.d.sync += event.pending.eq(0)
        with m.Elif(rises):
            m.d.sync += event.pending.eq(1)
        return rises
