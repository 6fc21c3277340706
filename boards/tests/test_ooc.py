"""Out-of-context builds, on a component small enough to place in seconds."""

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from boards import board, names
from boards.ooc import build
from nestwalk_sim.errors import UserError


class Small(wiring.Component):
    """A block RAM whose registered output is added to an input: 1 RAM, 16 + 16 registers, a 16-bit carry chain."""

    address: In(10)
    addend: In(16)
    write: In(1)
    sum: Out(16)

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = Memory(shape=16, depth=1024, init=[])
        write, read = memory.write_port(), memory.read_port()
        registered = Signal(16)
        m.d.comb += [
            read.addr.eq(self.address),
            read.en.eq(1),
            write.addr.eq(self.address),
            write.data.eq(self.addend),
            write.en.eq(self.write),
        ]
        m.d.sync += [registered.eq(read.data), self.sum.eq(registered + self.addend)]
        return m


def test_figures_are_those_of_the_component_without_its_harness(tmp_path):
    figures = build(Small(), board("ulx3s_85f"), tmp_path, seeds=[1])
    assert figures.bram == 1
    assert figures.ff == 32
    assert 16 <= figures.lut4 <= 40
    assert 50 < figures.fmax_mhz < 500
    path = figures.typical.critical_path
    assert sum(leg.delay_ns for leg in path) == pytest.approx(1000 / figures.fmax_mhz, rel=0.01)
    assert path[0].kind == "clk-to-q"


def test_an_unknown_board_is_told_with_those_that_exist():
    assert "ulx3s_85f" in names()
    with pytest.raises(UserError, match=r"unknown board 'arty': choose one of .*ulx3s_85f"):
        board("arty")
