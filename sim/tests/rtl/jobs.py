"""Coroutines and tests that `test_run` runs inside a simulation of the stand-in."""

import cocotb

from nestwalk_sim.errors import UserError
from nestwalk_sim.model.request import Request
from nestwalk_sim.rtl.unit import Bench


async def add_and_read(bench: Bench, left: int, right: int) -> tuple[int, int]:
    """Lets memory and the unit carry a sum."""
    bench.memory.add_pages([0])
    bench.memory.write64(8, left + right)
    answer = (await bench.translate([Request(0, None, 8, one_dword=True)]))[0]
    for done in range(3):
        bench.report_progress(done + 1, 3, "sums")
    return int(answer["address"]), bench.now()


async def chatter(bench: Bench, count: int) -> int:
    """Reports more than a pipe holds."""
    for done in range(count):
        bench.report_progress(done, count, "words")
    return count


async def reject(bench: Bench, what: str) -> None:
    """Input that the user got wrong."""
    raise UserError(f"no such thing: {what}")


async def stumble(bench: Bench) -> None:
    """A bug."""
    raise ZeroDivisionError("a bug in a coroutine")


async def die(bench: Bench) -> None:
    """Takes the simulator along."""
    import os

    os._exit(3)


@cocotb.test()
async def passes(dut):
    assert dut.wake.value in (0, 1)


@cocotb.test()
async def fails(dut):
    assert dut.wake.value == 2, "a wire has no third level"
