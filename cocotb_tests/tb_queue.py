"""Random streams of descriptors, right and wrong, through the hardware's invalidation queue."""

from collections import Counter
from collections.abc import Awaitable, Callable

import cocotb

from .register_life import Life
from .session import CONFIG, MODEL, count_of, rng_of, start
from .tb_registers import Hardware

LEGAL = {1: (1, 2, 3), 2: (1, 2, 3), 5: range(4), 6: (2, 3), 7: (0, 1, 3)}
"""Granularities of each descriptor type, flags of the wait descriptor."""

ERRORS = {(1,), (2,), (5,), (6,), (7,)}
"""IQEI of what is no descriptor's fault."""


class Streams(Life):
    """Little but descriptors; registers are written in between."""

    def kinds(self) -> list[tuple[int, Callable[[], Awaitable[None]]]]:
        return [(10, self.work), (2, self.random_write), (1, self.recover), (1, self.random_read)]


def missing(seen: Counter[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """What should have been met and was not."""
    wanted = {(kind, granularity, 0) for kind, granularities in LEGAL.items() for granularity in granularities}
    wanted |= {(kind, granularity, 4) for kind, granularities in LEGAL.items() for granularity in granularities}
    wanted |= {(1, 0, 3), (2, 0, 3), (6, 0, 3), (6, 1, 3), (7, 2, 3)} | ERRORS
    if not CONFIG.scalable_mode:
        wanted = {bin_ for bin_ in wanted if bin_[0] not in (6, 7)}
    optional = ({3, 8} if CONFIG.device_tlb else set()) | ({9} if CONFIG.page_requests else set())
    types = {entry[0] for entry in seen if entry[2:] == (0,)}
    return sorted(wanted - set(seen)) + sorted((kind,) for kind in optional - types)


@cocotb.test()
async def random_descriptors(dut):
    """Head, errors, statuses and interrupts are the model's; what stops the queue can be mended, and it goes on."""
    bench, _ = await start(dut)
    life = Streams(Hardware(bench), CONFIG, MODEL, rng_of("random_descriptors"))
    while life.model.seen.total() < count_of("DESCRIPTORS"):
        await life.run(5)
    dut._log.info("%s, %d cycles, %s", dict(life.done), bench.now(), dict(sorted(life.model.seen.items())))
    assert missing(life.model.seen) == []
