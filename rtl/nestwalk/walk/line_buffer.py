"""The line buffer: paging entries that came with the 64 bytes of an earlier read."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..bus.axi import AxiResponse
from ..bus.memory import MemoryRead, MemoryReadData
from ..bus.one_hot import one_hot
from ..bus.queue import Queue
from ..config import IommuConfig
from .line_layouts import LOG2_LINE, PIECES, Arriving, Awaited, BufferedEntry, Compared, HeldRead, Sought
from .line_worth import LineWorth

__all__ = ["LineBuffer"]


class LineBuffer(wiring.Component):
    """Holds reads until memory takes them, and answers those of entries whose line it has.

    ::

        candidate ─┬> [tags, lines: block RAM] ──> compare ──> decide ─┬─ hit ──> hit
        waiting ───┘                                  │                ├─ line under ──> waiting
                                                      │                │  way
                                                      │                v miss
        read ──────────────────────────────────────> [read] ──────> Queue ──> request
                                                       └─ if nothing is like it ─^
                                                  line (4 pieces, the one with the entry first)
        data ──> first piece: shown; all of them ──> [lines] ──last──> valid

    The look-up runs beside the walk's step: the candidate is looked up while the step looks at the entry before, and
    compared while it decides. The read that follows from that is held for a cycle, in which hit or miss is decided;
    one that resembles no line is on ``request`` in this cycle already, so that a read that misses goes out no later.
    A read that misses brings its whole line if lines are worth it (`LineWorth`) or pages are fetched ahead. The
    line becomes valid one cycle after its last piece, unless a piece failed, ``flush`` was high or another read took
    its place meanwhile. The line of a slot whose former line is still arriving is not kept, nor is what an overtaken
    walk reads: when that has ended it may be no table any more.

    A read whose line another slot is reading waits for that and is looked up once more, in a cycle without a candidate;
    if the line has not become valid it goes to memory after all. One that is found while the hit before it has not been
    taken yet waits in the same way.

    Half of the lines are for entries of each stage, so that a walk's two last entries never compete; each half is
    direct-mapped. An entry is as old as its line: whoever uses it must be content with any value since the last
    ``flush``, or read it ``again``.

    Parameters
    ----------
    cfg : IommuConfig
        With ``line_buffer_lines``.

    Attributes
    ----------
    candidate_valid : In(1)
        An entry may be wanted next. Without it, what waits may be looked up.
    candidate : In(haw)
        Its address.
    candidate_second : In(1)
        It is a second-stage entry.
    read : In(stream of MemoryRead)
        Never refused, a slot has one read outstanding.
    ahead : In(1)
        ``read`` is for a prefetch.
    wanted : In(1)
        ``read`` is that of the candidate of the cycle before, and a line may answer it.
    again : In(1)
        ``read`` is that of the last entry that its slot ``wanted``, from memory; its address means nothing.
    request : Out(stream of MemoryRead)
    data : In(stream of MemoryReadData)
    shown : Out(1)
        In the same cycle: ``data``, if of a paging entry, is what was asked for, and not a further piece of its line.
    hit : Out(stream of BufferedEntry)
        Two cycles after its read at the earliest.
    overtaken : In(walk_slots)
        Slots whose walks began under tables that an invalidation has ended.
    flush : In(1)
        Forget all lines, those that are under way too.
    looked_up, waited, found, filled : Out(1)
        Pulses for counters: ``found`` follows later for who ``waited``, if at all.
    """

    def __init__(self, cfg: IommuConfig):
        self.cfg = cfg
        self._lines = cfg.line_buffer_lines
        self._index_bits = exact_log2(self._lines)
        super().__init__(
            {
                "candidate_valid": In(1),
                "candidate": In(cfg.haw),
                "candidate_second": In(1),
                "read": In(stream.Signature(MemoryRead(cfg))),
                "ahead": In(1),
                "wanted": In(1),
                "again": In(1),
                "overtaken": In(cfg.walk_slots),
                "request": Out(stream.Signature(MemoryRead(cfg))),
                "data": In(stream.Signature(MemoryReadData(cfg), always_ready=True)),
                "shown": Out(1),
                "hit": Out(stream.Signature(BufferedEntry(cfg))),
                "flush": In(1),
                "looked_up": Out(1),
                "waited": Out(1),
                "found": Out(1),
                "filled": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        slots = self.cfg.walk_slots
        # What a row returns that is written in the same cycle is undefined; such a line is not valid.
        block = {"init": [], "attrs": {"no_rw_check": 1}}
        m.submodules.tags = self._tags = memory.Memory(shape=self.cfg.haw - LOG2_LINE, depth=self._lines, **block)
        self._halves = [memory.Memory(shape=64, depth=self._lines * PIECES, **block) for _ in range(2)]
        m.submodules.lower, m.submodules.upper = self._halves
        m.submodules.owners = self._owners = memory.Memory(shape=range(slots), depth=self._lines, init=[])
        self._valid = Signal(self._lines)
        self._arriving, self._stale, self._under_way = Signal(slots), Signal(slots), Signal(slots)
        # The latest read that missed, and whether it takes a place, one cycle later.
        self._missed, self._takes, self._took = Signal(), Signal(), Signal(2)
        self._miss = Signal(Sought(self.cfg), reset_less=True)
        # A look-up, one cycle after comparing.
        self._read, self._sought = Signal(HeldRead(self.cfg)), Signal(Sought(self.cfg), reset_less=True)
        self._compared = Signal(Compared(self.cfg), reset_less=True)
        self._retries, self._retry_ends = Signal(), Signal()
        m.submodules.worth = self._worth = worth = LineWorth()
        m.d.comb += [
            worth.looked_up.eq(self.looked_up),
            worth.found.eq(self.found),
            worth.brought.eq(self._takes),
        ]
        self._offer_again(m)
        self._look_up(m)
        self._compare(m)
        self._decide(m)
        self._join(m)
        self._send(m)
        self._take_place(m)
        self._arrive(m)
        return m

    def _index(self, address: Value, second: Value) -> Value:
        """The line's place: neighbours in a table have neighbouring ones, tables do not all begin at the same."""
        line = address[LOG2_LINE:]
        bits = self._index_bits - 1
        return Cat(line[:bits] ^ line[6 : 6 + bits], second)

    def _offer_again(self, m: Module):
        """Go through the slots, and offer one whose awaited line is no longer under way."""
        cfg = self.cfg
        slots = range(cfg.walk_slots)
        m.submodules.last = self._last = memory.Memory(shape=cfg.haw - 3, depth=cfg.walk_slots, init=[])
        m.submodules.awaited = self._awaited = memory.Memory(shape=Awaited(cfg), depth=cfg.walk_slots, init=[])
        turn, last, awaited = Signal(slots), self._last.read_port(domain="comb"), self._awaited.read_port(domain="comb")
        self._parked = Signal(cfg.walk_slots)
        self._offered, self._offered_slot = Signal(), Signal(slots, reset_less=True)
        self._offered_address = Signal(cfg.haw - 3, reset_less=True)
        self._offered_place = Signal(self._index_bits, reset_less=True)
        ready = self._parked.bit_select(turn, 1) & ~self._under_way.bit_select(awaited.data.owner, 1)
        m.d.comb += [last.addr.eq(turn), awaited.addr.eq(turn)]
        # One that is offered stays so until its look-up has been of use.
        with m.If(~self._offered):
            m.d.sync += [
                turn.eq(turn + 1),
                self._offered.eq(ready),
                self._offered_slot.eq(turn),
                self._offered_address.eq(last.data),
                self._offered_place.eq(awaited.data.place),
            ]
        with m.Elif(self._retry_ends):
            m.d.sync += self._offered.eq(0)
        # It is looked up once at a time.
        m.d.sync += self._retries.eq(self._offered & ~self.candidate_valid & ~self._retries & ~self._read.retries)

    def _look_up(self, m: Module):
        """Read the line of the candidate, or of a read that waits for one."""
        index, address = Signal(self._index_bits), Signal(self.cfg.haw - 3)
        m.d.comb += [
            index.eq(
                Mux(self.candidate_valid, self._index(self.candidate, self.candidate_second), self._offered_place)
            ),
            address.eq(Mux(self.candidate_valid, self.candidate[3:], self._offered_address)),
        ]
        # The output registers of the RAM are registers of ours: so the tools heed ``no_rw_check``.
        tag_port, ports = self._tags.read_port(domain="comb"), [half.read_port(domain="comb") for half in self._halves]
        self._tag, self._pieces = Signal(self.cfg.haw - LOG2_LINE, reset_less=True), []
        m.d.comb += tag_port.addr.eq(index)
        m.d.sync += self._tag.eq(tag_port.data)
        self._reading = Signal.like(self._under_way)
        m.d.sync += self._reading.eq(self._under_way & ~self._stale)
        for port, name in zip(ports, ("lower", "upper"), strict=True):
            piece = Signal(64, name=name, reset_less=True)
            self._pieces.append(piece)
            m.d.comb += port.addr.eq(Cat(address[1:3], index))
            m.d.sync += piece.eq(port.data)
        self._address = Signal(self.cfg.haw - 3, reset_less=True)  # of what is looked up, in entries
        self._place = Signal(self._index_bits, reset_less=True)
        m.d.sync += [self._address.eq(address), self._place.eq(index)]

    def _compare(self, m: Module):
        """Beside the walk's decision: keep its read, and what the line that was looked up is."""
        cfg, tag, line = self.cfg, self._tag, self._address[LOG2_LINE - 3 :]
        asker, retries, before, latest = Signal(range(cfg.walk_slots)), Signal(), Signal(), Signal()
        owner = self._owners.read_port(domain="comb")
        last = self._last.write_port()
        read, sought, compared, miss = self._read, self._sought, self._compared, self._miss
        m.d.comb += [
            # What the walk reads now comes first.
            retries.eq(self._retries & ~self.read.valid),
            asker.eq(Mux(retries, self._offered_slot, self.read.payload.id)),
            owner.addr.eq(self._place),
            before.eq((sought.line == line) & (sought.place == self._place)),
            # The row of the place that was taken last may have been read too early.
            latest.eq((miss.line == line) & (miss.place == self._place)),
            self.read.ready.eq(1),
            last.addr.eq(self.read.payload.id),
            last.data.eq(self._address),
            last.en.eq(self.read.valid & self.wanted),
        ]
        m.d.sync += [
            read.valid.eq(self.read.valid | retries),
            read.retries.eq(retries),
            read.wanted.eq(self.read.valid & self.wanted),
            read.again.eq(self.again & ~retries),
            read.read.eq(self.read.payload),
            read.plain.eq(~(self.wanted | retries)),
            read.whole.eq(retries | self.ahead | self._worth.brings),
            sought.slot.eq(asker),
            sought.place.eq(self._place),
            sought.first.eq(self._address[1:3]),
            sought.line.eq(line),
            compared.same.eq(Cat((tag[bit:][:8] == line[bit:][:8]) for bit in range(0, len(line), 8))),
            compared.valid.eq(self._valid.bit_select(self._place, 1)),
            compared.before.eq(before),
            compared.new.eq(~before & ~latest),
            compared.latest.eq(latest),
            compared.owner.eq(Mux(latest, miss.slot, owner.data)),
            compared.arrives.eq(
                Mux(latest, self._missed | self._took[0] | self._reads_line(miss.slot), self._reads_line(owner.data))
            ),
            compared.value.eq(Mux(self._address[0], *reversed(self._pieces))),
        ]
        with m.If(retries):
            m.d.sync += [read.read.id.eq(self._offered_slot), read.read.address.eq(Cat(C(0, 3), self._address))]

    def _reads_line(self, slot: Value) -> Value:
        """Whether ``slot`` read a line a cycle ago that will be valid."""
        return self._reading.bit_select(slot, 1)

    def _decide(self, m: Module):
        """One cycle after comparing: a hit is kept until the walk takes it."""
        read, compared = self._read, self._compared
        held, hit = Signal(), Signal(BufferedEntry(self.cfg), reset_less=True)
        # What is taken in this cycle makes room in the next: that is known late.
        self._there, self._of_line, room = Signal(), Signal(), ~held
        asks = read.wanted | read.retries
        m.d.comb += [
            self.looked_up.eq(read.wanted),
            self._of_line.eq(read.whole & ~read.plain),
            self._there.eq(compared.same.all() & compared.valid),
            self.found.eq(asks & self._there & room),
            self._retry_ends.eq(read.retries & (room | ~self._there)),
            self.hit.valid.eq(held),
            self.hit.payload.eq(hit),
        ]
        with m.If(self.hit.ready):
            m.d.sync += held.eq(0)
        with m.If(room):
            m.d.sync += [held.eq(self.found), hit.slot.eq(self._sought.slot), hit.value.eq(compared.value)]

    def _join(self, m: Module):
        """Wait for a line that another slot reads, but not a second time."""
        compared, awaited, follows = self._compared, self._awaited.write_port(), Signal()
        like = compared.latest | compared.same.all()
        m.d.comb += [
            # Whoever missed in the cycle before is taken to read its line; if not, nothing but time is lost.
            follows.eq(self._missed & compared.before),
            # One that is there, while another hit is held, is found in a moment.
            self.waited.eq(
                self._read.wanted & (follows | (like & compared.arrives) | self._there) & ~self.found & ~self.flush
            ),
            awaited.addr.eq(self._sought.slot),
            awaited.data.place.eq(self._sought.place),
            awaited.data.owner.eq(Mux(follows, self._miss.slot, compared.owner)),
            awaited.en.eq(self.waited),
        ]
        with m.If(self.waited):
            m.d.sync += self._parked.bit_select(self._sought.slot, 1).eq(1)
        with m.If(self._retry_ends):
            m.d.sync += self._parked.bit_select(self._offered_slot, 1).eq(0)

    def _send(self, m: Module):
        """To memory goes what is no hit and waits for no line: at once if that is plain to see."""
        cfg, read, compared = self.cfg, self._read, self._compared
        m.submodules.queue = queue = Queue(MemoryRead(cfg), cfg.walk_slots, refuses=False)
        last, held, direct, lost = self._last.read_port(domain="comb"), read.read, Signal(), Signal()
        enters = queue.i.payload
        m.d.comb += [
            last.addr.eq(held.id),
            enters.eq(held),
            enters.line.eq(self._of_line),
            enters.size.eq(Mux(self._of_line, LOG2_LINE, held.size)),
            enters.address.eq(Mux(read.again, Cat(C(0, 3), last.data), held.address)),
            # A few bits of the address tell most lines apart.
            direct.eq(read.valid & (read.plain | (compared.new & ~compared.same[:2].all()))),
            lost.eq(self.found | self.waited | (read.retries & ~self._retry_ends)),
            self.request.valid.eq(queue.o.valid | direct),
            self.request.payload.eq(Mux(queue.o.valid, Value.cast(queue.o.payload), Value.cast(enters))),
            queue.o.ready.eq(self.request.ready),
            queue.i.valid.eq(read.valid & ~lost & ~(direct & ~queue.o.valid & self.request.ready)),
        ]

    def _take_place(self, m: Module):
        """Give a line's place to the read that missed; who was about to fill it gives up."""
        cfg = self.cfg
        slots = range(cfg.walk_slots)
        read, miss, takes, evicts = self._read, self._miss, self._takes, Signal()
        was_valid, took = Signal(), self._took
        m.submodules.places = places = memory.Memory(shape=self._index_bits + 2, depth=cfg.walk_slots, init=[])
        owner, owns, starts = self._owners.read_port(domain="comb"), self._owners.write_port(), places.write_port()
        tag = self._tags.write_port()
        misses = (read.wanted | self._retry_ends) & ~self.found & ~self.waited & read.whole
        keeps = ~(self._arriving | self.overtaken).bit_select(self._sought.slot, 1)
        m.d.sync += [
            self._missed.eq(misses),
            takes.eq(misses & keeps),
            was_valid.eq(self._compared.valid),
            took.eq(Cat(takes, took)),
        ]
        with m.If(misses):
            m.d.sync += miss.eq(self._sought)
        m.d.comb += [
            # A place taken since the comparison was valid until then.
            evicts.eq(takes & (~was_valid | took.any())),
            owner.addr.eq(miss.place),
            owns.addr.eq(miss.place),
            owns.data.eq(miss.slot),
            tag.addr.eq(miss.place),
            tag.data.eq(miss.line),
            starts.addr.eq(miss.slot),
            starts.data.eq(Cat(miss.first, miss.place)),
            *(port.en.eq(takes) for port in (owns, tag, starts)),
        ]
        own, other = one_hot(m, miss.slot, self._missed, len(slots)), one_hot(m, owner.data, evicts, len(slots))
        for number in slots:
            with m.If(takes & own[number]):
                m.d.sync += self._under_way[number].eq(1)
            with m.If(self.flush):
                m.d.sync += self._stale[number].eq(1)
            with m.Elif(own[number]):
                m.d.sync += self._stale[number].eq(~takes)
            with m.Elif(other[number]):
                m.d.sync += self._stale[number].eq(1)
        self._place_of = places.read_port(domain="comb")

    def _arrive(self, m: Module):
        """Store the pieces of lines; the last one makes its line valid."""
        cfg, piece = self.cfg, self.data.payload
        slot = piece.id[: Signal(range(cfg.walk_slots)).shape().width]
        m.submodules.arrivals = arrivals = memory.Memory(shape=Arriving(), depth=cfg.walk_slots, init=[])
        before, after = arrivals.read_port(domain="comb"), arrivals.write_port()
        goes_on, of_line, number, failed = Signal(), Signal(), Signal(exact_log2(PIECES)), Signal()
        error = (piece.response == AxiResponse.SLVERR) | (piece.response == AxiResponse.DECERR)
        fresh, of_entry = ~self._stale.bit_select(slot, 1), piece.id < cfg.walk_slots
        # From the fastest memory the first piece comes before the line has its place.
        early = ~self._under_way.bit_select(slot, 1)
        first, place = self._place_of.data[:2], self._place_of.data[2:]
        # Within a line pieces go round; those of a 256-bit beat stay together.
        position = first ^ number if cfg.mem_data_width == 256 else (first + number)[:2]
        m.d.comb += [
            goes_on.eq(self._arriving.bit_select(slot, 1)),
            of_line.eq(self.data.valid & of_entry & (goes_on | ~piece.last)),
            self.shown.eq(~goes_on),
            before.addr.eq(slot),
            number.eq(Mux(goes_on, before.data.pieces, 0)),
            failed.eq(error | early | (goes_on & before.data.failed)),
            after.addr.eq(slot),
            after.data.pieces.eq(number + 1),
            after.data.failed.eq(failed),
            after.en.eq(of_line),
            self._place_of.addr.eq(slot),
        ]
        for one, arrives in enumerate(one_hot(m, slot, of_line, cfg.walk_slots)):
            with m.If(arrives):
                m.d.sync += self._arriving[one].eq(~piece.last)
                with m.If(piece.last):
                    m.d.sync += self._under_way[one].eq(0)
        for number_of_half, half in enumerate(self._halves):
            write = half.write_port()
            m.d.comb += [
                write.addr.eq(Cat(position, place)),
                write.data.eq(piece.data.word_select(number_of_half, 64)),
                write.en.eq(of_line & fresh & ~early),
            ]
        self._complete(m, of_line & piece.last, fresh & ~failed, slot, place)

    def _complete(self, m: Module, ends: Value, whole: Value, slot: Value, place: Value):
        """A cycle later, when a look-up that is compared has read the last piece too."""
        ended, is_whole, whose = Signal(), Signal(), Signal(range(self.cfg.walk_slots), reset_less=True)
        filled_place = Signal(self._index_bits, reset_less=True)
        m.d.sync += [ended.eq(ends), is_whole.eq(whole), whose.eq(slot), filled_place.eq(place)]
        # One line changes at a time: one that ends as another's place is taken is not kept.
        changes, place = Signal(), Signal(self._index_bits)
        m.d.comb += [
            self.filled.eq(ended & is_whole & ~self._stale.bit_select(whose, 1) & ~self._takes & ~self.flush),
            changes.eq(self._takes | self.filled),
            place.eq(Mux(self._takes, self._miss.place, filled_place)),
        ]
        for line, change in enumerate(one_hot(m, place, changes, self._lines)):
            with m.If(change):
                m.d.sync += self._valid[line].eq(~self._takes)
            with m.If(self.flush):
                m.d.sync += self._valid[line].eq(0)
