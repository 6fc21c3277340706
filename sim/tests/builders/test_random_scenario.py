"""Random scenarios: the model agrees with what the builder knows, and every fault condition comes up."""

import pytest

from nestwalk_sim.builders import Coverage, Expectation, random_scenarios
from nestwalk_sim.builders.random_scenario import ScenarioKind
from nestwalk_sim.model import MODEL_PRESETS, AccessKind, ModelConfig, translate

CONFIGURATIONS = {
    "default": (ModelConfig(), 20_000),
    "everything": (
        ModelConfig(
            second_stage_accessed_dirty=True,
            extended_accessed=True,
            memory_type=True,
            pasid_in_translated=True,
            host_permission_tables=True,
            rid_priv=True,
            abort_dma=True,
            version_major=8,
            pasid_bits=16,
        ),
        4000,
    ),
    "narrow": (
        ModelConfig(
            haw=39,
            mgaw=48,
            second_stage_levels=frozenset({4}),
            first_stage_5_level=False,
            first_stage_1g=False,
            second_stage_1g=False,
            snoop_control=False,
            domain_bits=8,
            zero_length_read=False,
        ),
        4000,
    ),
    "bare": (
        ModelConfig(
            supervisor_requests=False,
            page_walk_snoop=False,
            device_tlb=False,
            page_requests=False,
            rid_pasid=False,
            pass_through=False,
            second_stage_2m=False,
            second_stage_1g=False,
        ),
        4000,
    ),
    "formal": (MODEL_PRESETS["FORMAL"], 3000),
    "legacy only": (
        ModelConfig(
            scalable_mode=False,
            first_stage=False,
            nested=False,
            pasid=False,
            supervisor_requests=False,
            page_walk_snoop=False,
            rid_pasid=False,
            page_requests=False,
        ),
        2000,
    ),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_model_gives_what_the_builder_knows(name, rng):
    config, draws = CONFIGURATIONS[name]
    coverage = Coverage(config)
    wrong = []
    for scenario in random_scenarios(rng, config, draws):
        for draw in scenario.draws:
            result = translate(scenario.memory, scenario.state, config, draw.request)
            coverage.record(draw, result)
            found = Expectation(result.fault_condition, result.address, result.page_size)
            if draw.expected is not None and found != draw.expected:
                wrong.append((draw, found))
    assert wrong == []
    assert coverage.missing() == []


def test_requests_of_a_scenario_share_no_table_that_changes(rng):
    """The order in which an engine takes the requests cannot matter."""
    config = ModelConfig()
    scenario = next(s for s in random_scenarios(rng, config, 10**6) if s.kind is ScenarioKind.SCALABLE)
    backwards = scenario.memory.copy()
    results = [translate(scenario.memory, scenario.state, config, draw.request) for draw in scenario.draws]
    reverse = [translate(backwards, scenario.state, config, draw.request) for draw in reversed(scenario.draws)]
    assert results == reverse[::-1]
    assert any(access.kind is AccessKind.UPDATE for result in results for access in result.accesses)
    assert len({draw.request.source_id for draw in scenario.draws}) == len(scenario.draws)


def test_the_seed_decides_everything(seed):
    from random import Random

    def requests():
        return [[draw.request for draw in s.draws] for s in random_scenarios(Random(seed), ModelConfig(), 500)]

    assert requests() == requests()
