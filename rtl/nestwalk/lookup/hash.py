"""Row hashes of the set-associative caches.

Each way has a hash of its own (a skewed cache), so that keys which collide in one way spread over the others: at a load
of one entry per row and way this loses far fewer entries than one hash for all ways. The hashes are linear
(exclusive-or of fixed key bits), a few LUT levels deep, and keep consecutive pages in different rows.
"""

import hashlib
import operator
from functools import reduce

from amaranth.hdl import C, Cat, Value

__all__ = ["SPREAD_BITS", "fold", "row_index"]

SPREAD_BITS = 4
"""Bits of the part of a key that an invalidation does not know; it probes all their values."""

COLUMN_WEIGHT = 3
"""Index bits that each key bit beyond the lowest flips."""


def fold(value: Value, bits: int) -> Value:
    """Exclusive-or of the ``bits``-wide parts of ``value``."""
    parts = [value[start : start + bits] for start in range(0, len(value), bits)]
    return reduce(operator.xor, parts)[:bits]


def _flipped(way: int, position: int, index_bits: int) -> set[int]:
    """Index bits that key bit ``position`` flips in ``way``: fixed, pseudo-random."""
    digest = hashlib.sha256(f"way {way} bit {position}".encode()).digest()
    return {byte % index_bits for byte in digest[:COLUMN_WEIGHT]}


def row_index(hashed: Value, spread: Value, *, way: int, index_bits: int) -> Value:
    """Row of ``way`` for a key.

    Parameters
    ----------
    hashed : Value
        The part of the key that invalidations know, lowest page-number bits first.
    spread : Value
        At most `SPREAD_BITS` bits folded from the rest.
    way : int
        Which hash to use.
    index_bits : int
        log2 of the number of rows.
    """
    taps: list[list[Value]] = [[] for _ in range(index_bits)]
    for position, bit in enumerate(hashed):
        if position < index_bits:
            taps[(position + way) % index_bits].append(bit)
        else:
            for target in _flipped(way, position, index_bits):
                taps[target].append(bit)
    for position, bit in enumerate(spread):
        taps[(position + 2 * way) % index_bits].append(bit)
    return Cat(reduce(operator.xor, bits, C(0, 1)) for bits in taps)
