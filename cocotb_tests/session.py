"""What the random tests on the hardware share: seeds, the bench at work, memory that behaves differently each time."""

import json
import os
from random import Random

from nestwalk.config import IommuConfig, preset
from nestwalk_sim.builders import Scenario
from nestwalk_sim.model import ModelConfig, model_preset
from nestwalk_sim.rtl.driver import Driver
from nestwalk_sim.rtl.memory import MemoryTiming, Moment
from nestwalk_sim.rtl.unit import Bench

__all__ = ["CONFIG", "MODEL", "PRESET", "count_of", "load", "random_timing", "rng_of", "start"]

PRESET: str = os.environ.get("NESTWALK_PRESET", "DEFAULT")
CHANGES: dict[str, int] = json.loads(os.environ.get("NESTWALK_CHANGES", "{}"))
"""Parameters in which the configuration differs from the preset, of those that JSON can carry."""

CONFIG: IommuConfig = preset(PRESET).replace(**CHANGES)
MODEL: ModelConfig = model_preset(PRESET).replace(
    **{name: value for name, value in CHANGES.items() if hasattr(model_preset(PRESET), name)}
)


def rng_of(test: str) -> Random:
    """Random numbers of one test: the run's seed, and a stream of their own for each test and preset."""
    return Random(f"{os.environ['NESTWALK_SEED']} {PRESET} {test}")


def count_of(what: str) -> int:
    """How many of something the runner asks for, by environment variable."""
    return int(os.environ[f"NESTWALK_{what}"])


def random_timing(rng: Random) -> MemoryTiming:
    """Half of the time the quickest memory, else any."""
    if rng.random() < 0.5:
        return MemoryTiming()
    return MemoryTiming(
        latency=rng.choice((1, 2, 5, 30)),
        jitter=rng.choice((0, 3, 20)),
        stall_percent=rng.choice((0, 20)),
        interleave=rng.random() < 0.5,
        moment=rng.choice(list(Moment)),
        exclusive_loss_percent=rng.choice((0, 30)),
        seed=rng.getrandbits(32),
    )


async def start(dut) -> tuple[Bench, Driver]:
    """A unit that was just reset, over empty memory."""
    bench = Bench(dut)
    await bench.reset()
    return bench, Driver(bench, CONFIG.fault_records)


async def load(bench: Bench, driver: Driver, scenario: Scenario) -> None:
    """Put a scenario under the unit, with nothing cached."""
    while not bench.memory.idle:
        await bench.cycles(1)
    bench.memory.load(scenario.memory.image())
    for error in scenario.memory.errors:
        bench.memory.inject_error(error.start, error.stop - error.start, error.kind)
    await driver.set_root(scenario.state)
