"""Indices, entry addresses and page addresses of a page walk (§2.9)."""

import operator
from functools import reduce

from amaranth.hdl import C, Cat, Mux, Value

from ..bus.translation import PageSize
from ..config import IommuConfig
from ..formats.first_stage import FirstStageEntry

__all__ = [
    "above_top_level",
    "beyond",
    "first_stage_page",
    "index",
    "leaf_size",
    "next_index",
    "one_of",
    "page_address",
    "top_level",
]


def one_of(choices: list[tuple[Value, Value]]) -> Value:
    """The value whose condition holds, 0 when none does; at most one holds. Shallower than a priority chain."""
    width = max(len(value) for _, value in choices)
    return reduce(
        operator.or_,
        (Cat(value, C(0, width - len(value))) & condition.replicate(width) for condition, value in choices),
    )


def index(address: Value, level: Value) -> Value:
    """9-bit index of ``address`` (57 bits) into the table of ``level`` (1 to 5)."""
    return one_of([(level == n, address[3 + 9 * n : 12 + 9 * n]) for n in range(1, 6)])


def next_index(address: Value, level: Value) -> Value:
    """9-bit index into the table that an entry of ``level`` leads to; the guest caches stand in for one above the top
    level too."""
    return one_of([(level == n + 1, address[3 + 9 * n : 12 + 9 * n]) for n in range(1, 6)])


def top_level(levels: Value) -> Value:
    """Level (3 bits) of the second stage's first table for SAGAW encoding ``levels``: 1 to 3 for 3 to 5 levels."""
    return Cat(levels[0], ~levels[1], levels[1])


def above_top_level(levels: Value) -> Value:
    """`top_level` + 1."""
    return Cat(levels[1] & ~levels[0], levels[1] & levels[0], C(1, 1))


def beyond(cfg: IommuConfig, value: Value, levels: Value) -> Value:
    """Whether the entry ``value`` leads beyond what the second stage with SAGAW encoding ``levels`` translates."""
    return Cat(
        (levels == depth - 2) & value[min(cfg.second_stage_width(depth), 52) : 52].any()
        for depth in sorted(cfg.second_stage_levels)
    ).any()


def leaf_size(level: Value) -> Value:
    """`PageSize` of a leaf at ``level``: 4 KiB at 1, 2 MiB at 2, 1 GiB at 3; 4 KiB at levels that have none."""
    return Cat(level == 2, level == 3)


def page_address(page: Value, address: Value, level: Value) -> Value:
    """Address in the leaf at ``level`` (1 to 3) whose entry holds ``page`` (4 KiB units), at ``address``'s offset."""
    middle = Mux(level == 1, page[:9], address[12:21])
    upper = Mux(level == 3, address[21:30], page[9:18])
    return Cat(address[:12], middle, upper, page[18:])


def first_stage_page(value: Value, level: Value, address: Value) -> Value:
    """The 4 KiB page that a first-stage entry leads to, straight from its bits: on its way are hashes."""
    page, large = value[12:52], FirstStageEntry(value).ps
    of_1g, of_2m = large & (level == 3), large & (level == 2)
    return Cat(Mux(of_1g | of_2m, address[12:21], page[:9]), Mux(of_1g, address[21:30], page[9:18]), page[18:])


assert [PageSize.SIZE_4K.value, PageSize.SIZE_2M.value, PageSize.SIZE_1G.value] == [0, 1, 2]
