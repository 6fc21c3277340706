"""The hardware as an engine of `nestwalk_sim.replay`, programmed as the host driver does it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nestwalk.bus.memory import MemoryIds
from nestwalk.config import IommuConfig, preset

from ..capture import Capture
from ..host.log import CommandLog
from ..host.transport import HostMemory
from ..host.vtd.descriptors import ContextCacheInvalidate, Descriptor, IotlbInvalidate, PasidCacheInvalidate, Words
from ..host.vtd.pages import PageAllocator
from ..host.vtd.qi import InvalidationQueue
from ..host.vtd.regs import Registers
from ..memory import PAGE_SIZE
from ..model.request import Request
from ..replay import Answer, Progress, ReplayReport, Statistics, replay_capture
from .build import UNIT
from .memory import MemoryTiming
from .run import run_in_simulation
from .transport import BenchTransport
from .unit import Bench, Traffic

__all__ = ["RtlEngine", "replay_in_simulation", "replay_on_rtl"]

TIMING = MemoryTiming(latency=30)
"""How memory behaves during a replay: the middle one of the benchmarks' three latencies."""

BACK_TO_BACK = Traffic()
"""Requests follow each other as fast as the unit takes them."""

_QUEUE_REGION = 8 * PAGE_SIZE
_SCALABLE_MODE = 1


@dataclass(frozen=True)
class _CapturedDescriptor:
    """A descriptor as the captured platform queued it."""

    low: int
    high: int

    def words(self) -> Words:
        return self.low, self.high, 0, 0


class RtlEngine:
    """The unit behind a bench.

    Parameters
    ----------
    bench : Bench
        Just reset.
    cfg : IommuConfig
        Configuration of the unit.
    preset : str
        Its name.
    """

    name = "rtl"

    def __init__(self, bench: Bench, cfg: IommuConfig, preset: str):
        self.preset = preset.upper()
        self._bench = bench
        self._cfg = cfg
        self._transport = BenchTransport(bench, 0)
        self._regs = Registers(self._transport)
        self._log = CommandLog(bench.now)
        self._queue: InvalidationQueue | None = None
        self._wide = True
        self._region = 0
        self._start = bench.now()

    async def load_memory(self, image: Mapping[int, bytes]) -> None:
        """Replace memory. The queue's pages stay where they are unless the image wants their place."""
        while not self._bench.memory.idle:
            await self._bench.cycles(1)
        region = self._region if self._region and _is_free(image, self._region) else _free_region(image, self._cfg.haw)
        moved = self._queue is not None and region != self._region
        if moved:
            await self._stop_queue()
        self._region = region
        self._bench.memory.load(image)
        self._bench.memory.add_pages(range(region, region + _QUEUE_REGION, PAGE_SIZE))
        if moved:
            await self._start_queue(self._wide)

    async def enable(self, root_table_address: int) -> None:
        """Recipe R1: queue first, then root table, everything forgotten, translation."""
        mode = root_table_address >> 10 & 3
        wide = mode == _SCALABLE_MODE
        if self._queue is not None and self._wide != wide:
            await self._stop_queue()
        if self._queue is None:
            await self._start_queue(wide)
        trace = self._log.trace("enable", "R1")
        await self._regs.write("RTADDR", RTA=root_table_address >> 12, TTM=mode)
        await self._regs.global_command("SRTP", True, trace)
        everything: list[Descriptor] = [ContextCacheInvalidate(), IotlbInvalidate()]
        if wide:
            everything.insert(1, PasidCacheInvalidate())
        await self._submit(everything)
        await self._regs.global_command("TE", True, trace)

    async def invalidate(self, descriptors: Sequence[tuple[int, int]]) -> None:
        await self._submit([_CapturedDescriptor(low, high) for low, high in descriptors])

    async def translate(self, requests: Sequence[Request]) -> Sequence[Answer]:
        answers = await self._bench.translate(requests)
        return [_answer(*row) for row in answers[["granted", "address", "page_size", "fault"]].tolist()]

    async def statistics(self) -> Statistics:
        ids = MemoryIds(self._cfg)
        reads = self._bench.memory.reads - self._bench.memory.reads_of(ids.queue)
        return Statistics(self._bench.now() - self._start, reads)

    async def _start_queue(self, wide: bool) -> None:
        pages = PageAllocator(HostMemory(self._transport), self._region, _QUEUE_REGION)
        self._queue = await InvalidationQueue.create(self._transport, self._regs, pages, size_code=1, wide=wide)
        self._wide = wide
        await self._queue.enable(self._log.trace("enable queue", "R1"))

    async def _stop_queue(self) -> None:
        if self._queue is not None:
            await self._queue.disable(self._log.trace("disable queue", "R14"))
        self._queue = None

    async def _submit(self, descriptors: Sequence[Descriptor]) -> None:
        """Queue descriptors in pieces that fit, each ending with a wait."""
        if self._queue is None:
            raise RuntimeError("invalidation before the unit was enabled")
        piece = self._queue.slots - 2
        for start in range(0, len(descriptors), piece):
            trace = self._log.trace("invalidate", "R6")
            await self._queue.submit_sync(descriptors[start : start + piece], trace)


def _answer(granted: int, address: int, page_size: int, fault: int) -> Answer:
    return Answer(True, address, page_size, None) if granted else Answer(False, 0, 0, fault)


def _is_free(image: Mapping[int, bytes], region: int) -> bool:
    return all(page not in image for page in range(region, region + _QUEUE_REGION, PAGE_SIZE))


def _free_region(image: Mapping[int, bytes], haw: int) -> int:
    """The lowest place for the queue outside an image, from 1 MiB on."""
    candidates = range(1 << 20, (1 << haw) - _QUEUE_REGION, _QUEUE_REGION)
    return next(region for region in candidates if _is_free(image, region))


async def replay_in_simulation(
    bench: Bench, capture: Capture, name: str, timing: MemoryTiming, traffic: Traffic
) -> dict[str, object]:
    """The coroutine that runs inside the simulation; a `ReplayReport` as plain types."""
    bench.memory.timing = timing
    bench.set_traffic(traffic)
    engine = RtlEngine(bench, preset(name), name)

    def report(phase: str, done: int, total: int) -> None:
        bench.report_progress(done, total, phase)

    return (await replay_capture(capture, engine, report)).as_dict()


def replay_on_rtl(
    capture: Capture,
    preset_name: str = "DEFAULT",
    progress: Progress | None = None,
    *,
    waves: Path | None = None,
    timing: MemoryTiming = TIMING,
    traffic: Traffic = BACK_TO_BACK,
    unit: str = UNIT,
) -> ReplayReport:
    """Replay a capture on the hardware in a simulation of its own.

    Parameters
    ----------
    capture : Capture
    preset_name : str
    progress : callable, optional
        Told the phase, the requests done and their number.
    waves : Path, optional
        VCD file to write.
    timing : MemoryTiming
        How memory behaves.
    traffic : Traffic
        How requests are driven.
    unit : str
        The component, ``package.module:Class``.

    Raises
    ------
    ValueError
        When there is no such preset.
    SimulationFailed
        When the unit breaks a protocol or stops.
    """

    def told(done: int, total: int, phase: str) -> None:
        if progress is not None:
            progress(phase, done, total)

    target = f"{__name__}:{replay_in_simulation.__name__}"
    arguments = (capture, preset_name, timing, traffic)
    result = run_in_simulation(preset(preset_name), target, *arguments, unit=unit, waves=waves, progress=told)
    return ReplayReport.from_dict(result)
