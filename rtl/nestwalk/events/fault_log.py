"""The primary fault log: fault recording registers and their overflow (§1.8.1)."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import AGAW, IommuConfig
from ..formats.fault import FaultEvent, FaultReason, FaultRecord

__all__ = ["FaultLog"]

READ, WRITE, ATOMIC, ZERO_LENGTH_READ = range(4)
"""The access of a `FaultEvent`."""

PAGE_REQUEST = 3
"""The address type of one. It is no AT of PCIe: messages have none, and the record says 0, untranslated."""


class _Stored(data.StructLayout):
    """What one record keeps: all of the recording register but F, without the address bits that are always 0."""

    def __init__(self, page_bits: int):
        super().__init__(
            {
                "page": page_bits,
                "source_id": 16,
                "t1": 1,
                "t2": 1,
                "address_type": 2,
                "pasid_valid": 1,
                "pasid": 20,
                "privileged": 1,
                "execute": 1,
                "reason": FaultReason,
            }
        )


class FaultLog(wiring.Component):
    """Writes faults into the fault recording registers, in a ring without compression (§1.8.1).

    ::

        faults --> overflow? record in use? --> record[index], then F[index] --> index + 1
                        |            |
                     dropped    dropped, PFO

    Takes a fault every other cycle and never waits for software. A record's fields are in place before its F bit can be
    read. FI is 0 above the largest address width that the unit announces.

    Parameters
    ----------
    cfg : IommuConfig

    Members
    -------
    faults : stream of `FaultEvent`, in
    overflow, overflow_set : In(1), Out(1)
        FSTS.PFO, and the pulse that sets it from the next cycle on.
    pending : Out(1)
        FSTS.PPF, a cycle later: some record has its F bit set.
    first : Out(8)
        FSTS.FRI: index of the record that made ``pending`` rise.
    rewind : In(1)
        Translation and interrupt remapping are off: start again at record 0.
    index, record, clear : In(8), Out(`FaultRecord`), In(1)
        Record ``index`` with its F bit, one cycle later; ``clear`` clears the F bit of that index.
    """

    def __init__(self, cfg: IommuConfig):
        self._cfg = cfg
        super().__init__(
            {
                "faults": In(stream.Signature(FaultEvent)),
                "overflow": In(1),
                "overflow_set": Out(1),
                "pending": Out(1),
                "first": Out(8),
                "rewind": In(1),
                "index": In(8),
                "record": Out(FaultRecord),
                "clear": In(1),
            }
        )

    @property
    def _page_bits(self) -> int:
        """Width of the page number in FI: the largest address width announced (§1.8)."""
        first_stage = AGAW[5 if self._cfg.first_stage_5_level else 4] if self._cfg.first_stage else 0
        return max(first_stage, *(AGAW[levels] for levels in self._cfg.second_stage_levels), 0) - 12

    def elaborate(self, platform):
        m = Module()
        records = self._cfg.fault_records
        layout = _Stored(self._page_bits)
        stored, shown, write = Signal(layout), Signal(layout), Signal()
        self._valid = valid = Array(Signal(name=f"f_{number}") for number in range(records))
        self._current = current = Signal(range(max(records, 2)))
        fault = self.faults.payload

        any_valid, shown_valid = Signal(), Signal()
        m.d.comb += [any_valid.eq(Cat(valid).any()), self._fill(stored, fault)]
        # Both a cycle later, so that no record is seen before the event.
        m.d.sync += [self.pending.eq(any_valid), shown_valid.eq(valid[self.index])]
        with m.If(self.clear):
            m.d.sync += valid[self.index].eq(0)
        with m.FSM() as self._states:
            with m.State("ACCEPT"):
                m.d.comb += self.faults.ready.eq(1)
                with m.If(self.faults.valid & ~self.overflow):
                    with m.If(valid[current]):
                        m.d.comb += self.overflow_set.eq(1)
                    with m.Else():
                        m.d.comb += write.eq(1)
                        m.next = "MARK"
                with m.Elif(self.rewind):
                    m.d.sync += current.eq(0)
            with m.State("MARK"):
                m.d.sync += [
                    valid[current].eq(1),
                    current.eq(Mux(self.rewind | (current == records - 1), 0, current + 1)),
                ]
                with m.If(~any_valid):
                    m.d.sync += self.first.eq(current)
                m.next = "ACCEPT"
        m.d.comb += self._show(shown, shown_valid)
        if records == 1:
            with m.If(write):
                m.d.sync += shown.eq(stored)
        else:
            m.submodules.storage = self._storage = storage = memory.Memory(shape=layout, depth=records, init=[])
            write_port, read_port = storage.write_port(), storage.read_port()
            m.d.comb += [
                write_port.en.eq(write),
                write_port.addr.eq(current),
                write_port.data.eq(stored),
                read_port.en.eq(1),
                read_port.addr.eq(self.index),
                shown.eq(read_port.data),
            ]
        return m

    def _fill(self, stored, fault):
        """What is kept of ``fault``; fields of features that are not announced stay 0."""
        pasid_valid = fault.pasid_valid & self._cfg.scalable_mode
        page_request = (fault.address_type == PAGE_REQUEST) & self._cfg.page_requests
        return [
            stored.page.eq(fault.page),
            stored.source_id.eq(fault.source_id),
            stored.t1.eq((fault.access != WRITE) & ~page_request),
            stored.t2.eq((fault.access == ATOMIC) | page_request),
            stored.address_type.eq(Mux(self._cfg.device_tlb & ~page_request, fault.address_type, 0)),
            stored.pasid_valid.eq(pasid_valid),
            stored.pasid.eq(Mux(pasid_valid, fault.pasid, 0)),
            stored.privileged.eq(fault.privileged & pasid_valid),
            stored.execute.eq(
                fault.execute & pasid_valid & ((fault.access == READ) | (fault.access == ZERO_LENGTH_READ))
            ),
            stored.reason.eq(fault.reason),
        ]

    def _show(self, stored, valid):
        """The record as software reads it."""
        return [
            self.record.fi.eq(stored.page),
            self.record.sid.eq(stored.source_id),
            self.record.t1.eq(stored.t1),
            self.record.t2.eq(stored.t2),
            self.record.at.eq(stored.address_type),
            self.record.pp.eq(stored.pasid_valid),
            self.record.pv.eq(stored.pasid),
            self.record.priv.eq(stored.privileged),
            self.record.exe.eq(stored.execute),
            self.record.fr.eq(stored.reason),
            self.record.f.eq(valid),
        ]
