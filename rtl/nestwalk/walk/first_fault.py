"""The first of several faults."""

from functools import reduce

from amaranth.hdl import C, Cat, Mux, Value

from ..formats.fault import FaultReason

__all__ = ["first_fault"]


def first_fault(conditions: list[tuple[Value, FaultReason | Value]]) -> tuple[Value, Value]:
    """Code (8 bits) of the first fault whose condition holds, 0 when none does, and whether one does."""

    def before(later, condition):
        holds, reason = condition
        return Mux(holds, Value.cast(reason), later)

    code = reduce(before, reversed(conditions), C(0, 8))
    return code, Cat(holds for holds, _ in conditions).any()
