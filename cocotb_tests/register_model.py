"""The registers of §1 in Python, from the reference's tables alone: what software reads once all it started is over.

Shares neither table nor code with the hardware or the host stack.
"""

from collections import Counter

from nestwalk.config import IommuConfig
from nestwalk_sim.memory import Memory
from nestwalk_sim.model import ModelConfig, Request, UnitState, translate

from .expectations import expected_record
from .queue_model import QueueModel

__all__ = [
    "CCMD",
    "CNTR",
    "CNTRCFG",
    "CPW",
    "ECMD",
    "ECRSP",
    "FSTS",
    "GCMD",
    "GSTS",
    "ICS",
    "ICC",
    "IMPCTL",
    "IOTLB",
    "IQA",
    "IQE",
    "IQH",
    "IQT",
    "IVA",
    "KNOWN",
    "QIE",
    "RTADDR",
    "SRTP",
    "TE",
    "VCMD",
    "RegisterModel",
]

GCMD, GSTS, RTADDR, CCMD, FSTS, FECTL = 0x18, 0x1C, 0x20, 0x28, 0x34, 0x38
IQH, IQT, IQA, ICS, IECTL, IQERCD, IVA, IOTLB = 0x80, 0x88, 0x90, 0x9C, 0xA0, 0xB0, 0xF0, 0xF8
PQH, PQT, PQA, PRS, PECTL = 0xC0, 0xC8, 0xD0, 0xDC, 0xE0
IMPCTL, CPW = 0xC10, 0xC18
PERFINTRSTS, PERFINTRCTL, ECMD, ECRSP, OVFSTS, FRZSTS = 0x324, 0x328, 0x400, 0x410, 0xB08, 0xB00
CNTR, CNTRCFG = (0x800, 0xC00), (0x900, 0xA00)
VCMD, VCMD_EO, VCRSP = 0xE00, 0xE08, 0xE10

ALL = 0xFFFF_FFFF
TE, SRTP, QIE = 1 << 31, 1 << 30, 1 << 26
IM, IP = 1 << 31, 1 << 30
ITE, ICE, IQE, PPF, PFO = 1 << 6, 1 << 5, 1 << 4, 1 << 1, 1 << 0
ICC = IVT = 1 << 31  # of the upper DWORD
F = 1 << 127

EVENT = ((0, IM), (4, 0xFFFF), (8, ALL & ~3), (12, ALL))
"""Offsets from an event's control register, and what software may write there."""

STORED: dict[int, int] = {
    RTADDR: 0xFFFF_FC00, RTADDR + 4: ALL,
    CCMD: 0xFFFF, CCMD + 4: 3 << 29,
    IQT: 0x7_FFF0,
    IQA: 0xFFFF_F807, IQA + 4: ALL,
    IOTLB + 4: 3 << 28 | 3 << 16 | 0xFFFF,
    **{FECTL + offset: bits for offset, bits in EVENT},
    **{IECTL + offset: bits for offset, bits in EVENT},
}  # fmt: skip
"""Writable bits that reads return, of each DWORD."""

PAGE_REQUESTS: dict[int, int] = {
    PQH: 0x7_FFE0,
    PQT: 0x7_FFE0,
    PQA: 0xFFFF_F007, PQA + 4: ALL,
    **{PECTL + offset: bits for offset, bits in EVENT},
}  # fmt: skip
"""The same of a unit that takes page requests."""

PERFORMANCE: dict[int, int] = {
    **{PERFINTRCTL + offset: bits for offset, bits in EVENT},
    **dict.fromkeys(CNTRCFG, 3846),
    **{place + 4: 0xFFF_FFFF for place in CNTRCFG},
}
"""The same of a unit with performance monitoring."""

VIRTUAL_COMMANDS: dict[int, int] = {VCMD: 0xFFFF_00FF, VCMD + 4: ALL, VCMD_EO: ALL, VCMD_EO + 4: ALL}
"""The same of a unit with virtual commands."""

KNOWN = [
    *range(0, 0x48, 4), *range(IQH, 0x100, 4), 0x300, *range(0x310, 0x338, 4), *range(0x380, 0x3A0, 8),
    *range(ECMD, ECRSP + 8, 4), 0x448, *CNTR, *CNTRCFG, CNTRCFG[0] + 4, CNTRCFG[1] + 4, FRZSTS, OVFSTS,
    0xC08, IMPCTL, CPW, *range(VCMD, VCRSP + 8, 4), 0xE30,
]  # fmt: skip
"""Where there are registers, and beside them."""


class _Event:
    """The interrupt of one control register (§1.8.2)."""

    def __init__(self, model: "RegisterModel", offset: int):
        self._model, self._offset = model, offset
        self.pending = self._quiet = False

    def follow(self, condition: bool, status: bool) -> None:
        """Status bits are as they are now: ``condition`` raises the interrupt, unless there was a ``status`` before."""
        if not status:
            self.pending = False
        elif condition and self._quiet:
            self.pending = True
        self._quiet = not status
        control, data, low, high = (self._model.stored[self._offset + 4 * word] for word in range(4))
        if self.pending and not control & IM:
            self.pending = False
            self._model.messages.append(((high << 32 | low) & (1 << self._model.config.haw) - 1, data))


class RegisterModel:
    """Registers of a unit just reset.

    Parameters
    ----------
    config : IommuConfig
    announced : ModelConfig
        The same for the golden model.
    constants : dict of int to int
        Capabilities: 64-bit values by offset.
    own : dict of int to int
        Writable bits of this implementation's own DWORDs.
    memory : Memory
        Where the invalidation queue lies and statuses go; changed as the unit changes it.

    ``messages`` are the event messages so far: address and data. ``fault_records`` is where CAP.FRO has the first
    record.
    """

    def __init__(
        self,
        config: IommuConfig,
        announced: ModelConfig,
        constants: dict[int, int],
        own: dict[int, int],
        memory: Memory,
    ):
        self.config, self._announced, self._memory = config, announced, memory
        self._queue = QueueModel(config, memory)
        halves = ((offset, value, half) for offset, value in constants.items() for half in (0, 1))
        self._constants = {offset + 4 * half: value >> 32 * half & ALL for offset, value, half in halves}
        self._writable = STORED | own | (PAGE_REQUESTS if config.page_requests else {})
        pasids = config.virtual_command_pasids
        if pasids:
            self._writable |= VIRTUAL_COMMANDS
        # Events that counters can count, by group.
        self._groups = [constants.get(0x380 + 8 * group, 0) for group in range(4)]
        self._counts = 0x300 in constants
        if self._counts:
            self._writable |= PERFORMANCE
        self._enabled, self._was_enabled, self._frozen, self._enhanced_status = [False] * 2, [False] * 2, False, 0
        self._free = set(range(1, pasids))
        self._pasids, self._given, self._virtual_response = pasids, 0, 0
        self.stored = dict.fromkeys(self._writable, 0)
        self.stored |= {control: IM for control in (FECTL, IECTL, PECTL, PERFINTRCTL) if control in self.stored}
        if own.get(IMPCTL, 0) & 1:
            self.stored[IMPCTL] = 1
        self._records = [0] * config.fault_records
        self.fault_records = 16 * (constants[0x08] >> 24 & 0x3FF)
        self._next_record = self._first_record = 0
        self._status = self._completed = self._error_code = self._command = 0
        self._root_set = False
        self._version, self._max_address_mask = constants[0x00] >> 4 & 0xF, constants[0x08] >> 48 & 0x3F
        self._address_mask = self._context_done = self._iotlb_done = 0
        self.state = UnitState(False, 0, 0)
        self.messages: list[tuple[int, int]] = []
        self._fault, self._completion = _Event(self, FECTL), _Event(self, IECTL)
        self._follow()

    # --- what software does

    def read(self, offset: int, size: int) -> int:
        """An aligned read of 4 or 8 bytes."""
        return sum(self._dword(offset + at) << 8 * at for at in range(0, size, 4))

    def write(self, offset: int, size: int, value: int) -> None:
        """An aligned write of 4 or 8 bytes, and what it starts."""
        dwords = {offset + at: value >> 8 * at & ALL for at in range(0, size, 4)}
        for place, dword in dwords.items():
            writable = self._writable.get(place, 0)
            locked = any(place in (first, first + 4) and self._enabled[n] for n, first in enumerate(CNTRCFG))
            if writable and not locked:
                self.stored[place] = self.stored[place] & ~writable | dword & writable
        for place, dword in dwords.items():
            self._clear(place, dword)
        self._follow()
        self._invalidate(dwords)
        if GCMD in dwords:
            self._give(dwords[GCMD])
        if self._counts and ECMD in dwords:
            self._give_enhanced(dwords[ECMD])
        if self._pasids and VCMD in dwords:
            self._give_virtually()
        self._run_queue()

    def request(self, request: Request) -> None:
        """A device asks; its fault is recorded (§1.8.1)."""
        result = translate(self._memory, self.state, self._announced, request)
        record = expected_record(request, result)
        if record is None or self._status & PFO:
            return
        if self._records[self._next_record] & F:
            self._status |= PFO
        else:
            if not self._pending:
                self._first_record = self._next_record
            self._records[self._next_record] = record
            self._next_record = (self._next_record + 1) % len(self._records)
        self._follow()

    def meaningless(self, offset: int, size: int) -> int:
        """Bits of `read` that have no meaning now: what their valid bit does not cover."""
        return sum(self._undefined(offset + at) << 8 * at for at in range(0, size, 4))

    @property
    def lines(self) -> tuple[bool, ...]:
        """Levels of the interrupt wires: fault, invalidation and page request, which nothing raises here."""
        fault = self._pending or bool(self._status & (IQE | ICE | ITE))
        return fault and not self.stored[FECTL] & IM, bool(self._completed) and not self.stored[IECTL] & IM, False

    # --- reading

    @property
    def _pending(self) -> bool:
        """PPF."""
        return any(record & F for record in self._records)

    def _dword(self, place: int) -> int:
        if place in self._constants:
            return self._constants[place]
        record, word = divmod(place - self.fault_records, 16)
        if 0 <= record < len(self._records):
            return self._records[record] >> 8 * word & ALL
        special = {
            CCMD + 4: self.stored[CCMD + 4] | self._context_done << 27,
            GSTS: self._command & (TE | QIE) | self._root_set * SRTP,
            FSTS: self._status | self._pending * PPF | self._first_record << 8,
            FECTL: self.stored[FECTL] | self._fault.pending * IP,
            IQH: self._queue.head << 4,
            ICS: self._completed,
            IECTL: self.stored[IECTL] | self._completion.pending * IP,
            IQERCD: self._error_code,
            ECRSP: self._enhanced_status << 1,
            FRZSTS: 3 * self._frozen,
            **{first: self.stored.get(first, 0) | self._enabled[n] for n, first in enumerate(CNTRCFG)},
            VCRSP: self._virtual_response & ALL,
            VCRSP + 4: self._virtual_response >> 32,
            IOTLB + 4: self.stored[IOTLB + 4] | self._iotlb_done << 25,
        }
        return special[place] if place in special else self.stored.get(place, 0)

    def _undefined(self, place: int) -> int:
        record, word = divmod(place - self.fault_records, 16)
        if 0 <= record < len(self._records) and not self._records[record] & F:
            return ALL >> (word == 12)
        for first, was_enabled in zip(CNTR, self._was_enabled, strict=True):
            if place in (first, first + 4):
                return was_enabled * (ALL if place == first else 0xFFFF)
        valid = {FSTS: (self._pending, 0xFF00), IQERCD: (self._status & IQE, 0xF)}
        known, bits = valid.get(place, (True, 0))
        return 0 if known else bits

    # --- writing

    def _clear(self, place: int, dword: int) -> None:
        """Bits that writing 1 clears."""
        if place == FSTS:
            self._status &= ~dword
        elif place == ICS:
            self._completed &= ~dword
        record, word = divmod(place - self.fault_records, 16)
        if 0 <= record < len(self._records) and word == 12 and dword >> 31:
            self._records[record] &= ~F

    def _invalidate(self, dwords: dict[int, int]) -> None:
        """Register-based invalidation (§1.7): done as asked for in legacy mode and before version 6, else refused."""
        allowed = self._version < 6 and self.state.ttm == 0
        if IVA in dwords:
            self._address_mask = dwords[IVA] & 0x3F
        if dwords.get(CCMD + 4, 0) & ICC:
            self._context_done = self.stored[CCMD + 4] >> 29 & 3 if allowed else 0
        if dwords.get(IOTLB + 4, 0) & IVT:
            asked = self.stored[IOTLB + 4] >> 28 & 3
            self._iotlb_done = asked if allowed and (asked != 3 or self._address_mask <= self._max_address_mask) else 0

    def _give(self, command: int) -> None:
        """A global command (§1.5.2)."""
        if command & SRTP:
            root_table = self.stored[RTADDR + 4] << 32 | self.stored[RTADDR]
            self.state = UnitState(
                self.state.translation_enabled, root_table & (1 << self.config.haw) - 0x1000, root_table >> 10 & 3
            )
            self._root_set = True
        if not command & TE:
            self._next_record = 0
        if not command & QIE:
            self._queue.head = 0
        self.state = self.state._replace(translation_enabled=bool(command & TE))
        self._command = command

    def _give_enhanced(self, command: int) -> None:
        """An enhanced command (§1.16); no counter lives long enough to overflow."""
        number, counter = command & 0xFF, command >> 16
        self._enhanced_status = 0
        if number in (240, 241):
            if counter >= 2 or (number == 240 and not self._countable(CNTRCFG[counter])):
                self._enhanced_status = 16
                return
            self._enabled[counter] = number == 240
            self._was_enabled[counter] |= number == 240
        elif number in (244, 245):
            self._frozen = number == 244
        else:
            self._enhanced_status = 1

    def _countable(self, place: int) -> bool:
        """Whether a configuration is one of this unit."""
        low, selected = self.stored[place], self.stored[place + 4]
        group = low >> 8 & 0xF
        there = self._groups[group] if group < 4 else 0
        return there != 0 and not selected & ~there and not low & 4

    def _give_virtually(self) -> None:
        """A virtual command (§1.18): the free PASID is taken that comes first behind the 32 of the last one's word."""
        command, operand = self.stored[VCMD] & 0xFF, (self.stored[VCMD + 4] << 16 | self.stored[VCMD] >> 16) & 0xFFFFF
        status, result = 1, 0
        if command == 1:
            status = 0 if self._free else 16
            if self._free:
                result = min(self._free, key=lambda pasid: (pasid - (self._given & ~31)) % self._pasids)
                self._free.remove(result)
                self._given = result
        elif command == 2:
            status = 0 if 0 < operand < self._pasids and operand not in self._free else 16
            if status == 0:
                self._free.add(operand)
        self._virtual_response = result << 16 | status << 1

    def _follow(self) -> None:
        """Let the events see their status."""
        condition = self._pending or bool(self._status & (IQE | ICE | ITE))
        self._fault.follow(condition, condition or bool(self._status))
        self._completion.follow(bool(self._completed), bool(self._completed))

    def _run_queue(self) -> None:
        """Execute what is queued, up to an error (§5.1)."""
        queue = self._queue
        queue.address, queue.tail = self.stored[IQA + 4] << 32 | self.stored[IQA], self.stored[IQT]
        queue.mode = self.state.ttm
        while self._command & QIE and not self._status & (IQE | ITE) and not queue.empty:
            error = queue.step()
            if error:
                self._error_code = error
                self._status |= IQE
            self._completed |= queue.interrupts
            self._follow()

    @property
    def seen(self) -> Counter[tuple[int, ...]]:
        """Descriptors of all kinds, see `QueueModel`."""
        return self._queue.seen
