"""Performance monitoring and the enhanced commands that control it (§1.15, §1.16)."""

from functools import reduce
from operator import or_

from amaranth.hdl import C, Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..config import IommuConfig
from ..counters.counters import MONITORS
from ..counters.monitored import MonitoredEvents, monitored_events

__all__ = ["COMMANDS", "Configuration", "PerformanceMonitor"]

ENABLE, DISABLE, FREEZE, UNFREEZE = 240, 241, 244, 245
COMMANDS = (ENABLE, DISABLE, FREEZE, UNFREEZE)
"""ECMD.CMD, all that there are."""

SUCCESS, UNDEFINED, ABORTED, REFUSED = 0, 1, 2, 16
"""ECRSP.SC."""


class Configuration(data.Struct):
    """CNTRCFG of one counter, as far as it decides whether and what is counted."""

    es: 28
    egi: 4
    gfo: 1


class PerformanceMonitor(wiring.Component):
    """Carries out enhanced commands, and tells the counters what to count.

    ::

        start --> DECODE --+--> enable, unfreeze, errors ----------> done
                           `--> disable, freeze --> two turns of the counters --> done

        events --> select --> + --> increments

    A command that stops counters ends when all that they have counted can be read; so does every other one, for the
    sake of simplicity, if it succeeds. Counters do not count while they are frozen or not enabled. Several events of a
    group count together: of two in one cycle, both.

    Parameters
    ----------
    cfg : IommuConfig
        With ``performance_monitoring``.

    Members
    -------
    start : In(1)
        Pulse: ECMD.CMD is written. Not while ``in_progress``.
    command, operand : In(8), In(16)
        ECMD.CMD and ECMD.OA, from the cycle after ``start`` on until ``in_progress`` falls.
    global_command : In(1)
        A global command is under way.
    in_progress, status : Out(1), Out(7)
        ECRSP.IP, from the cycle after ``start`` on, and ECRSP.SC, 0 while ``in_progress``.
    configurations : array of `MONITORS` `Configuration`, in
        Constant while their counters are enabled.
    enabled, frozen : Out(MONITORS), Out(1)
    events : In(MonitoredEvents)
    increments : Out(2), array of `MONITORS`
        Two cycles after the events.
    turned : In(1)
        Pulse in every turn of the counters.
    """

    def __init__(self, cfg: IommuConfig):
        self._events = monitored_events(cfg)
        super().__init__(
            {
                "start": In(1),
                "command": In(8),
                "operand": In(16),
                "global_command": In(1),
                "in_progress": Out(1),
                "status": Out(7),
                "configurations": In(Configuration).array(MONITORS),
                "enabled": Out(MONITORS),
                "frozen": Out(1),
                "events": In(MonitoredEvents()),
                "increments": Out(2).array(MONITORS),
                "turned": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        self._command(m)
        self._select(m)
        return m

    def _command(self, m: Module):
        turns = Signal(2)
        counter = self.operand[:1]
        exists = self.operand < MONITORS
        possible = Cat(self._possible(configuration) for configuration in self.configurations)
        status = Signal(7)

        with m.If(self.start):
            m.d.sync += [self.in_progress.eq(1), self.status.eq(0)]
        with m.FSM():
            with m.State("IDLE"):
                with m.If(self.in_progress):
                    m.next = "DECODE"
            with m.State("DECODE"):
                m.d.sync += turns.eq(0)
                with m.Switch(self.command):
                    with m.Case(ENABLE, DISABLE):
                        m.d.comb += status.eq(Mux(exists, SUCCESS, REFUSED))
                        with m.If((self.command == ENABLE) & ~possible.bit_select(counter, 1)):
                            m.d.comb += status.eq(REFUSED)
                    with m.Case(FREEZE, UNFREEZE):
                        pass
                    with m.Default():
                        m.d.comb += status.eq(UNDEFINED)
                with m.If(self.global_command):
                    m.d.comb += status.eq(ABORTED)
                m.d.sync += self.status.eq(status)
                with m.If(status == SUCCESS):
                    with m.If(self.command[2]):
                        m.d.sync += self.frozen.eq(self.command == FREEZE)
                    with m.Else():
                        m.d.sync += self.enabled.bit_select(counter, 1).eq(self.command == ENABLE)
                    m.next = "WAIT"
                with m.Else():
                    m.d.sync += self.in_progress.eq(0)
                    m.next = "IDLE"
            with m.State("WAIT"):
                m.d.sync += turns.eq(turns + self.turned)
                with m.If(turns == 3):
                    m.d.sync += self.in_progress.eq(0)
                    m.next = "IDLE"

    def _possible(self, configuration):
        """The group exists and has the events, and nothing is to freeze by itself (§1.15)."""
        result = C(0, 1)
        for group in {event.group for event in self._events}:
            there = sum(1 << event.bit for event in self._events if event.group == group)
            result |= (configuration.egi == group) & ((configuration.es & ~there) == 0)
        return result & ~configuration.gfo

    def _select(self, m: Module):
        """Count the selected events of the group; of each group there are two at most."""
        for number, (configuration, increment) in enumerate(zip(self.configurations, self.increments, strict=True)):
            counted: tuple[list, list] = ([], [])
            for group in {event.group for event in self._events}:
                events = [event for event in self._events if event.group == group]
                for part, event in zip(counted, events, strict=False):
                    selected = Signal(name=f"counter_{number}_{event.name}")
                    m.d.sync += selected.eq(
                        self.enabled[number] & ~self.frozen & (configuration.egi == group) & configuration.es[event.bit]
                    )
                    part.append(selected & (1 if event.name == "clocks" else self.events[event.name]))
            first, second = (reduce(or_, part) for part in counted)
            m.d.sync += increment.eq(first + second)
