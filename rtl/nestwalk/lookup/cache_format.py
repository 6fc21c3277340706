"""What a cache holds and how it is looked up and invalidated, apart from how it is stored.

`BlockCache` and `RegisterCache` store entries; a `CacheFormat` tells them the entry's fields, its lookup tags, its
invalidation tags (§8.1) and its row hash. Comparisons are lists of terms, all of which must hold, so that the stores
can register them half-way.

A fill looks for the entry that it replaces and an invalidation for those that it removes. Both are patterns, values of
tags and which of them count, so that one comparison serves both.
"""

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import ClassVar

from amaranth.hdl import C, Cat, Value
from amaranth.lib import data

from ..bus.counting import exceeds
from .hash import SPREAD_BITS

__all__ = [
    "CHUNK",
    "CacheFormat",
    "ProbePlan",
    "equal_terms",
    "masked",
    "masked_page",
    "select",
    "unmasked",
]

CHUNK = 12
"""Bits compared by one term."""


def equal_terms(left: Value, right: Value, *, unless: Value | None = None) -> list[Value]:
    """``left == right`` as terms of at most `CHUNK` bits; all hold anyway where ``unless`` does."""
    assert len(left) == len(right)
    ignore = C(0, 1) if unless is None else unless
    return [
        (left[start : start + CHUNK] == right[start : start + CHUNK]) | ignore for start in range(0, len(left), CHUNK)
    ]


def unmasked(bits: range, invalidation: data.View, limit: int) -> Value:
    """1 for each of the page number's ``bits`` that the invalidation's address mask, ``limit`` at most, leaves to
    compare; bits from ``limit`` on are left out."""
    return Cat(~exceeds(invalidation.address_mask, bit) for bit in bits if bit < limit)


def select(hits: Value, entries: list[data.View]) -> Value:
    """The entry whose bit of ``hits`` is set, 0 without a hit; at most one bit is set."""
    chosen = (
        Value.cast(entry) & hit.replicate(len(Value.cast(entry))) for hit, entry in zip(hits, entries, strict=True)
    )
    return reduce(operator.or_, chosen)


def masked(page: Value, mask: Value) -> Value:
    """``page`` with those of its lowest bits cleared that ``mask``, which may have no bits, has cleared."""
    return Cat(page[: len(mask)] & mask, page[len(mask) :]) if len(mask) else page


def masked_page(page: Value, pattern: data.View) -> Value:
    """``page`` under the pattern's ``page_mask``, which a pattern of pages larger than any mask does not have."""
    return masked(page, pattern.page_mask) if "page_mask" in dict(pattern.shape()) else page


@dataclass
class ProbePlan:
    """How an invalidation can be served by looking at a few rows instead of all.

    Attributes
    ----------
    useful : Value
        1 bit; where it is 0 all rows are read.
    exceeds : callable
        Whether log2 of the number of different ``hashed`` values to probe is greater than a number.
    hashed : Value
        The hash input of the probe, built from ``step``.
    """

    useful: Value
    exceeds: Callable[[int], Value]
    hashed: Value


class CacheFormat(ABC):
    """Entry, key and tags of a cache.

    Attributes
    ----------
    entry, key : data.StructLayout
        The entry has a member ``valid``.
    pattern : data.StructLayout
        Which entries a fill or an invalidation is about.
    """

    SPREAD_BITS: ClassVar[int] = SPREAD_BITS
    """Bits of the key's hash that invalidations do not know."""

    entry: data.StructLayout
    key: data.StructLayout
    pattern: data.StructLayout

    @abstractmethod
    def key_of(self, entry: data.View) -> dict[str, Value]:
        """The key under which ``entry`` is found."""

    @abstractmethod
    def key_terms(self, entry: data.View, key: data.View) -> list[Value]:
        """Terms that hold together when ``entry`` (apart from ``valid``) answers ``key``."""

    def grant_terms(self, entry: data.View, key: data.View) -> list[Value]:
        """More terms that a look-up needs for a hit, such as the permission for its access.

        A fill replaces an entry of the same key whatever they say.
        """
        return []

    @abstractmethod
    def hashed(self, key: data.View) -> Value:
        """The part of the key that invalidations know, lowest page-number bits first."""

    @abstractmethod
    def spread(self, key: data.View, bits: int) -> Value:
        """The rest of the key, folded to ``bits`` bits."""

    def domain(self, entry: data.View) -> Value:
        """The domain whose fills are kept apart from those of others; only of formats that know one."""
        return entry.domain_id

    @abstractmethod
    def reaches(self, invalidation: data.View) -> Value:
        """Whether ``invalidation`` concerns this cache at all."""

    @abstractmethod
    def fill_pattern(self, entry: data.View) -> dict[str, Value]:
        """Members of the pattern for the entries that answer the same keys as ``entry``; those left out are 0."""

    @abstractmethod
    def invalidation_pattern(self, invalidation: data.View) -> dict[str, Value]:
        """Members of the pattern for the entries that an invalidation that `reaches` this cache removes."""

    @abstractmethod
    def pattern_terms(self, entry: data.View, pattern: data.View) -> list[Value]:
        """Terms that hold together when ``pattern`` is about ``entry`` (apart from ``valid``)."""

    def make_pattern(self, members: dict[str, Value]) -> Value:
        """A pattern from its members."""
        return Cat(
            Value.cast(members[name])[: field.width] if name in members else C(0, field.width)
            for name, field in self.pattern
        )

    def probe(self, invalidation: data.View, step: Value, index_bits: int) -> ProbePlan | None:
        """The rows to look at; None when all rows are read for every invalidation."""
        return None
