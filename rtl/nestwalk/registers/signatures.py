"""What the register file tells the queues, and what the queues report back."""

from amaranth.lib.wiring import In, Out, Signature

from ..config import IommuConfig

__all__ = ["PageRequestControlSignature", "QueueControlSignature"]


class QueueControlSignature(Signature):
    """Control of the invalidation queue, seen from the register file (§1.11, §5.1, §5.7).

    Members
    -------
    enable : Out(1)
        GCMD.QIE. The queue starts fetching when it rises and stops when it falls.
    enabled : In(1)
        Follows ``enable`` once the queue has started or come to rest (then with ``head`` 0); read as GSTS.QIES.
    base, size, wide : Out(page_bits), Out(3), Out(1)
        IQA.IQA as a host page number, IQA.QS and IQA.DW.
    tail : Out(15)
        IQT[18:4], in units of 16 bytes whatever the descriptor width.
    head : In(15)
        IQH[18:4], in the same unit.
    mode : Out(2)
        TTM as latched by SRTP.
    stopped : Out(1)
        FSTS.IQE or FSTS.ITE is set: nothing is fetched; when it falls, fetching resumes at ``head``.
    error, error_code : In(1), In(4)
        One-cycle pulse that sets FSTS.IQE, with IQERCD.IQEI. ``stopped`` is high from the next cycle on.
    wait_complete : In(1)
        One-cycle pulse: a wait descriptor with IF=1 completed, and its status write (if any) is visible in memory.
    """

    def __init__(self, cfg: IommuConfig):
        super().__init__(
            {
                "enable": Out(1),
                "enabled": In(1),
                "base": Out(cfg.page_bits),
                "size": Out(3),
                "wide": Out(1),
                "tail": Out(15),
                "head": In(15),
                "mode": Out(2),
                "stopped": Out(1),
                "error": In(1),
                "error_code": In(4),
                "wait_complete": In(1),
            }
        )


class PageRequestControlSignature(Signature):
    """Control of the page request queue, seen from the register file (§1.13, §7.1).

    Members
    -------
    base, size : Out(page_bits), Out(3)
        PQA.PQA as a host page number, and PQA.PQS.
    head, tail : Out(14), Out(14)
        PQH[18:5] and PQT[18:5], in units of 32 bytes.
    overflow : Out(1)
        PRS.PRO.
    hold : Out(1)
        A write of software takes effect in this cycle, and neither ``queued`` nor ``overflows`` may be high. So a
        status that software clears was set before, and what sets it afterwards is new: it raises the interrupt again.
    queued, next_tail : In(1), In(14)
        Pulse: a request is in memory; PQT becomes ``next_tail`` and PRS.PPR is set.
    overflows : In(1)
        Pulse that sets PRS.PRO.
    claims, granted : In(1), Out(1)
        A level that asks for the place at the memory port that event messages are written through, and the answer: it
        holds until ``claims`` falls.
    """

    def __init__(self, cfg: IommuConfig):
        super().__init__(
            {
                "base": Out(cfg.page_bits),
                "size": Out(3),
                "head": Out(14),
                "tail": Out(14),
                "overflow": Out(1),
                "hold": Out(1),
                "queued": In(1),
                "next_tail": In(14),
                "overflows": In(1),
                "claims": In(1),
                "granted": Out(1),
            }
        )
