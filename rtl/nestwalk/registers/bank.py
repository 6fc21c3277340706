"""The register block that the register table describes, without any behaviour of its own."""

from collections.abc import Iterable, Mapping

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, Signature
from amaranth.utils import exact_log2

from ..bus.arbiter import selected
from ..bus.axi import Axi4LiteSignature, AxiResponse
from ..config import IommuConfig
from .capability import is_announced
from .description import Field, Register
from .table import FAULT_RECORD_OFFSET, IMPLEMENTATION_OFFSET, PERFORMANCE_OFFSET, REGISTERS

__all__ = ["ADDRESS_BITS", "RegisterArraySignature", "RegisterBank", "RegisterSignature"]

ADDRESS_BITS = 12
"""The register block is one page of 4 KiB."""

WORD_BYTES = 8


class RegisterSignature(Signature):
    """The fields of one register under their names in lower case, seen from the bank.

    A field that the bank stores is an output. It comes with an input ``…_set`` when writing 1 clears it (set wins over
    a clear at the same time), or ``…_done`` when it is self-clearing (a new command wins), or ``…_change`` and
    ``…_next`` when hardware changes it, too (a write wins), and with an output ``…_written``, high in the last cycle of
    the old value, when writing it starts something. Other fields are inputs. While the input ``locked`` of a lockable
    register is high, writes have no effect.
    """

    def __init__(self, fields: Iterable[Field], *, lockable: bool = False):
        members = {"locked": In(1)} if lockable else {}
        for field in fields:
            name = field.name.lower()
            if field.attribute.stored:
                members[name] = Out(field.width, init=field.reset)
            else:
                members[name] = In(field.width)
            if field.attribute.write_one_clears:
                members[f"{name}_set"] = In(field.width)
            if field.self_clearing:
                members[f"{name}_done"] = In(1)
            if field.hardware:
                members |= {f"{name}_change": In(1), f"{name}_next": In(field.width)}
            if field.starts:
                members[f"{name}_written"] = Out(1)
        super().__init__(members)


class RegisterArraySignature(Signature):
    """An array of registers of 64 or 128 bits that lives outside the bank, seen from the bank.

    Members: ``read`` pulses for a read of the register ``index``, whose ``value`` is there one cycle later and until
    the index changes, or when ``busy`` falls; ``clear`` tells, for one cycle, the write of 1 to the field of register
    ``index`` that this clears.
    """

    def __init__(self, register: Register):
        super().__init__({"index": Out(8), "read": Out(1), "busy": In(1), "value": In(register.width), "clear": Out(1)})


class RegisterBank(wiring.Component):
    """Registers on AXI4-Lite, made from the register table (§0.3, §1.1).

    ::

        AW, W --> addressed, data, strobe --> fields that software writes
        AR -----> addressed --> word (fields, or an array outside) --> R

    One access at a time: a write takes effect in the cycle after its address and data were accepted, and a read's value
    is taken two cycles after its address, or later while ``hold`` is high. Bytes without strobe are left alone, so that
    64-bit registers can be written in halves. Accesses to nothing read 0 and are OKAY.

    Parameters
    ----------
    cfg : IommuConfig
        Says which fields exist and how many elements an array has.
    registers : mapping of str to Register
        The table.

    Members
    -------
    csr : `Axi4LiteSignature`, in, 64 data bits
    hold : In(1)
        Reads wait, so that what the unit has under way becomes visible first.
    writing : Out(1)
        A write takes effect in this cycle.
    *register* : `RegisterSignature` or `RegisterArraySignature`, out
        One for each register, named in lower case.

    Raises
    ------
    ValueError
        When an array does not fit the page.
    """

    def __init__(self, cfg: IommuConfig, registers: Mapping[str, Register] = REGISTERS):
        self._cfg = cfg
        self._single = [register for register in registers.values() if not register.array]
        self._arrays = [register for register in registers.values() if register.array and self._fields(register)]
        behind = PERFORMANCE_OFFSET if cfg.performance_monitoring else IMPLEMENTATION_OFFSET
        if FAULT_RECORD_OFFSET + 16 * cfg.fault_records > behind:
            raise ValueError(f"{cfg.fault_records} fault records do not fit the page of registers")
        members = {
            register.name.lower(): Out(RegisterSignature(self._fields(register), lockable=register.lockable))
            for register in self._single
        }
        members |= {array.name.lower(): Out(RegisterArraySignature(array)) for array in self._arrays}
        self._word = Signal(ADDRESS_BITS - 3)
        places = [_place(register, field)[0] for register in self._single for field in self._fields(register)]
        self._addressed = {word: Signal(name=f"addressed_{8 * word:03x}") for word in places}
        self._array_addressed = {
            array.name: Signal(_words(array), name=f"addressed_{array.name}") for array in self._arrays
        }
        self._data = Signal(8 * WORD_BYTES)
        self._strobe = Signal(WORD_BYTES)
        self._read, self._write = Signal(), Signal()
        super().__init__(
            {
                "csr": In(Axi4LiteSignature(address_width=ADDRESS_BITS, data_width=8 * WORD_BYTES)),
                "hold": In(1),
                "writing": Out(1),
                **members,
            }
        )

    def _fields(self, register: Register) -> list[Field]:
        return [field for field in register.fields if is_announced(self._cfg, field)]

    def elaborate(self, platform):
        m = Module()
        csr = self.csr
        m.d.comb += [csr.rresp.eq(AxiResponse.OKAY), csr.bresp.eq(AxiResponse.OKAY), self.writing.eq(self._write)]
        self._accesses(m)
        for register in self._single:
            for field in self._fields(register):
                if field.attribute.stored:
                    self._store(m, register, field)
        for array in self._arrays:
            self._connect_array(m, array)
        return m

    def _accesses(self, m: Module):
        """Take one access after the other, reads and writes in turn when both wait."""
        csr = self.csr
        read_next, held = Signal(), Signal()  # what was selected under ``hold`` is selected again
        write_waits, reads = Signal(), Signal()
        m.d.comb += [
            write_waits.eq(csr.awvalid & csr.wvalid),
            reads.eq(csr.arvalid & (read_next | ~write_waits)),
        ]
        with m.FSM():
            with m.State("IDLE"):
                self._address(m, Mux(reads, csr.araddr[3:], csr.awaddr[3:]))
                m.d.sync += [self._data.eq(csr.wdata), self._strobe.eq(csr.wstrb)]
                with m.If(reads):
                    m.d.comb += csr.arready.eq(1)
                    m.d.sync += read_next.eq(0)
                    m.next = "READ"
                with m.Elif(write_waits):
                    m.d.comb += [csr.awready.eq(1), csr.wready.eq(1)]
                    m.d.sync += read_next.eq(1)
                    m.next = "WRITE"
            with m.State("READ"):
                m.d.comb += self._read.eq(1)
                m.next = "SELECT"
            with m.State("SELECT"):
                self._select(m)
                busy = [getattr(self, array.name.lower()).busy for array in self._arrays]
                m.d.sync += held.eq(Cat(self.hold, *busy).any())
                m.next = "HOLD"
            with m.State("HOLD"):
                m.next = "READ_RESPONSE"
                with m.If(held):
                    m.next = "SELECT"
            with m.State("READ_RESPONSE"):
                m.d.comb += csr.rvalid.eq(1)
                with m.If(csr.rready):
                    m.next = "IDLE"
            with m.State("WRITE"):
                m.d.comb += self._write.eq(1)
                m.next = "WRITE_RESPONSE"
            with m.State("WRITE_RESPONSE"):
                m.d.comb += csr.bvalid.eq(1)
                with m.If(csr.bready):
                    m.next = "IDLE"

    def _address(self, m: Module, word: Value):
        """Decode the address of an access: who is addressed is known in the next cycle, one bit for each word."""
        m.d.sync += self._word.eq(word)
        for place, addressed in self._addressed.items():
            m.d.sync += addressed.eq(word == place)
        for array in self._arrays:
            count, parts = array.count(self._cfg.fault_records), _words(array)
            if array.stride:
                addressed = (
                    word.matches(*(_word(array, index) + part for index in range(count))) for part in range(parts)
                )
            else:
                first = _word(array, 0)
                within = (word >= first) & (word < first + parts * count)
                addressed = (within & (word[: parts - 1] == part) for part in range(parts))
            m.d.sync += self._array_addressed[array.name].eq(Cat(addressed))

    def _select(self, m: Module):
        """Take the addressed word's value as read data."""
        words: dict[int, Value] = {}
        for register in self._single:
            for field in self._fields(register):
                if field.attribute.readable:
                    word, low = _place(register, field)
                    words[word] = words.get(word, Const(0)) | self._port(register, field).shift_left(low)
        choices = [(self._addressed[word], value) for word, value in words.items()]
        for array in self._arrays:
            value = getattr(self, array.name.lower()).value
            parts = (value.word_select(part, 64) for part in range(_words(array)))
            choices += zip(self._array_addressed[array.name], parts, strict=True)
        m.d.sync += self.csr.rdata.eq(selected(*zip(*choices, strict=True)))

    def _port(self, register: Register, field: Field, suffix: str = "") -> Signal:
        return getattr(getattr(self, register.name.lower()), field.name.lower() + suffix)

    def _store(self, m: Module, register: Register, field: Field):
        """What writes do to a field that the bank stores."""
        word, low = _place(register, field)
        stored = self._port(register, field)
        written = Signal(name=f"{register.name.lower()}_{field.name.lower()}_written")
        m.d.comb += written.eq(self._write & self._addressed[word])
        if register.lockable:
            m.d.comb += written.eq(self._write & self._addressed[word] & ~getattr(self, register.name.lower()).locked)
        if field.starts:
            m.d.comb += self._port(register, field, "_written").eq(written & self._strobe[low // 8])
        if field.attribute.write_one_clears:
            clear = written & self._strobe[low // 8] & self._data[low]
            m.d.sync += stored.eq(stored & ~clear | self._port(register, field, "_set"))
        elif field.self_clearing:
            with m.If(written & self._strobe[low // 8] & self._data[low]):
                m.d.sync += stored.eq(1)
            with m.Elif(self._port(register, field, "_done")):
                m.d.sync += stored.eq(0)
        else:
            if field.hardware:
                with m.If(self._port(register, field, "_change")):
                    m.d.sync += stored.eq(self._port(register, field, "_next"))
            for byte in range(low // 8, (low + field.width - 1) // 8 + 1):
                first, end = max(low, 8 * byte), min(low + field.width, 8 * byte + 8)
                with m.If(written & self._strobe[byte]):
                    m.d.sync += stored[first - low : end - low].eq(self._data[first:end])

    def _connect_array(self, m: Module, array: Register):
        """Address an array of registers outside the bank, and pass on the clearing of a field."""
        port = getattr(self, array.name.lower())
        within = exact_log2(array.step // WORD_BYTES)
        number = self._word[within:] - (_word(array, 0) >> within)
        m.d.comb += [port.index.eq(number), port.read.eq(self._read & self._array_addressed[array.name].any())]
        for field in array.fields:
            if field.attribute.write_one_clears:
                half, low = divmod(field.low, 8 * WORD_BYTES)
                addressed = self._write & self._array_addressed[array.name][half]
                m.d.comb += port.clear.eq(addressed & self._strobe[low // 8] & self._data[low])


def _word(array: Register, index: int) -> int:
    """Number of the first word of 64 bits of an array's register."""
    return array.place(index) // WORD_BYTES


def _words(array: Register) -> int:
    """Words of 64 bits of each register of an array: 1 or 2."""
    return array.width // (8 * WORD_BYTES)


def _place(register: Register, field: Field) -> tuple[int, int]:
    """Index of the 8-byte word that holds a field, and the field's lowest bit in it."""
    return register.offset // WORD_BYTES, 8 * (register.offset % WORD_BYTES) + field.low
