"""Running coroutines and tests in a simulation from outside."""

import re
import time

import pytest

from nestwalk.config import preset
from nestwalk_sim.errors import UserError
from nestwalk_sim.rtl.build import build
from nestwalk_sim.rtl.run import SimulationFailed, run_in_simulation, run_tests

STAND_IN = "rtl.tests.stand_in:StandIn"
CONFIG = preset("DEFAULT")
JOBS = "sim.tests.rtl.jobs"


def run(name: str, *arguments, **options):
    return run_in_simulation(CONFIG, f"{JOBS}:{name}", *arguments, unit=STAND_IN, **options)


def test_result_and_progress_come_back():
    told = []
    total, cycles = run("add_and_read", 40, 2, progress=lambda *step: told.append(step))
    assert total == 42
    assert 5 < cycles < 100
    assert told == [(1, 3, "sums"), (2, 3, "sums"), (3, 3, "sums")]


def test_listener_that_fails_ends_the_run():
    def listener(done: int, total: int, what: str) -> None:
        raise KeyError(what)

    with pytest.raises(KeyError, match="words"):
        run("chatter", 20_000, progress=listener)
    assert run("chatter", 20_000, progress=lambda *step: None) == 20_000


def test_two_runs_are_equal():
    assert run("add_and_read", 1, 2) == run("add_and_read", 1, 2)


def test_errors_come_back():
    with pytest.raises(UserError, match="^no such thing: spoon$"):
        run("reject", "spoon")
    with pytest.raises(SimulationFailed, match="ZeroDivisionError: a bug in a coroutine"):
        run("stumble")
    with pytest.raises(SimulationFailed, match="ended without results"):
        run("die")


def test_failed_tests_are_quoted():
    with pytest.raises(SimulationFailed) as failure:
        run_tests(CONFIG, JOBS, unit=STAND_IN)
    message = str(failure.value)
    assert message.startswith("fails failed:\n")
    assert "a wire has no third level" in message
    assert "passes" not in message


def test_waves_are_written(tmp_path):
    waves = tmp_path / "run.vcd"
    total, _ = run("add_and_read", 1, 2, waves=waves)
    assert total == 3
    assert re.search(r"\$var \w+ +1 \S+ mem_arvalid", waves.read_text())


def test_model_is_built_once(capfd):
    model = build(CONFIG, unit=STAND_IN)
    built = (model.folder / "bench").stat().st_mtime_ns
    capfd.readouterr()
    began = time.monotonic()
    assert build(CONFIG, unit=STAND_IN) == model
    assert time.monotonic() - began < 5
    assert (model.folder / "bench").stat().st_mtime_ns == built
    assert capfd.readouterr().err == ""
