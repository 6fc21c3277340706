"""Builders of translation tables, sane and malformed, by hand and at random."""

from .coverage import Coverage
from .layouts import LAYOUTS, Field, decode, encode, replace_fields
from .paging import FirstStageTables, GuestSpace, HostSpace, Mapping, PageTables, Place, SecondStageTables
from .random_scenario import Draw, Scenario, ScenarioKind, random_scenarios
from .shapes import Expectation, Shape, legacy_shapes, scalable_shapes
from .structures import (
    LegacyTables,
    ScalableTables,
    change_entry,
    first_stage_fields,
    nested_fields,
    pass_through_fields,
    second_stage_fields,
)

__all__ = [
    "LAYOUTS",
    "Coverage",
    "Draw",
    "Expectation",
    "Field",
    "FirstStageTables",
    "GuestSpace",
    "HostSpace",
    "LegacyTables",
    "Mapping",
    "PageTables",
    "Place",
    "ScalableTables",
    "Scenario",
    "ScenarioKind",
    "SecondStageTables",
    "Shape",
    "change_entry",
    "decode",
    "encode",
    "first_stage_fields",
    "legacy_shapes",
    "nested_fields",
    "pass_through_fields",
    "random_scenarios",
    "replace_fields",
    "scalable_shapes",
    "second_stage_fields",
]
