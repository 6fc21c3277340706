"""Virtual commands: PASIDs that are given out and taken back (§1.18)."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from ..config import IommuConfig

__all__ = ["VirtualCommands"]

ALLOCATE, FREE = 1, 2
"""VCMD.CMD."""

SUCCESS, UNDEFINED, REFUSED = 0, 1, 16
"""VCRSP.SC; no PASID is left, or the one to be freed is invalid, is the same number."""

WORD_BITS = 32
PASID_BITS = 20


def _lowest_zero(bits: Value) -> Value:
    """Which bit is the lowest that is 0, if there is one."""
    place = Value.cast(len(bits) - 1)
    for number in reversed(range(len(bits) - 1)):
        place = Mux(bits[number], place, number)
    return place


class VirtualCommands(wiring.Component):
    """Allocates from a bitmap in block RAM and frees into it.

    ::

        reset --> CLEAR --> IDLE --start--> DECODE --> READ --> CAPTURE --> LOOK --> CHOOSE --> MARK --> IDLE
                                              |         ^---- word full ----'  `----- free -------^
                                              `- undefined --> IDLE <---------- none, invalid

    An allocation looks for the lowest free PASID of a word, from the word of the last one on. With N PASIDs it takes at
    most 3 * N / 32 + 6 cycles, a free 6, and a command right after a reset waits N / 32 cycles for the bitmap to be
    cleared. PASID 0 is never given out.

    Parameters
    ----------
    cfg : IommuConfig
        With ``virtual_command_pasids``.

    Members
    -------
    start : In(1)
        Pulse: VCMD.CMD is written. Not while ``in_progress``.
    command, pasid : In(8), In(20)
        VCMD.CMD and VCMD[35:16], from the cycle after ``start`` on until ``in_progress`` falls.
    in_progress : Out(1)
        VCRSP.IP, from the cycle after ``start`` on.
    status, result : Out(7), Out(20)
        VCRSP.SC and VCRSP[35:16]; 0 while ``in_progress``.
    """

    def __init__(self, cfg: IommuConfig):
        self._pasids = cfg.virtual_command_pasids
        super().__init__(
            {
                "start": In(1),
                "command": In(8),
                "pasid": In(PASID_BITS),
                "in_progress": Out(1),
                "status": Out(7),
                "result": Out(PASID_BITS),
            }
        )

    def elaborate(self, platform):
        m = Module()
        words = self._pasids // WORD_BITS
        m.submodules.bitmap = bitmap = memory.Memory(
            shape=WORD_BITS, depth=words, init=[], attrs={"no_rw_check": 1, "ram_style": "block"}
        )
        read, write = bitmap.read_port(), bitmap.write_port()
        word, left = Signal(range(words)), Signal(range(words))  # words to look at after this one
        last = Signal.like(word)  # where the last one was found
        bits, bit, frees = Signal(WORD_BITS), Signal(range(WORD_BITS)), Signal()
        group = Signal(range(WORD_BITS // 8))
        m.d.comb += [read.addr.eq(word), write.addr.eq(word)]

        def finish(status, result=0):
            m.d.sync += [self.in_progress.eq(0), self.status.eq(status), self.result.eq(result)]

        with m.If(self.start):
            m.d.sync += [self.in_progress.eq(1), self.status.eq(0), self.result.eq(0)]
        with m.FSM():
            with m.State("CLEAR"):
                # PASID 0 stands for requests without one.
                m.d.comb += [write.en.eq(1), write.data.eq(word == 0)]
                m.d.sync += word.eq(word + 1)
                with m.If(word == words - 1):
                    m.next = "IDLE"
            with m.State("IDLE"):
                with m.If(self.in_progress):
                    m.next = "DECODE"
            with m.State("DECODE"):
                m.next = "READ"
                m.d.sync += [word.eq(last), left.eq(words - 1), frees.eq(0)]
                with m.If(self.command == FREE):
                    m.d.sync += [word.eq(self.pasid // WORD_BITS), left.eq(0), frees.eq(1)]
                    with m.If(self.pasid >= self._pasids):
                        finish(REFUSED)
                        m.next = "IDLE"
                with m.Elif(self.command != ALLOCATE):
                    finish(UNDEFINED)
                    m.next = "IDLE"
            with m.State("READ"):
                m.next = "CAPTURE"
            with m.State("CAPTURE"):
                m.d.sync += bits.eq(read.data)
                m.next = "LOOK"
            with m.State("LOOK"):
                full = Cat(bits.word_select(number, 8).all() for number in range(WORD_BITS // 8))
                m.d.sync += [group.eq(_lowest_zero(full)), bit.eq(self.pasid % WORD_BITS)]
                m.next = "MARK"
                with m.If(frees):
                    is_out = bits.bit_select(self.pasid % WORD_BITS, 1) & (self.pasid != 0)
                    with m.If(~is_out):
                        finish(REFUSED)
                        m.next = "IDLE"
                with m.Elif(full.all()):
                    m.d.sync += [word.eq(word + 1), left.eq(left - 1)]
                    m.next = "READ"
                    with m.If(left == 0):
                        finish(REFUSED)
                        m.next = "IDLE"
                with m.Else():
                    m.next = "CHOOSE"
            with m.State("CHOOSE"):
                m.d.sync += bit.eq(Cat(_lowest_zero(bits.word_select(group, 8)), group))
                m.next = "MARK"
            with m.State("MARK"):
                m.d.comb += [write.en.eq(1), write.data.eq(bits ^ (1 << bit))]
                with m.If(~frees):
                    m.d.sync += last.eq(word)
                finish(SUCCESS, Mux(frees, 0, Cat(bit, word)))
                m.next = "IDLE"
        return m
