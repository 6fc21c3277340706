"""A shell of registers around a component, so that a thousand ports fit on four pins and pins limit no path."""

from amaranth.hdl import Cat, ClockDomain, ClockSignal, Const, Instance, Module, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from nestwalk.verilog import flat_ports

__all__ = ["Harness"]


class Harness(wiring.Component):
    """Out-of-context shell: every path of the component starts and ends in a register.

    ::

        scan_in -> [stimulus] ==> component ==> [response] ==> XOR [signature] -> scan_out

    A shift register (``stimulus``) drives all inputs, a register (``response``) takes all outputs, and a chain of XORs
    and registers (``signature``) folds them into one pin, so that synthesis removes nothing that can be observed. The
    component's reset is a register too, spread on a global net as clocks are: in the fabric its thousands of sinks
    would crowd out everything else.

    Parameters
    ----------
    component : wiring.Component
        What is built; its only clock domain is ``sync``.

    Attributes
    ----------
    clk, rst, scan_in : Signal(1), in
    scan_out : Signal(1), out
    """

    REGISTERS = ("stimulus", "response", "signature", "reset")
    """Names that the shell's registers keep in the netlist; utilisation figures leave them out."""

    def __init__(self, component: wiring.Component):
        self.component = component
        super().__init__({"clk": In(1), "rst": In(1), "scan_in": In(1), "scan_out": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.component = self.component
        ports = flat_ports(self.component).values()
        inputs = Cat(value for value, flow in ports if flow == In)
        outputs = Cat(value for value, flow in ports if flow == Out)

        def register(name: str, width: int) -> Signal:
            return Signal(width, name=name, reset_less=True, attrs={"keep": True})

        widths = (len(inputs), len(outputs), len(outputs), 1)
        stimulus, response, signature, reset = map(register, self.REGISTERS, widths)
        m.domains.sync = ClockDomain()
        m.submodules.reset_buffer = Instance("DCCA", i_CLKI=reset, i_CE=Const(1), o_CLKO=ResetSignal())
        m.d.comb += [
            ClockSignal().eq(self.clk),
            inputs.eq(stimulus),
            self.scan_out.eq(signature[-1]),
        ]
        m.d.sync += [
            reset.eq(self.rst),
            stimulus.eq(Cat(self.scan_in, stimulus)),
            response.eq(outputs),
            signature.eq(response ^ Cat(self.scan_in, signature)),
        ]
        return m
