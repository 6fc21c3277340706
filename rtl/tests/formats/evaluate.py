"""Evaluates combinational expressions over one signal."""

from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.sim import Simulator

__all__ = ["evaluate"]


def evaluate(signal, values: Sequence[int], expressions: Sequence[Value]) -> list[list[int]]:
    """The 1-bit ``expressions`` for each value of ``signal``."""
    module = Module()
    results = Signal(len(expressions))
    module.d.comb += results.eq(Cat(Value.cast(expression) != 0 for expression in expressions))
    rows = []

    async def testbench(ctx):
        for value in values:
            ctx.set(Value.cast(signal), value)
            bits = ctx.get(results)
            rows.append([bits >> position & 1 for position in range(len(expressions))])

    simulator = Simulator(module)
    simulator.add_testbench(testbench)
    simulator.run()
    return rows
