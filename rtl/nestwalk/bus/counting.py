"""Counters whose direction is known late."""

from amaranth.hdl import C, Cat, Mux, Value

__all__ = ["stepped"]


def stepped(count, up) -> Value:
    """``count`` + 1 where ``up``, else ``count`` - 1, modulo its width. No carry waits for ``up``."""
    bits, result = Value.cast(count), []
    ones = zeros = C(1)
    for bit in bits:
        result.append(bit ^ Mux(up, ones, zeros))
        ones, zeros = ones & bit, zeros & ~bit
    return Cat(result)
