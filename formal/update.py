"""What the setting of accessed and dirty bits promises."""

from amaranth.hdl import Module, Mux, Signal

from nestwalk.bus.axi import AxiResponse
from nestwalk.bus.memory import MemoryIds
from nestwalk.config import IommuConfig
from nestwalk.walk.update import MAX_TRIES, EntryUpdate, settable_bits

from .lib import free, held_until_taken, implies, past
from .queue import knows_its_level
from .spec import Mode, Spec, Task

__all__ = ["EntryUpdateSpec"]


class EntryUpdateSpec(Spec):
    """An entry is written only as the second half of an exclusive pair whose first half read what was expected (§3.8).

    What is written is the entry that was read with the bits of the mask set, at the address that was read. An answer
    without ``failed`` says what the entry is: as read, if that is not what was expected, or as written, if memory
    confirmed it. ``failed`` is answered when the memory has no monitor or an error, and after `MAX_TRIES` writes that
    lost. Assumed: a request names an aligned entry and accessed and dirty bits, and stays offered until it is taken;
    memory answers only what it was asked, with any data and response.

    Parameters
    ----------
    cfg : IommuConfig
    """

    TASKS = {
        "prove": Task(Mode.PROVE, 4, "where a pair stands is an invariant"),
        "cover": Task(Mode.COVER, 24, "an update that loses once and then succeeds, and another that fails"),
    }

    def __init__(self, task: str, cfg: IommuConfig):
        self._cfg = cfg
        super().__init__(task)

    def specify(self, m: Module):
        self.dut = dut = EntryUpdate(self._cfg)
        self.expose(m, "dut", dut)
        read, write, done = dut.read.request, dut.write.request, dut.write.done
        data = dut.read.data
        free(m, dut.request.valid, dut.request.payload, dut.response.ready, read.ready, write.ready)
        free(m, data.valid, data.payload, done.valid, done.payload)
        self.assume(m, "A request stays offered, unchanged, until it is taken.", held_until_taken(m, dut.request))

        asked = dut.request
        rest = ~sum(1 << bit for bit in settable_bits(self._cfg))
        self.assume(m, "Entries are aligned.", implies(asked.valid, asked.p.address[:3] == 0))
        self.assume(m, "Only accessed and dirty bits are set.", implies(asked.valid, (asked.p.mask & rest) == 0))

        # Where the pair stands, from what passes at the ports.
        reading, have_read, writing, written = Signal(), Signal(), Signal(), Signal()
        entry, came = Signal(64), data.p.data.word_select(read.p.address[3], 64)
        reply, tries = Signal(AxiResponse), Signal(range(MAX_TRIES + 2))
        asks, asked_write = read.valid & read.ready, write.valid & write.ready
        answers = dut.response.valid & dut.response.ready
        self.assume(m, "Memory returns data only for a read.", implies(data.valid, reading))
        self.assume(m, "Memory confirms only a write.", implies(done.valid, writing))
        with m.If(asks):
            m.d.sync += [reading.eq(1), have_read.eq(0), written.eq(0)]
        with m.If(data.valid):
            m.d.sync += [reading.eq(0), have_read.eq(1), entry.eq(came), reply.eq(data.p.response)]
        with m.If(asked_write):
            m.d.sync += writing.eq(1)
        with m.If(done.valid):
            m.d.sync += [writing.eq(0), written.eq(1), reply.eq(done.p.response), tries.eq(tries + 1)]
        with m.If(answers):
            m.d.sync += [have_read.eq(0), written.eq(0), tries.eq(0)]

        request = dut._request
        offered = dut._queue.o.valid
        matches = have_read & (entry == request.expected)
        user = MemoryIds(self._cfg).update
        self._requests(m, request, user)
        self.claim(
            m,
            "Reads and writes are made for a request.",
            implies(read.valid | write.valid | dut.response.valid, offered),
        )
        self.claim(
            m,
            "One access at a time.",
            ~(reading & (writing | read.valid | write.valid)) & ~(writing & (read.valid | write.valid)),
        )
        self.claim(
            m,
            "Only an entry that was read exclusively as expected is written.",
            implies(write.valid, matches & ~written & (reply == AxiResponse.EXOKAY)),
        )
        self.claim(
            m,
            "What is written is the entry with the bits of the mask set.",
            implies(write.valid, write.p.data == (entry | request.mask)),
        )
        lost = written & (reply == AxiResponse.OKAY)
        self._answer(m, request, entry, matches, have_read, written, reply, lost, tries)
        self.claim(m, "A pair is tried again only when its write lost.", implies(asks, ~have_read | lost))
        self.claim(m, "At most MAX_TRIES writes are made.", tries <= MAX_TRIES)
        self._invariants(m, reading, have_read, writing, written, reply, tries, matches, entry, request, lost)

        self.cover(m, "Bits are set.", answers & written & ~dut.response.p.failed)
        self.cover(m, "An entry has changed.", answers & have_read & ~written & ~dut.response.p.failed)
        self.cover(
            m, "A write loses and the next one succeeds.", answers & written & ~dut.response.p.failed & (tries == 2)
        )
        self.cover(m, "Memory has no monitor.", answers & ~written & dut.response.p.failed)
        self.cover(m, "A second request follows the first.", asks & past(m, answers))

    def _requests(self, m, request, user):
        """What is on the memory port."""
        for name, port in (("read", self.dut.read.request), ("write", self.dut.write.request)):
            pays = port.p
            self.claim(
                m,
                f"Each {name} is an exclusive one of 8 bytes at the entry.",
                implies(
                    port.valid,
                    pays.exclusive & (pays.size == 3) & (pays.id == user) & (pays.address == request.address),
                ),
            )
            self.claim(m, f"A {name} that was offered stays until it is taken.", held_until_taken(m, port))
        self.claim(m, "An answer stays until it is taken.", held_until_taken(m, self.dut.response))

    def _answer(self, m, request, entry, matches, have_read, written, reply, lost, tries):
        response = self.dut.response
        known = Mux(written, entry | request.mask, entry)
        self.claim(m, "An answer comes after a read.", implies(response.valid, have_read))
        self.claim(
            m, "An answer names the walk of its request.", implies(response.valid, response.p.slot == request.slot)
        )
        self.claim(
            m,
            "An answer that has not failed says what the entry is.",
            implies(response.valid & ~response.p.failed, (response.p.data == known) & (reply == AxiResponse.EXOKAY)),
        )
        self.claim(
            m,
            "An answer without a write says that the entry had changed or could not be read.",
            implies(response.valid & ~written, ~matches | (reply != AxiResponse.EXOKAY)),
        )
        self.claim(
            m,
            "An update fails for want of a monitor, for an error, and after the last try, and for nothing else.",
            implies(response.valid, response.p.failed == (reply != AxiResponse.EXOKAY)),
        )
        self.claim(
            m, "A write that lost fails only after the last try.", implies(response.valid & lost, tries == MAX_TRIES)
        )

    def _invariants(self, m, reading, have_read, writing, written, reply, tries, matches, entry, request, lost):
        """Claims about the state machine, which strengthen the induction."""
        dut = self.dut
        names = ("READ", "DATA", "COMPARE", "DECIDE", "WRITE", "WRITTEN", "RESPOND")
        states = {name: dut._states.ongoing(name) for name in names}
        evaluating = states["COMPARE"] | states["DECIDE"]
        compared = (reply != AxiResponse.EXOKAY) | (entry != request.expected)
        facts = {
            "The machine is in one of its states.": sum(states.values()) == 1,
            "A read is outstanding in one state only.": reading == states["DATA"],
            "A write is outstanding in one state only.": writing == states["WRITTEN"],
            "What was read is kept.": implies(evaluating, have_read & ~written & (dut._entry == entry)),
            "A failure of the read is kept.": implies(evaluating, dut._failed == (reply != AxiResponse.EXOKAY)),
            "The comparison is kept.": implies(states["DECIDE"], dut._done == compared),
            "The queue knows what it holds.": knows_its_level(dut._queue),
            "A request is worked on.": implies(~states["READ"], dut._queue.o.valid),
            "A write follows a read that matches.": implies(
                states["WRITE"] | states["WRITTEN"], matches & ~written & ~dut._failed & (reply == AxiResponse.EXOKAY)
            ),
            "What is written is kept.": implies(
                states["WRITE"] | states["WRITTEN"], dut._entry == (entry | request.mask)
            ),
            "A pair begins anew.": implies(states["READ"], ~have_read | lost)
            & implies(states["DATA"], ~have_read & ~written),
            "Tries are counted.": implies(~states["RESPOND"], (dut._tries == tries) & (tries < MAX_TRIES)),
        }
        for sentence, fact in facts.items():
            self.claim(m, sentence, fact)
