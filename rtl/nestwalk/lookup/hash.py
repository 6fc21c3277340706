"""Row hashes of the set-associative caches.

Each way has a hash of its own (a skewed cache), so that keys which collide in one way spread over the others: at a load
of one entry per row and way this loses far fewer entries than one hash for all ways. The hashes are linear
(exclusive-or of key bits). All ways share a digest of twice the row number's width, in which two keys hardly ever
collide, and each mixes its bits in another way, one LUT for each bit of the row number. Consecutive pages lie in
different rows.
"""

import hashlib
import operator
from functools import cache, reduce

from amaranth.hdl import C, Cat, Value

__all__ = ["SPREAD_BITS", "digest", "fold", "row_index"]

SPREAD_BITS = 3
"""Bits of the part of a key that an invalidation does not know; it probes all their values."""

SALT = 17
"""Of some salts the one under which blocks of pages, PASIDs and requesters spread best over 32 to 2048 rows."""

ATTEMPTS = 64
"""Pseudo-random mixings that are tried for each way."""


def fold(value: Value, bits: int) -> Value:
    """Exclusive-or of the ``bits``-wide parts of ``value``."""
    parts = [value[start : start + bits] for start in range(0, len(value), bits)]
    return reduce(operator.xor, parts)[:bits]


def _pseudo_random(purpose: str) -> bytes:
    """32 fixed bytes."""
    return hashlib.sha256(purpose.encode()).digest()


def digest(hashed: Value, *, index_bits: int) -> Value:
    """What the hashes of all ways are made from, 2 * ``index_bits`` bits.

    Parameters
    ----------
    hashed : Value
        The part of the key that invalidations know, lowest page-number bits first. The lowest bits are kept one by
        one; each other one flips one bit of the lower half and one or two of the upper.
    index_bits : int
        log2 of the number of rows.
    """
    taps: list[list[Value]] = [[] for _ in range(2 * index_bits)]
    for position, bit in enumerate(hashed):
        if position < 2 * index_bits:
            taps[position].append(bit)
        else:
            random = _pseudo_random(f"{SALT} bit {position}")
            lower, upper = random[0] % index_bits, {byte % index_bits for byte in random[8:10]}
            for target in (lower, *(index_bits + each for each in upper)):
                taps[target].append(bit)
    return Cat(reduce(operator.xor, bits, C(0, 1)) for bits in taps)


def _rank(rows: list[int]) -> int:
    """Rank of a matrix of bits, given as a number for each row."""
    rank, rest = 0, list(rows)
    while rest:
        pivot = rest.pop()
        if pivot:
            rank += 1
            lowest = pivot & -pivot
            rest = [row ^ pivot if row & lowest else row for row in rest]
    return rank


@cache
def _mixing(way: int, index_bits: int) -> tuple[int, ...]:
    """For each bit of the row number the digest's bits that it is made from: one of the lower half, and one or two of
    the upper.

    Of some pseudo-random choices the one under which two keys that collide in an earlier way are least likely to
    collide in this one.
    """
    earlier = [list(_mixing(other, index_bits)) for other in range(way)]

    def quality(rows: list[int]) -> tuple[int, int]:
        return _rank([row >> index_bits for row in rows]), min((_rank(rows + other) for other in earlier), default=0)

    choices = []
    for attempt in range(ATTEMPTS):
        random = _pseudo_random(f"way {way} of {index_bits} bits, attempt {attempt}")
        order = sorted(range(index_bits), key=lambda position, random=random: random[position])
        rows = [1 << (position - way) % index_bits for position in range(index_bits)]
        for position, upper in enumerate(order):
            second = random[-1 - position] % index_bits
            rows[position] |= 1 << index_bits + upper | 1 << index_bits + second
        choices.append(rows)
    return tuple(max(choices, key=quality))


def row_index(mixed: Value, spread: Value, *, way: int, index_bits: int) -> Value:
    """Row of ``way`` for a key.

    Parameters
    ----------
    mixed : Value
        The key's `digest`.
    spread : Value
        At most `SPREAD_BITS` bits folded from the rest of the key.
    way : int
        Which hash to use.
    index_bits : int
        log2 of the number of rows.
    """
    taps = [[mixed[at] for at in range(2 * index_bits) if row >> at & 1] for row in _mixing(way, index_bits)]
    for position, bit in enumerate(spread):
        taps[(index_bits - 1 - position - 2 * way) % index_bits].append(bit)
    return Cat(reduce(operator.xor, bits) for bits in taps)
