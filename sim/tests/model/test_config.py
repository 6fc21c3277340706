"""The model announces what the unit of the same preset announces."""

from dataclasses import asdict

import pytest

from nestwalk.config import PRESETS
from nestwalk_sim.model import FAULT_CONDITIONS, MODEL_PRESETS, ModelConfig, model_preset, untranslated_conditions


@pytest.mark.parametrize("name", PRESETS)
def test_presets_announce_the_same(name):
    unit, model = PRESETS[name], MODEL_PRESETS[name]
    announced = asdict(model)
    shared = {key: value for key, value in announced.items() if hasattr(unit, key)}
    assert shared == {key: getattr(unit, key) for key in shared}
    # What the unit's configuration does not even name is fixed for the model.
    rest = announced.keys() - shared.keys()
    assert {key: announced[key] for key in rest} == {key: asdict(ModelConfig())[key] for key in rest}
    assert model_preset(name.lower()) is model


def test_every_code_of_untranslated_requests_is_listed():
    legacy = {*range(0x01, 0x0D), 0x0E}
    scalable = {0x30, 0x31, 0x38, 0x39, 0x3A, *range(0x40, 0x44), 0x45, 0x46, 0x48, 0x50, 0x51, 0x52}
    scalable |= {*range(0x58, 0x5E), *range(0x70, 0x7C), *range(0x80, 0x88), 0x90, 0x91, 0x29} - {0x82}
    found = {FAULT_CONDITIONS[name].code for name in untranslated_conditions(ModelConfig())}
    assert found == legacy | scalable


def test_unqualified_conditions_are_those_of_section_4():
    unqualified = {condition.code for condition in FAULT_CONDITIONS.values() if not condition.qualified}
    root = {0x01, 0x08, 0x09, 0x0A, 0x29, *range(0x30, 0x35), 0x38, 0x39, 0x3A, 0x40, 0x50, 0x58}
    assert unqualified == root
