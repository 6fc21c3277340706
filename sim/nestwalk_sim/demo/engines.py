"""The engines that the story runs on: the software unit in this process, or the hardware in a simulation of its own."""

import asyncio
from collections.abc import Callable
from typing import cast

from nestwalk.config import IommuConfig

from ..model_unit import ModelTransport, model_config
from .report import StoryReport
from .stage import Machine
from .story import MEMORY_SIZE, tell

__all__ = ["Progress", "prepare", "story_in_simulation", "story_on_model", "story_on_rtl"]

Progress = Callable[[int, int, str], None]
"""Told the chapters done, their number and the title of the next."""


def prepare(config: IommuConfig) -> None:
    """Build the simulation of the hardware now, unless it is built already.

    Raises
    ------
    BuildFailed, ToolMissing
        When that does not work.
    """
    from ..rtl.build import build  # takes a second to import

    build(config)


def story_on_model(config: IommuConfig, progress: Progress | None = None) -> StoryReport:
    """The story on the software unit."""
    machine = ModelTransport(MEMORY_SIZE, config)
    return asyncio.run(tell(machine, machine.unit.model_config, progress))


def story_on_rtl(config: IommuConfig, progress: Progress | None = None) -> StoryReport:
    """The story on the hardware, in Verilator.

    Raises
    ------
    SimulationFailed
        When the unit breaks a protocol or stops.
    """
    from ..rtl.run import run_in_simulation  # takes a second to import

    return run_in_simulation(config, f"{__name__}:{story_in_simulation.__name__}", config, progress=progress)


async def story_in_simulation(bench, config: IommuConfig) -> StoryReport:
    """The coroutine that runs inside the simulation, with its `nestwalk_sim.rtl.unit.Bench`."""
    from ..rtl.transport import BenchTransport  # exists inside a simulation only

    # The bench's memory reads like the model's, which is all that the golden walk beside each request does with it.
    machine = cast(Machine, BenchTransport(bench, MEMORY_SIZE))
    return await tell(machine, model_config(config), bench.report_progress)
