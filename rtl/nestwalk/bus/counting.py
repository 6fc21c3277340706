"""Counters and comparisons without carries."""

from amaranth.hdl import C, Cat, Mux, Value

__all__ = ["exceeds", "stepped"]


def stepped(count, up) -> Value:
    """``count`` + 1 where ``up``, else ``count`` - 1, modulo its width. No carry waits for ``up``."""
    bits, result = Value.cast(count), []
    ones = zeros = C(1)
    for bit in bits:
        result.append(bit ^ Mux(up, ones, zeros))
        ones, zeros = ones & bit, zeros & ~bit
    return Cat(result)


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
