"""Table and page steps against the golden model, one entry after the other."""

from collections import Counter

from nestwalk.config import preset
from nestwalk_sim.builders import Coverage, HostSpace, ScalableTables, random_scenarios
from nestwalk_sim.builders.page_requesters import random_page_requesters
from nestwalk_sim.memory import Memory
from nestwalk_sim.model import (
    AccessKind,
    AddressType,
    ModelConfig,
    PageRequest,
    Request,
    Result,
    UnitState,
    accept_page_request,
    model_preset,
    page_request_conditions,
    translate,
)
from rtl.tests.simulation import simulate
from rtl.tests.walk.steps import Steps, accesses_of, compare_outcome


class RandomWalks:
    """Random scenarios; of each kind of outcome the first walks, and then some."""

    def __init__(self, steps: Steps, model: ModelConfig, rng):
        self.steps, self.model, self.rng = steps, model, rng
        self.coverage = Coverage(model)
        self.kinds: Counter = Counter()
        self.walks = 0

    async def check(self, ctx, draws: int):
        for scenario in random_scenarios(self.rng, self.model, draws, devices=60):
            twin = scenario.memory.copy()
            for draw in scenario.draws:
                result = translate(scenario.memory, scenario.state, self.model, draw.request)
                self.coverage.record(draw, result)
                kind = result.fault_condition or draw.shape
                self.kinds[kind] += 1
                wanted = self.kinds[kind] < 3 or self.rng.random() < 0.1
                # Without translation a request never meets the walker.
                if wanted and scenario.state.translation_enabled:
                    self.walks += 1
                    compare_outcome(await self.steps.walk(ctx, twin, scenario.state, draw.request), result)
                else:
                    apply_updates(twin, result)
            assert twin.image() == scenario.memory.image()


def apply_updates(memory: Memory, result: Result):
    for access in result.accesses:
        if access.kind is AccessKind.UPDATE and not access.failed:
            memory.write64(access.address, access.new_value)


def test_random_walks_of_every_shape_and_fault(rng):
    steps = Steps(preset("TINY"))
    walks = RandomWalks(steps, model_preset("TINY"), rng)

    async def testbench(ctx):
        await walks.check(ctx, 2500)

    simulate(steps.module, testbench, limit=1_000_000)
    print(f"{walks.walks} walks")
    assert [name for name in walks.coverage.missing() if not name.startswith("access")] == []


def test_random_walks_of_units_that_announce_less(rng):
    """Other widths, levels and features: what is reserved, in range and supported follows the configuration."""
    changes = [
        {"haw": 40, "mgaw": 48, "second_stage_levels": frozenset({4}), "first_stage_5_level": False},
        {"zero_length_read": False, "snoop_control": False, "page_walk_snoop": False, "domain_bits": 8},
        {"second_stage_1g": False, "first_stage_1g": False, "pasid_bits": 16, "supervisor_requests": False},
        {"nested": False, "pass_through": False, "version_major": 8, "rid_pasid": False},
    ]
    faults = set()
    for change in changes:
        steps = Steps(preset("TINY").replace(**change))
        walks = RandomWalks(steps, model_preset("TINY").replace(**change), rng)

        async def testbench(ctx, walks=walks):
            await walks.check(ctx, 200)

        simulate(steps.module, testbench, limit=1_000_000)
        faults |= {kind for kind in walks.kinds if isinstance(kind, str)}
    assert len(faults) > 40


def test_page_requests_end_at_the_pasid_entry(rng):
    """Every fault of §4 that page requests meet, with and without PASID; what is accepted is granted, not cached."""
    steps, model = Steps(preset("DEFAULT")), model_preset("DEFAULT")
    met = set()

    async def check(ctx, memory: Memory, state: UnitState, request: PageRequest):
        verdict = accept_page_request(memory, state, model, request)
        outcome = await steps.walk(ctx, memory, state, request)
        assert outcome.accesses == accesses_of(verdict.accesses)
        assert outcome.granted == verdict.accepted
        assert not (outcome.granted and outcome.cached)
        if not verdict.accepted:
            assert (outcome.fault, outcome.recorded) == (verdict.fault or 0, verdict.recorded), verdict.fault_condition
        met.add((verdict.fault_condition, request.pasid is not None))

    async def testbench(ctx):
        for _ in range(2):
            memory = Memory()
            tables = ScalableTables(HostSpace(memory, model.haw, rng))
            for device in random_page_requesters(rng, model, tables, sane=40, faulty=80):
                await check(ctx, memory, tables.state, device.request(rng, group=0, last=True))
            for ttm, root, enabled in ((0, 0x1000, 1), (2, 0x1000, 1), (3, 0x1000, 1), (1, 0x1000, 1), (1, 0x1000, 0)):
                for pasid in (None, 0xFFFFF):
                    request = PageRequest(0x1234, pasid, rng.getrandbits(52) << 12, True, True, True, 1, True, True)
                    await check(ctx, Memory(), UnitState(bool(enabled), root, ttm), request)

    simulate(steps.module, testbench, limit=1_000_000)
    assert {condition for condition, _ in met} == page_request_conditions(model) | {None}
    with_pasid_only = {"SCT.6", "SCT.7", "SCT.9"}
    assert len(met) == 2 * (len(page_request_conditions(model)) + 1) - len(with_pasid_only)


def test_translation_and_translated_requests_end_before_they_read(rng):
    """Nobody answers them without an ATS port: blocked, unrecorded, whatever the tables say."""
    steps = Steps(preset("TINY"))

    async def testbench(ctx):
        for address_type in (AddressType.TRANSLATION_REQUEST, AddressType.TRANSLATED):
            for ttm in range(4):
                request = Request(rng.getrandbits(16), None, rng.getrandbits(48), address_type=address_type)
                outcome = await steps.walk(ctx, Memory(), UnitState(True, 0x1000, ttm), request)
                assert (outcome.granted, outcome.fault, outcome.recorded, outcome.accesses) == (False, 0, False, [])

    simulate(steps.module, testbench)
