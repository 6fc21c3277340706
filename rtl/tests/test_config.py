"""`IommuConfig` and `CacheShape`: what is refused, in which words; presets; what other code derives from them."""

import json
from dataclasses import fields

import pytest

from nestwalk.config import PRESETS, CacheShape, IommuConfig, preset

NO_SECOND_STAGE = {
    "second_stage": False,
    "nested": False,
    "second_stage_2m": False,
    "second_stage_1g": False,
    "second_stage_levels": frozenset(),
}
NO_FIRST_STAGE = {
    "first_stage": False,
    "nested": False,
    "first_stage_5_level": False,
    "first_stage_1g": False,
}

FORBIDDEN = [
    ({"haw": 31}, "haw is 32 to 52 bits, not 31"),
    ({"haw": 53}, "haw is 32 to 52 bits, not 53"),
    ({"haw": 48, "mgaw": 47}, "mgaw is haw (48) to 57 bits, not 47"),
    ({"mgaw": 58}, "mgaw is haw (52) to 57 bits, not 58"),
    ({"pasid_bits": 0}, "pasid_bits is 1 to 20, not 0"),
    ({"pasid_bits": 21}, "pasid_bits is 1 to 20, not 21"),
    ({"domain_bits": 3}, "domain_bits is an even number from 4 to 16, not 3"),
    ({"domain_bits": 9}, "domain_bits is an even number from 4 to 16, not 9"),
    ({"domain_bits": 18}, "domain_bits is an even number from 4 to 16, not 18"),
    ({"max_address_mask": 53}, "max_address_mask is 0 to 52, not 53"),
    ({"fault_records": 0}, "fault_records is 1 to 256, not 0"),
    ({"fault_records": 257}, "fault_records is 1 to 256, not 257"),
    ({"mem_data_width": 64}, "mem_data_width is 128, 256 or 512, not 64"),
    ({"data_width": 96}, "data_width is 32, 64, 128, 256 or 512, not 96"),
    ({"walk_slots": 1}, "walk_slots is 2 to 32, not 1"),
    ({"walk_slots": 33}, "walk_slots is 2 to 32, not 33"),
    ({"walk_slots": 16, "id_width": 4}, "id_width 4 cannot name 16 walk slots and 4 queues"),
    ({"waiting_misses": 32}, "waiting_misses is 0 or a power of two of at least 64, not 32"),
    ({"waiting_misses": 100}, "waiting_misses is 0 or a power of two of at least 64, not 100"),
    ({"prefetch_streams": 3}, "prefetch_streams is 0 or a power of two of 2 to 16, not 3"),
    ({"prefetch_pages": 0}, "prefetch_pages is 1 to 15, not 0"),
    ({"waiting_misses": 0}, "prefetch_streams needs waiting_misses"),
    (
        {"waiting_misses": 0, "prefetch_streams": 0, "walk_slot_limit": True},
        "walk_slot_limit needs waiting_misses",
    ),
    ({"tag_width": 0}, "tag_width is 1 to 16, not 0"),
    ({"tag_width": 17}, "tag_width is 1 to 16, not 17"),
    ({"pasid_cache": None}, "pasid_cache cannot be left out"),
    ({"iotlb_1g_entries": -1}, "iotlb_1g_entries is at least 0, not -1"),
    ({"line_buffer_lines": 48}, "line_buffer_lines is 0 or a power of two from 2 to 1024, not 48"),
    ({"line_buffer_lines": 1}, "line_buffer_lines is 0 or a power of two from 2 to 1024, not 1"),
    ({"scalable_mode": False}, "first_stage needs scalable_mode"),
    ({"scalable_mode": False} | NO_FIRST_STAGE, "page_walk_snoop needs scalable_mode"),
    ({"scalable_mode": False, "page_walk_snoop": False} | NO_FIRST_STAGE, "supervisor_requests needs scalable_mode"),
    (
        {"scalable_mode": False, "page_walk_snoop": False, "supervisor_requests": False} | NO_FIRST_STAGE,
        "rid_pasid needs scalable_mode",
    ),
    (
        {"scalable_mode": False, "page_walk_snoop": False, "supervisor_requests": False, "rid_pasid": False}
        | NO_FIRST_STAGE,
        "page_requests needs scalable_mode",
    ),
    ({"first_stage": False}, "first_stage_5_level needs first_stage"),
    ({"first_stage": False, "first_stage_5_level": False}, "first_stage_1g needs first_stage"),
    (NO_FIRST_STAGE | {"nested": True}, "nested needs first_stage"),
    (NO_FIRST_STAGE | {"extended_accessed": True}, "extended_accessed needs first_stage"),
    (NO_SECOND_STAGE | {"nested": True}, "nested needs second_stage"),
    (NO_SECOND_STAGE | {"second_stage_2m": True}, "second_stage_2m needs second_stage"),
    (
        NO_SECOND_STAGE | {"second_stage_accessed_dirty": True},
        "second_stage_accessed_dirty needs second_stage",
    ),
    ({"second_stage_2m": False}, "second_stage_1g needs second_stage_2m"),
    ({"extended_accessed": True, "page_walk_snoop": False}, "extended_accessed needs page_walk_snoop"),
    (
        {"second_stage_accessed_dirty": True, "page_walk_snoop": False},
        "second_stage_accessed_dirty needs page_walk_snoop",
    ),
    ({"device_tlb": False}, "page_requests needs device_tlb"),
    (NO_FIRST_STAGE | NO_SECOND_STAGE, "at least one of first_stage and second_stage is needed"),
    ({"second_stage_levels": frozenset()}, "second_stage_levels are of 3, 4 and 5, not []"),
    ({"second_stage_levels": frozenset({4, 6})}, "second_stage_levels are of 3, 4 and 5, not [4, 6]"),
    (
        NO_SECOND_STAGE | {"second_stage_levels": frozenset({4})},
        "second_stage_levels are none without second_stage, not [4]",
    ),
]


@pytest.mark.parametrize(("changes", "message"), FORBIDDEN, ids=[message for _, message in FORBIDDEN])
def test_refuses_in_one_clear_line(changes, message):
    with pytest.raises(ValueError) as refusal:
        IommuConfig(**changes)
    assert str(refusal.value) == message


@pytest.mark.parametrize(
    "changes",
    [
        NO_FIRST_STAGE,
        NO_SECOND_STAGE,
        {"haw": 32, "mgaw": 32, "tag_width": 16, "walk_slots": 32, "fault_records": 256},
        NO_FIRST_STAGE
        | {
            "scalable_mode": False,
            "page_walk_snoop": False,
            "supervisor_requests": False,
            "rid_pasid": False,
            "page_requests": False,
        },
        {"extended_accessed": True, "second_stage_accessed_dirty": True},
        {"context_cache": None, "structure_cache_2": None, "nested_tlb": None, "second_stage_cache_1": None},
    ],
)
def test_accepts_what_the_specification_allows(changes):
    cfg = IommuConfig().replace(**changes)
    assert {name: getattr(cfg, name) for name in changes} == changes


@pytest.mark.parametrize("sets", [-4, 0, 1, 3, 48])
def test_cache_sets_are_a_power_of_two_of_at_least_2(sets):
    with pytest.raises(ValueError, match=f"^a cache has a power of two of at least 2 sets, not {sets}$"):
        CacheShape(sets=sets, ways=2)


@pytest.mark.parametrize("ways", [-1, 0, 3])
def test_cache_ways_are_a_power_of_two(ways):
    with pytest.raises(ValueError, match=f"^a cache has a power of two of ways, not {ways}$"):
        CacheShape(sets=2, ways=ways)


def test_replacing_fields_validates_again():
    cfg = preset("default").replace(haw=40, mgaw=48)
    assert (cfg.haw, cfg.mgaw, cfg.walk_slots) == (40, 48, preset("DEFAULT").walk_slots)
    with pytest.raises(ValueError, match="mgaw is haw"):
        cfg.replace(haw=50)


def test_presets_by_name():
    assert all(preset(name.lower()) is PRESETS[name] for name in PRESETS)
    with pytest.raises(ValueError, match="^unknown preset 'HUGE': choose one of DEFAULT, FULL, TINY, FORMAL$"):
        preset("HUGE")


def test_what_the_presets_announce():
    """The shape that design contract and issue fix for DEFAULT and FULL, and what TINY leaves out."""
    for name in ("DEFAULT", "FULL"):
        cfg = preset(name)
        assert (cfg.haw, cfg.mgaw, cfg.sagaw, cfg.pasid_bits, cfg.domain_bits) == (52, 57, 0b01110, 20, 16)
        assert cfg.max_address_mask >= 18
        assert all(value for field, value in cfg.as_dict().items() if field in ANNOUNCED)
    tiny = preset("TINY")
    assert (tiny.device_tlb, tiny.page_requests, tiny.counters) == (False, False, False)
    assert tiny.walk_slots <= 2
    assert (tiny.context_cache, tiny.structure_cache_1, tiny.nested_tlb) == (None, None, None)


ANNOUNCED = {
    "scalable_mode", "first_stage", "second_stage", "nested", "pass_through", "first_stage_5_level", "first_stage_1g",
    "second_stage_2m", "second_stage_1g", "snoop_control", "supervisor_requests", "page_walk_snoop", "rid_pasid",
    "device_tlb", "page_requests",
}  # fmt: skip


@pytest.mark.parametrize("name", PRESETS)
def test_parameters_survive_json(name):
    cfg = preset(name)
    read = json.loads(json.dumps(cfg.as_dict()))
    assert read.keys() == {field.name for field in fields(cfg)}
    shapes = {key: CacheShape(**value) for key, value in read.items() if isinstance(value, dict)}
    levels = {"second_stage_levels": frozenset(read["second_stage_levels"])}
    assert IommuConfig(**(read | shapes | levels)) == cfg


def test_derived_widths():
    cfg = IommuConfig(haw=46, mgaw=48, second_stage_levels=frozenset({3, 5}))
    assert cfg.page_bits == 34
    assert cfg.sagaw == 0b1010
    assert [cfg.second_stage_width(levels) for levels in (3, 4, 5)] == [39, 48, 48]
    assert CacheShape(sets=8, ways=4).entries == 32
