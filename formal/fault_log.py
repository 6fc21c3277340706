"""What the primary fault log promises."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value

from nestwalk.bus.translation import Access, AddressType
from nestwalk.config import IommuConfig
from nestwalk.events.fault_log import FaultLog
from nestwalk.formats.fault import FaultEvent

from .lib import free, held_until_taken, implies, past
from .spec import Mode, Spec, Task

__all__ = ["FaultLogSpec"]


class FaultLogSpec(Spec):
    """A record is complete before its F bit can be read, no fault is lost but to an overflow, and that is always told
    (§1.8.1).

    A fault is dropped exactly when FSTS.PFO is set or the next record is in use, and the latter sets PFO. An
    arbitrary logged fault is followed: from the moment its F bit is set until software clears it, its record reads as
    that fault. Assumed: a fault stays offered until it is taken. The log may be rewound, and records cleared, at any
    time.

    Parameters
    ----------
    cfg : IommuConfig
        With a power of two of records, at least 2.
    """

    TASKS = {
        "prove": Task(Mode.PROVE, 4, "a fault takes two cycles; the records are an invariant"),
        "cover": Task(Mode.COVER, 14, "fill all records, overflow, clear and log again"),
    }

    def __init__(self, task: str, cfg: IommuConfig):
        self._cfg = cfg
        super().__init__(task)

    def specify(self, m: Module):
        self.dut = dut = FaultLog(self._cfg)
        self.expose(m, "dut", dut)
        free(m, dut.faults.valid, dut.faults.payload, dut.overflow, dut.rewind, dut.index, dut.clear)
        accepting, marking = dut._states.ongoing("ACCEPT"), dut._states.ongoing("MARK")
        self.assume(m, "A fault stays offered, unchanged, until it is taken.", held_until_taken(m, dut.faults))
        records = self._cfg.fault_records
        self.assume(m, "Software names records that there are.", dut.index < records)

        in_use = dut._valid[dut._current]
        taken = dut.faults.valid & dut.faults.ready
        logged = taken & ~dut.overflow & ~in_use
        self.claim(m, "A fault waits for at most one cycle.", dut.faults.ready | past(m, dut.faults.ready))
        self.claim(
            m,
            "The overflow is set by a fault that finds the next record in use, and by nothing else.",
            dut.overflow_set == (taken & ~dut.overflow & in_use),
        )
        some = Cat(*dut._valid).any()
        self.claim(m, "Pending means that some record was in use a cycle before.", dut.pending == past(m, some))
        self.claim(m, "No record is seen before the log is pending.", implies(dut.record.f, dut.pending))
        self.claim(m, "The log is in one of its states.", accepting | marking)
        self.claim(m, "The record that is being written is not in use.", implies(marking, ~in_use))
        self.claim(m, "A logged fault is marked in the next cycle.", marking == past(m, logged))
        before = past(m, dut._current)
        follows = dut._current == (before + 1)[: len(before)]
        marked = past(m, marking)
        self.claim(m, "A marked record is in use.", implies(marked, Array(dut._valid)[before]))
        self.claim(m, "Records are used in order.", implies(marked & ~past(m, dut.rewind), follows))
        self.claim(
            m,
            "Only marking and rewinding move on.",
            implies(~marked & ~past(m, dut.rewind), dut._current == before) | self._first_cycle(m),
        )
        self.claim(
            m,
            "The first record is the one that made the log pending.",
            implies(marked & ~past(m, some), dut.first == before),
        )
        self._follow(m, logged, marking)

        self.cover(m, "All records are in use.", Cat(*dut._valid).all())
        self.cover(m, "The log overflows.", dut.overflow_set)
        self.cover(m, "A record is cleared and used again.", marking & past(m, past(m, dut.clear & in_use)))
        self.cover(m, "The log is rewound.", dut.rewind & (dut._current != 0))

    @staticmethod
    def _first_cycle(m):
        running = Signal()
        m.d.sync += running.eq(1)
        return ~running

    def _follow(self, m, logged, marking):
        """Follows one arbitrary logged fault."""
        dut = self.dut
        begin, following, shown = Signal(), Signal(), Signal()
        place, fault = Signal.like(dut._current), Signal(FaultEvent)
        free(m, begin)
        starts = logged & begin & ~following
        cleared = dut.clear & (dut.index == place)
        with m.If(starts):
            m.d.sync += [following.eq(1), shown.eq(0), place.eq(dut._current), fault.eq(dut.faults.payload)]
        with m.Elif(following & ~shown):
            m.d.sync += shown.eq(1)
        with m.Elif(following & cleared):
            m.d.sync += following.eq(0)
        stored = Array(self.platform.rows(dut._storage))[place]
        read = dut.record
        kept = self._kept(fault)
        said = [Value.cast(stored[name]) == value for name, (_, value) in kept.items()]
        shown_as = [Value.cast(read[field]) == value for field, value in kept.values()]
        asked = following & shown & past(m, dut.index == place) & (dut.index == place)
        self.claim(m, "The record in use is the fault that was logged.", implies(following, Cat(said).all()))
        self.claim(
            m, "A logged fault is in use until software clears it.", implies(following & shown, dut._valid[place])
        )
        self.claim(
            m, "A followed fault is being marked.", implies(following & ~shown, marking & (dut._current == place))
        )
        self.claim(
            m,
            "A logged fault can be read, with F.",
            implies(asked & past(m, following & shown), read.f & Cat(shown_as).all()),
        )
        self.claim(m, "Reserved bits of a record read 0.", (read.rsvd0 == 0) & (read.rsvd1 == 0))
        self.cover(m, "A logged fault is read.", asked & past(m, asked))

    def _kept(self, fault):
        """What the log must keep of ``fault`` (§1.8), and the field of the recording register that shows it."""
        access, with_pasid = fault.access, fault.pasid_valid
        page_request = (fault.address_type == AddressType.PAGE_REQUEST) & self._cfg.page_requests
        reads = (access == Access.READ.value) | (access == Access.ZERO_LENGTH_READ.value)
        return {
            "page": ("fi", fault.page[: self.dut._page_bits]),
            "source_id": ("sid", fault.source_id),
            "t1": ("t1", Mux(page_request, 0, access != Access.WRITE.value)),
            "t2": ("t2", Mux(page_request, 1, access == Access.ATOMIC.value)),
            "address_type": ("at", Mux(self._cfg.device_tlb & ~page_request, fault.address_type, 0)),
            "pasid_valid": ("pp", with_pasid),
            "pasid": ("pv", Mux(with_pasid, fault.pasid, 0)),
            "privileged": ("priv", fault.privileged & with_pasid),
            "execute": ("exe", fault.execute & with_pasid & reads),
            "reason": ("fr", Value.cast(fault.reason)),
        }
