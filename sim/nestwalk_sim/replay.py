"""Replay of a capture on any engine, and the comparison of its answers with the capture's.

An engine is what translates: the golden model here, the hardware in a simulator elsewhere. Its methods are
coroutines, so that one that lives inside a running simulation can wait for it; a replay is one coroutine that awaits
them in order.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import NamedTuple, Protocol

from .capture import Capture, Phase, Probe
from .memory import Memory
from .model import AccessKind, Mode, ModelConfig, Request, UnitState, model_preset, translate

__all__ = [
    "Answer",
    "Engine",
    "ModelEngine",
    "PhaseReport",
    "Progress",
    "ReplayReport",
    "Statistics",
    "replay_capture",
    "replay_on_model",
]

BATCH = 1024
"""Requests that an engine gets at once; it may translate them in any order."""

Progress = Callable[[str, int, int], None]
"""Told the phase's name, the requests done over all phases and their number."""


class Answer(NamedTuple):
    """What an engine answers to a request: ``address`` is a host byte address, ``page_size`` bytes; ``fault`` a
    reason code when not granted."""

    granted: bool
    address: int
    page_size: int
    fault: int | None


class Statistics(NamedTuple):
    """Sums since the engine was made: clock cycles (0 for engines without a clock) and reads of table memory."""

    cycles: int
    memory_reads: int


class Engine(Protocol):
    """What a replay needs from a translation unit."""

    name: str
    preset: str

    async def load_memory(self, image: Mapping[int, bytes]) -> None:
        """Replace the whole of memory (page address to 4096 bytes); no request is in flight."""
        ...

    async def enable(self, root_table_address: int) -> None:
        """Set the root pointer to this RTADDR_REG value and enable translation, as a driver does."""
        ...

    async def invalidate(self, descriptors: Sequence[tuple[int, int]]) -> None:
        """Queue descriptors (low, high 64 bits; upper half zero in scalable mode), and wait until they are done."""
        ...

    async def translate(self, requests: Sequence[Request]) -> Sequence[Answer]:
        """Translate requests; the answers are in the order of the requests."""
        ...

    async def statistics(self) -> Statistics:
        """What was counted so far."""
        ...


class ModelEngine:
    """The golden model as an engine: it caches nothing, so it has nothing to invalidate.

    Parameters
    ----------
    preset : str
        Name of the preset whose capabilities it announces.

    Raises
    ------
    ValueError
        When there is no such preset.
    """

    name = "model"

    def __init__(self, preset: str = "DEFAULT"):
        self.preset = preset.upper()
        self._config: ModelConfig = model_preset(preset)
        self._memory = Memory()
        self._state = UnitState(False, 0, 0)
        self._reads = 0

    async def load_memory(self, image: Mapping[int, bytes]) -> None:
        self._memory.load(image)

    async def enable(self, root_table_address: int) -> None:
        self._state = UnitState.from_register(root_table_address)

    async def invalidate(self, descriptors: Sequence[tuple[int, int]]) -> None:
        """Nothing is cached."""

    async def translate(self, requests: Sequence[Request]) -> Sequence[Answer]:
        return [self._translate(request) for request in requests]

    def _translate(self, request: Request) -> Answer:
        result = translate(self._memory, self._state, self._config, request)
        self._reads += sum(access.kind is AccessKind.READ for access in result.accesses)
        return Answer(result.granted, result.address, result.page_size, result.fault)

    async def statistics(self) -> Statistics:
        return Statistics(0, self._reads)


@dataclass(frozen=True)
class PhaseReport:
    """Counts of one phase."""

    name: str
    requests: int
    granted: int
    agree: int
    invalidations: int
    cycles: int
    memory_reads: int


@dataclass
class ReplayReport:
    """The outcome of a replay; ``disagree`` holds one JSON object for each answer that differs."""

    capture: str
    engine: str
    preset: str
    requests: int = 0
    agree: int = 0
    disagree: list[dict[str, object]] = field(default_factory=list)
    cycles: int = 0
    memory_reads: int = 0
    phases: list[PhaseReport] = field(default_factory=list)

    def as_dict(self) -> dict[str, object]:
        """The report in plain JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, members: dict) -> "ReplayReport":
        """The report that :meth:`as_dict` wrote, as it comes back from another process."""
        return cls(**{**members, "phases": [PhaseReport(**phase) for phase in members["phases"]]})


class _PassThroughCheck:
    """Tells whether a request meets a pass-through entry, where page sizes are not compared."""

    def __init__(self, image: Mapping[int, bytes], root_table_address: int):
        self._image = image
        self._memory: Memory | None = None
        self._state = UnitState.from_register(root_table_address)

    def __call__(self, request: Request) -> bool:
        if self._memory is None:
            self._memory = Memory(self._image)
        result = translate(self._memory, self._state, ModelConfig(), request, updating=False)
        return result.mode is Mode.PASS_THROUGH


def _agrees(probe: Probe, answer: Answer, is_pass_through: Callable[[Request], bool]) -> bool:
    if probe.granted != answer.granted:
        return False
    if not probe.granted:
        return probe.fault is None or probe.fault == answer.fault
    if probe.host_address != answer.address:
        return False
    return probe.page_size in (None, answer.page_size) or is_pass_through(probe.request)


def _outcome(granted: bool, address: int | None, page_size: int | None, fault: int | None) -> dict[str, object]:
    def hexadecimal(value: int | None) -> str | None:
        return None if value is None else hex(value)

    if not granted:
        return {"granted": False, "fault": hexadecimal(fault)}
    return {"granted": True, "host_address": hexadecimal(address), "page_size": hexadecimal(page_size)}


def _disagreement(phase: Phase, probe: Probe, answer: Answer) -> dict[str, object]:
    request = probe.request
    return {
        "phase": phase.name,
        "sid": hex(request.source_id),
        "pasid": request.pasid,
        "address": hex(request.address),
        "access": request.access.name.lower(),
        "expected": _outcome(probe.granted, probe.host_address, probe.page_size, probe.fault),
        "got": _outcome(*answer),
    }


async def _replay_phase(
    phase: Phase, engine: Engine, is_pass_through: Callable[[Request], bool], told: Callable[[int], None]
) -> tuple[int, list[dict[str, object]]]:
    """Send the probes of a phase in batches; how many agree, and those that do not."""
    agree = 0
    disagree = []
    for start in range(0, len(phase.probes), BATCH):
        batch = phase.probes[start : start + BATCH]
        answers = await engine.translate([probe.request for probe in batch])
        for probe, answer in zip(batch, answers, strict=True):
            if _agrees(probe, answer, is_pass_through):
                agree += 1
            else:
                disagree.append(_disagreement(phase, probe, answer))
        told(start + len(batch))
    return agree, disagree


async def replay_capture(capture: Capture, engine: Engine, progress: Progress | None = None) -> ReplayReport:
    """Replay all phases of a capture on an engine that was just reset.

    Parameters
    ----------
    capture : Capture
        The platform.
    engine : Engine
        What translates.
    progress : callable, optional
        Told after every batch.

    Returns
    -------
    ReplayReport
        Counts and disagreements over all phases.
    """
    report = ReplayReport(capture.name, engine.name, engine.preset)
    root = None
    before = await engine.statistics()
    for index, phase in enumerate(capture.phases):
        if phase.memory is not None:
            await engine.load_memory(phase.memory)
        if capture.root_table_address(index) != root:
            root = capture.root_table_address(index)
            await engine.enable(root)
        if phase.invalidations:
            await engine.invalidate(phase.invalidations)
        done = report.requests

        def told(count: int, name: str = phase.name, done: int = done) -> None:
            if progress is not None:
                progress(name, done + count, capture.requests)

        check = _PassThroughCheck(capture.memory_of(index), capture.root_table_address(index))
        agree, disagree = await _replay_phase(phase, engine, check, told)
        after = await engine.statistics()
        spent = (after.cycles - before.cycles, after.memory_reads - before.memory_reads)
        before = after
        sizes = (len(phase.probes), phase.granted, agree, len(phase.invalidations))
        report.phases.append(PhaseReport(phase.name, *sizes, *spent))
        report.requests += len(phase.probes)
        report.agree += agree
        report.disagree += disagree
        report.cycles += spent[0]
        report.memory_reads += spent[1]
    return report


def replay_on_model(capture: Capture, preset: str = "DEFAULT", progress: Progress | None = None) -> ReplayReport:
    """Replay a capture on the golden model.

    Raises
    ------
    ValueError
        When there is no such preset.
    """
    return asyncio.run(replay_capture(capture, ModelEngine(preset), progress))
