"""Runs a component in Amaranth's simulator."""

from collections.abc import Callable

from amaranth.hdl import ClockDomain, Elaboratable, Module
from amaranth.sim import Simulator

__all__ = ["receive", "send", "simulate"]


def simulate(dut: Elaboratable, *testbenches: Callable, background: tuple[Callable, ...] = (), limit: int = 100_000):
    """Clock ``dut`` until every testbench has ended; fail when that takes more than ``limit`` cycles."""

    async def watchdog(ctx):
        for _ in range(limit):
            await ctx.tick()
        raise AssertionError(f"not finished after {limit} cycles")

    top = Module()
    top.domains.sync = ClockDomain()  # combinational components have none
    top.submodules.dut = dut
    simulator = Simulator(top)
    simulator.add_clock(10e-9)
    for testbench in testbenches:
        simulator.add_testbench(testbench)
    for testbench in (*background, watchdog):
        simulator.add_testbench(testbench, background=True)
    simulator.run()


async def send(ctx, port, payload):
    """Transfer one item into a stream."""
    ctx.set(port.payload, payload)
    ctx.set(port.valid, 1)
    await ctx.tick().until(port.ready)
    ctx.set(port.valid, 0)


async def receive(ctx, port):
    """Take one item from a stream."""
    ctx.set(port.ready, 1)
    (payload,) = await ctx.tick().sample(port.payload).until(port.valid)
    ctx.set(port.ready, 0)
    return payload
