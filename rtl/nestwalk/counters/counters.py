"""Event counters in block RAM, with one adder for all."""

from functools import reduce
from operator import or_

from amaranth.hdl import Array, C, Cat, Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from .events import EVENTS, Events

__all__ = ["COUNTER_BITS", "MONITORS", "Counters"]

COUNTER_BITS = 48
"""At one event a cycle and 125 MHz a counter lasts 26 days."""


MONITORS = 2
"""Counters beside those of single events, for what software chooses."""

STEP_BITS = 6

PENDING_BITS = 7
"""Of a monitor between its turns, at two events a cycle."""


def _step(state):
    """The state after ``state`` of a shift register that runs through 63 of them from 0 on, and to 1 first."""
    return Cat(~(state[-1] ^ state[-2]), state[:-1])


def _numbers() -> list[int]:
    """How many steps lead from 0 to each state."""
    numbers, state = [0] * (1 << STEP_BITS), 0
    for number in range((1 << STEP_BITS) - 1):
        numbers[state] = number
        last, before = state >> STEP_BITS - 1, state >> STEP_BITS - 2 & 1
        state = state << 1 & (1 << STEP_BITS) - 1 | (1 ^ last ^ before)
    return numbers


class Counters(wiring.Component):
    """Counts events: a few bits for each, emptied in turn into a word of block RAM.

    ::

        events ────> pending (a shift register each) ──turn──> decode ──+
        increments > pending (a number each) ──────────turn─────────────+─> + ──> [RAM: a word for each]
                                                                            └──────────┘ ├─> value
                                                                                         └─> overflows

    A turn of all takes `ROUND` cycles at most, so that a word lacks what has happened since then. All count from 0
    after a reset; until the first turn is over, a word reads what it was before. Between its turns an event is counted
    by the steps of a feedback shift register, which takes next to no logic; one table for all turns them into numbers.
    A monitor may count two events a cycle, and tells when it passes its largest value.

    Parameters
    ----------
    monitor_bits : int
        Width of each monitor, at most `COUNTER_BITS`; 0 for no monitors.

    Attributes
    ----------
    events : In(Events)
        Pulses.
    increments : In(2), array of `MONITORS`
        What each monitor counts in this cycle: 0 to 2.
    overflows : Out(MONITORS)
        Pulses: a monitor goes on from 0.
    turned : Out(1)
        Pulse in every turn of all. What was counted before one is in the words at the second one after it.
    index : In
        The counter to read: its place in `EVENTS`, or behind them the monitor's.
    read : In(1)
        Pulse: read ``index``, which stays as it is until ``busy`` falls. Not while ``busy``.
    busy : Out(1)
        From the next cycle on for at most six: ``value`` is not there yet.
    value : Out(COUNTER_BITS)
    """

    ROUND = (len(EVENTS) + MONITORS) * 5 // 4
    """A read takes one cycle from the turn."""

    def __init__(self, monitor_bits: int = 0):
        if not 0 <= monitor_bits <= COUNTER_BITS:
            raise ValueError(f"monitors have at most {COUNTER_BITS} bits, not {monitor_bits}")
        self._monitor_bits = monitor_bits
        self._places = len(EVENTS) + (MONITORS if monitor_bits else 0)
        super().__init__(
            {
                "events": In(Events()),
                "increments": In(2).array(MONITORS),
                "overflows": Out(MONITORS),
                "turned": Out(1),
                "index": In(range(self._places)),
                "read": In(1),
                "busy": Out(1),
                "value": Out(COUNTER_BITS),
            }
        )

    def elaborate(self, platform):
        m = Module()
        places = self._places
        m.submodules.words = words = memory.Memory(
            shape=COUNTER_BITS, depth=places, init=[], attrs={"no_rw_check": 1, "ram_style": "block"}
        )
        read, write = words.read_port(), words.write_port()
        number, whose = Signal(range(places)), Signal(places, init=1)
        goes_on, fresh = Signal(), Signal(init=1)
        with m.If(goes_on):
            m.d.sync += [number.eq(number + 1), whose.eq(whose.rotate_left(1))]
            with m.If(whose[-1]):
                m.d.comb += self.turned.eq(1)
                m.d.sync += [number.eq(0), fresh.eq(0)]

        # The state takes three cycles, and the word is read meanwhile; then they are added, and the sum is written.
        taken = Signal(places)
        state, monitored = self._take(m, taken), self._take_monitored(m, taken)
        turns = [Signal(name=f"turn_{stage}") for stage in range(6)]
        numbers = [Signal(range(places), name=f"number_{stage}", reset_less=True) for stage in range(6)]
        freshly = Signal(4)
        word, total = Signal(COUNTER_BITS, reset_less=True), Signal(COUNTER_BITS + 1, reset_less=True)
        added = Signal(PENDING_BITS, reset_less=True)
        m.d.sync += [
            taken.eq(whose & goes_on.replicate(len(whose))),
            Cat(turns).eq(Cat(goes_on, *turns[:-1])),
            Cat(numbers).eq(Cat(number, *numbers[:-1])),
            freshly.eq(Cat(fresh, freshly[:-1])),
            word.eq(Mux(freshly[-1], 0, read.data)),
            added.eq(Array(_numbers())[state] | monitored),
            total.eq(word + added),
        ]
        m.d.comb += [write.addr.eq(numbers[-1]), write.data.eq(total), write.en.eq(turns[-1])]
        self._watch_overflows(m, turns[-1], numbers[-1], total, write.data)

        # Who reads takes a turn, but not when the word would be read as it is written.
        wanted = Signal()
        m.d.comb += [
            goes_on.eq(~wanted | (turns[2] & (numbers[2] == self.index))),
            read.addr.eq(Mux(turns[2], numbers[2], self.index)),
            self.busy.eq(wanted | ~Cat(turns[:4]).all()),
        ]
        m.d.sync += wanted.eq(self.read | (wanted & goes_on))
        with m.If(~turns[3]):
            m.d.sync += self.value.eq(read.data)
        return m

    def _watch_overflows(self, m: Module, turn, number, total, written):
        """A monitor's word has its own width."""
        for monitor in range(self._places - len(EVENTS)):
            is_written = turn & (number == len(EVENTS) + monitor)
            m.d.sync += self.overflows[monitor].eq(is_written & total[self._monitor_bits])
            if self._monitor_bits < COUNTER_BITS:
                with m.If(is_written):
                    m.d.comb += written.eq(total[: self._monitor_bits])

    def _take_monitored(self, m: Module, taken) -> Signal:
        """Add up between the turns; the sum of the monitor whose turn it is, three cycles later, or 0."""
        sums = []
        for place, increment in zip(range(len(EVENTS), self._places), self.increments, strict=False):
            pending = Signal(PENDING_BITS, name=f"monitor_{place}_pending")
            m.d.sync += pending.eq(Mux(taken[place], 0, pending) + increment)
            sums.append(pending & taken[place].replicate(PENDING_BITS))
        delayed = [Signal(PENDING_BITS, name=f"monitored_{stage}") for stage in range(3)]
        m.d.sync += Cat(delayed).eq(Cat(reduce(or_, sums, C(0, PENDING_BITS)), *delayed[:-1]))
        return delayed[-1]

    def _take(self, m: Module, taken) -> Signal:
        """Step on with each event until it is one's turn; the state of the one whose turn it is, three cycles later."""
        pulses, states = Signal(Events()), []
        m.d.sync += pulses.eq(self.events)
        for place, event in enumerate(EVENTS):
            state = Signal(STEP_BITS, name=f"{event.name}_pending")
            with m.If(taken[place]):
                m.d.sync += state.eq(pulses[event.name])
            with m.Elif(pulses[event.name]):
                m.d.sync += state.eq(_step(state))
            states.append(state & taken[place].replicate(STEP_BITS))
        # In steps that take one LUT for each bit.
        for many in (2, 4, len(EVENTS)):
            groups = [states[first : first + many] for first in range(0, len(states), many)]
            states = [Signal(STEP_BITS, name=f"one_of_{many}_{number}") for number in range(len(groups))]
            m.d.sync += [one.eq(reduce(or_, group)) for one, group in zip(states, groups, strict=True)]
        return states[0]
