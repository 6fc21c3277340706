"""Counters and comparisons without carries."""

from amaranth.hdl import Array, C, Cat, Mux, Value

__all__ = ["exceeds", "ones", "stepped"]


def stepped(count, up) -> Value:
    """``count`` + 1 where ``up``, else ``count`` - 1, modulo its width. No carry waits for ``up``."""
    bits, result = Value.cast(count), []
    ones = zeros = C(1)
    for bit in bits:
        result.append(bit ^ Mux(up, ones, zeros))
        ones, zeros = ones & bit, zeros & ~bit
    return Cat(result)


def ones(bits: Value) -> Value:
    """How many of ``bits`` are set: a LUT for each bit of the number of four, and a tree of small sums."""
    if len(bits) <= 4:
        return Array(C(number.bit_count(), 3) for number in range(1 << len(bits)))[bits]
    middle = (len(bits) + 1) // 2
    return ones(bits[:middle]) + ones(bits[middle:])


def exceeds(value, constant: int) -> Value:
    """Whether ``value``, unsigned, is greater than ``constant``."""
    bits = Value.cast(value)
    if constant < 0:
        return C(1, 1)
    if constant >> len(bits):
        return C(0, 1)
    result = C(0, 1)
    for place, bit in enumerate(bits):
        result = bit & result if constant >> place & 1 else bit | result
    return result
