"""Random scenarios: memory images with many devices, sane, spoiled by one defect, or spoiled at random, and
requests to them.

Shapes and defects come from shuffled decks, so that every announced shape and every fault condition comes up within
about two thousand draws.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from random import Random
from typing import Generic, NamedTuple, TypeVar

from ..memory import Memory
from ..model import Access, Mode, ModelConfig, Request, UnitState, untranslated_conditions
from .defects import DEFECTS, Defect
from .paging import HostSpace
from .shapes import Expectation, Shape, legacy_shapes, scalable_shapes
from .structures import LegacyTables, ScalableTables
from .target import INTERRUPT_RANGE, Target, build_target

__all__ = ["Draw", "Scenario", "ScenarioKind", "random_scenarios"]


class ScenarioKind(Enum):
    """What all devices of a scenario have in common."""

    SCALABLE = "scalable"
    LEGACY = "legacy"
    DISABLED = "translation disabled"
    RESERVED_MODE = "reserved translation-table mode"
    ABORT_MODE = "abort-DMA mode"
    UNSUPPORTED_MODE = "scalable mode, not announced"
    SCALABLE_ROOT_MISSING = "no memory under the scalable-mode root table"
    LEGACY_ROOT_MISSING = "no memory under the legacy root table"


class Draw(NamedTuple):
    """One request, with the shape of its device's tables and what the builder knows of the answer (None: nothing)."""

    request: Request
    shape: Shape
    expected: Expectation | None


@dataclass
class Scenario:
    """A memory image, the unit's state and requests. No two requests share a source id, a context table or page
    tables."""

    kind: ScenarioKind
    memory: Memory
    state: UnitState
    draws: list[Draw]


_Card = TypeVar("_Card")


class _Deck(Generic[_Card]):
    """Draws without putting back, and starts again shuffled when empty."""

    def __init__(self, random: Random, cards: list[_Card]):
        self._random = random
        self._cards = cards
        self._left: list[_Card] = []

    def draw(self) -> _Card:
        if not self._left:
            self._left = self._random.sample(self._cards, len(self._cards))
        return self._left.pop()


class _Family:
    """Shapes and defects of one mode."""

    def __init__(self, random: Random, config: ModelConfig, shapes: list[Shape]):
        conditions = untranslated_conditions(config)
        self.shapes = _Deck(random, shapes)
        fitting = [defect for defect in DEFECTS if defect.condition in conditions and any(map(defect.fits, shapes))]
        self.defects = _Deck(random, fitting)
        self._shapes_by_defect = {id(defect): [shape for shape in shapes if defect.fits(shape)] for defect in fitting}

    def shapes_of(self, defect: Defect) -> list[Shape]:
        return self._shapes_by_defect[id(defect)]


class _Scenarios:
    def __init__(self, random: Random, config: ModelConfig, devices: int):
        self.random = random
        self.config = config
        self.devices = devices
        self.scalable = _Family(random, config, scalable_shapes(config)) if config.scalable_mode else None
        self.legacy = _Family(random, config, legacy_shapes(config)) if config.second_stage else None
        few = [ScenarioKind.DISABLED, ScenarioKind.RESERVED_MODE, ScenarioKind.ABORT_MODE]
        if self.scalable:
            few += [ScenarioKind.SCALABLE_ROOT_MISSING] + [ScenarioKind.SCALABLE] * 8
        else:
            few.append(ScenarioKind.UNSUPPORTED_MODE)
        if self.legacy:
            few += [ScenarioKind.LEGACY_ROOT_MISSING] + [ScenarioKind.LEGACY] * 3
        self.kinds = _Deck(random, few)

    def next(self) -> Scenario:
        kind = self.kinds.draw()
        if kind is ScenarioKind.SCALABLE:
            return self.mapped(kind, self.scalable)
        if kind is ScenarioKind.LEGACY:
            return self.mapped(kind, self.legacy)
        return self.unmapped(kind)

    def unmapped(self, kind: ScenarioKind) -> Scenario:
        """A few requests to a unit whose answer depends on the root-table address alone."""
        memory = Memory()
        space = HostSpace(memory, self.config.haw, self.random)
        missing = kind in (ScenarioKind.SCALABLE_ROOT_MISSING, ScenarioKind.LEGACY_ROOT_MISSING)
        root = space.unused() if missing else space.new_pages()
        condition, ttm = {
            ScenarioKind.DISABLED: (None, self.random.randrange(4)),
            ScenarioKind.RESERVED_MODE: ("RTA.1.2", 2),
            ScenarioKind.ABORT_MODE: ("RTA.4" if self.config.abort_dma else "RTA.1.1", 3),
            ScenarioKind.UNSUPPORTED_MODE: ("RTA.1.3", 1),
            ScenarioKind.SCALABLE_ROOT_MISSING: ("SRT.1", 1),
            ScenarioKind.LEGACY_ROOT_MISSING: ("LRT.1", 0),
        }[kind]
        draws = []
        for _ in range(8):
            pasid_allowed = self.config.pasid and kind is not ScenarioKind.LEGACY_ROOT_MISSING
            request = self.any_request(pasid_allowed and self.random.random() < 0.5)
            expected = Expectation(condition)
            if kind is ScenarioKind.DISABLED:
                expected = Expectation(None, request.address)
            draws.append(Draw(request, Shape(Mode.NONE), expected))
        return Scenario(kind, memory, UnitState(kind is not ScenarioKind.DISABLED, root, ttm), draws)

    def any_request(self, with_pasid: bool) -> Request:
        random = self.random
        address = random.getrandbits(64)
        while address >> 20 == INTERRUPT_RANGE >> 20:
            address = random.getrandbits(64)
        return Request(
            source_id=random.getrandbits(16),
            pasid=random.getrandbits(20) if with_pasid else None,
            address=address,
            access=random.choice(list(Access)),
            one_dword=bool(random.getrandbits(1)),
        )

    def mapped(self, kind: ScenarioKind, family: _Family | None) -> Scenario:
        """Devices with tables, each under a root entry (or half) of its own."""
        assert family is not None
        memory = Memory()
        space = HostSpace(memory, self.config.haw, self.random)
        scalable = kind is ScenarioKind.SCALABLE
        tables = ScalableTables(space) if scalable else LegacyTables(space)
        halves = self.random.sample(range(512 if scalable else 256), self.devices)
        draws = []
        for half in halves:
            if scalable:
                source_id = half << 7 | self.random.getrandbits(7)
            else:
                source_id = half << 8 | self.random.getrandbits(8)
            draws.append(self.draw(tables, family, source_id))
        return Scenario(kind, memory, tables.state, draws)

    def draw(self, tables: ScalableTables | LegacyTables, family: _Family, source_id: int) -> Draw:
        """A sane device (30 %), one with a defect (50 %), or one that is spoiled at random."""
        lot = self.random.random()
        defect = family.defects.draw() if lot < 0.5 else None
        shape = family.shapes.draw() if defect is None else self.random.choice(family.shapes_of(defect))
        with_pasid = self.config.pasid and not shape.legacy and self.random.random() < 0.6
        if defect is not None and defect.pasid is not None:
            with_pasid = defect.pasid
        target = build_target(self.random, self.config, tables, shape, source_id, with_pasid)
        expected: Expectation | None = target.expectation()
        if defect is not None:
            defect.plant(target)
            expected = Expectation(defect.condition)
        elif lot > 0.8:
            expected = self.spoil(target)
        elif lot > 0.78 and not with_pasid:
            expected = self.make_interrupt(target)
        return Draw(target.make_request(), shape, expected)

    def make_interrupt(self, target: Target) -> Expectation:
        """Turn the request into an interrupt, or the zero-length read that is let through beside it."""
        address = INTERRUPT_RANGE + self.random.getrandbits(20)
        access = self.random.choice((Access.WRITE, Access.ZERO_LENGTH_READ))
        target.request |= {"address": address, "access": access, "one_dword": True}
        return Expectation(None, address)

    def spoil(self, target: Target) -> Expectation | None:
        """Invert one to three random bits of the entries on the walk, or ask for a PASID in legacy mode."""
        random = self.random
        if target.legacy is not None and self.config.pasid and random.random() < 0.2:
            target.request["pasid"] = random.getrandbits(20)
            return Expectation("RTA.2")
        places = []
        if target.first is not None:
            places += [place.host for place in target.first_path()]
        if target.second is not None:
            places += [place.host for address in target.second_inputs() for place in target.second_path(address)]
        structures = target.structure_qwords()
        for _ in range(random.choice((1, 1, 2, 3))):
            address = random.choice(places if places and random.random() < 0.6 else structures)
            bit = random.choice((random.randrange(64), random.randrange(12)))
            target.memory.write64(address, target.memory.read64(address) ^ 1 << bit)
        return None


def random_scenarios(random: Random, config: ModelConfig, draws: int, devices: int = 150) -> Iterator[Scenario]:
    """Scenarios with at least ``draws`` requests together.

    Parameters
    ----------
    random : Random
        Source of every choice; the same seed gives the same scenarios.
    config : ModelConfig
        Announced capabilities, which say what is sane.
    draws : int
        Requests wanted over all scenarios.
    devices : int
        Devices, and requests, of one scenario with tables, at most 256.
    """
    scenarios = _Scenarios(random, config, devices)
    while draws > 0:
        scenario = scenarios.next()
        draws -= len(scenario.draws)
        yield scenario
