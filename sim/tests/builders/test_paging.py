"""Page tables by hand: what was mapped translates, and everything else does not."""

import pytest

from nestwalk_sim.builders import (
    FirstStageTables,
    HostSpace,
    ScalableTables,
    SecondStageTables,
    decode,
    encode,
    first_stage_fields,
    replace_fields,
    second_stage_fields,
)
from nestwalk_sim.memory import Memory
from nestwalk_sim.model import ModelConfig, Request, Structure, translate

SIZES = (1 << 12, 1 << 21, 1 << 30)
SID = 0x80


def random_address(rng, choices: int, levels: int = 3) -> int:
    """An address with few distinct indices, so that tables are shared and pages are neighbours."""
    return sum(rng.randrange(choices) << 3 + 9 * level for level in range(1, levels + 1))


@pytest.mark.parametrize(
    ("kind", "levels"),
    [
        (SecondStageTables, 3),
        (SecondStageTables, 4),
        (SecondStageTables, 5),
        (FirstStageTables, 4),
        (FirstStageTables, 5),
    ],
)
def test_every_mapping_translates_and_nothing_else_does(rng, kind, levels):
    config, memory = ModelConfig(), Memory()
    space = HostSpace(memory, 52, rng)
    tables, pages = ScalableTables(space), kind(space, levels)
    mappings = {}
    for _ in range(60):
        size = rng.choice(SIZES)
        address = random_address(rng, 5, levels) & -size
        try:
            mappings[address] = pages.map(address, rng.getrandbits(51) & -size | 1 << 51, size)
        except ValueError:
            assert any(m.address < address + size and address < m.address + m.size for m in mappings.values())
    tables.add_device(SID)
    fields = second_stage_fields(pages) if kind is SecondStageTables else first_stage_fields(pages)
    tables.add_pasid(SID, 0, **fields)
    for address, mapping in mappings.items():
        offset = rng.randrange(mapping.size)
        result = translate(memory, tables.state, config, Request(SID, None, address + offset))
        assert (result.granted, result.address) == (True, mapping.target + offset)
        assert result.page_size == mapping.size
    for _ in range(300):
        address = random_address(rng, 6, levels)
        mapped = any(0 <= address - mapping.address < mapping.size for mapping in mappings.values())
        assert translate(memory, tables.state, config, Request(SID, None, address)).granted == mapped


def test_pages_do_not_overlap_and_are_aligned():
    space = HostSpace(Memory())
    tables = SecondStageTables(space, 4)
    tables.map(0, 0, 1 << 21)
    tables.map(1 << 30, 0)
    with pytest.raises(ValueError, match="lies in a larger page"):
        tables.map(0x1000, 0)
    with pytest.raises(ValueError, match="is mapped by smaller pages"):
        tables.map(1 << 30, 0, 1 << 21)
    with pytest.raises(ValueError, match="is not aligned"):
        tables.map(0x1000, 0, 1 << 21)


def test_entries_are_made_from_fields_and_back():
    fields = {"P": 1, "PGTT": 3, "AW": 2, "SSPTPTR": 0x1234_5000, "DID": 0xBEEF, "FSPM": 1, "FSPTPTR": 0xF_0000_1000}
    entry = encode(Structure.PASID_TABLE, **fields)
    assert {name: value for name, value in decode(Structure.PASID_TABLE, entry).items() if value} == fields
    assert entry >> 64 & 0xFFFF == 0xBEEF
    assert entry >> 128 == 1 << 2 | 0xF_0000_1000
    cleared = replace_fields(Structure.PASID_TABLE, entry, FSPTPTR=0, FSPM=0, DID=0)
    assert cleared == 1 | 3 << 6 | 2 << 2 | 0x1234_5000
    with pytest.raises(ValueError, match="does not fit into 16 bits"):
        encode(Structure.PASID_TABLE, DID=1 << 16)
