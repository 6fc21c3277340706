"""The cocotb test that runs the job of `nestwalk_sim.rtl.run.run_in_simulation`."""

import importlib
import json
import os
import pickle
from pathlib import Path

import cocotb

from ..errors import UserError
from .unit import Bench


@cocotb.test()
async def job(dut):
    """Resets the unit, runs the coroutine, stores what it returns. Other exceptions than the user's errors fail the
    test."""
    folder = Path(os.environ["NESTWALK_JOB"])
    target, arguments = pickle.loads((folder / "job").read_bytes())
    try:
        module, _, name = target.partition(":")
        bench = Bench(dut)
        _report_through(folder / "progress", bench)
        await bench.reset()
        outcome = ("result", await getattr(importlib.import_module(module), name)(bench, *arguments))
    except UserError as error:
        outcome = ("error", error)
    temporary = folder / "result.new"
    temporary.write_bytes(pickle.dumps(outcome))
    temporary.rename(folder / "result")


def _report_through(pipe: Path, bench: Bench) -> None:
    if not pipe.exists():
        return
    file = pipe.open("wb", buffering=0)

    def report(done: int, total: int, what: str) -> None:
        file.write(json.dumps([done, total, what]).encode() + b"\n")

    bench.on_progress(report)
