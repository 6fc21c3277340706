"""Values and sentences that specifications are written with. The only file that knows `amaranth.asserts`."""

from amaranth.asserts import AnyConst, AnySeq
from amaranth.hdl import Module, Shape, Signal, Value

__all__ = ["anything", "constant", "free", "held_until_taken", "implies", "past", "since"]


def constant(m: Module, shape, name: str):
    """A value that is arbitrary but never changes."""
    chosen = Signal(shape, name=name)
    m.d.comb += Value.cast(chosen).eq(AnyConst(Shape.cast(shape)))
    return chosen


def anything(m: Module, shape):
    """A value that is arbitrary in each cycle."""
    chosen = Signal(shape)
    free(m, chosen)
    return chosen


def free(m: Module, *signals) -> None:
    """Drives each signal with a value that is arbitrary in each cycle."""
    for signal in signals:
        target = Value.cast(signal)
        m.d.comb += target.eq(AnySeq(target.shape()))


def past(m: Module, value, cycles: int = 1):
    """``value`` as it was ``cycles`` cycles ago; 0 before that and after a reset."""
    for _ in range(cycles):
        held = Signal(value.shape())
        m.d.sync += held.eq(value)
        value = held
    return value


def implies(condition, consequence) -> Value:
    """``condition`` only together with ``consequence``."""
    return ~Value.cast(condition).any() | Value.cast(consequence).any()


def held_until_taken(m: Module, port) -> Value:
    """What the source of a stream promises: an item that was offered stays, unchanged, until it is taken."""
    waiting, item = past(m, port.valid & ~port.ready), past(m, Value.cast(port.payload))
    return implies(waiting, port.valid & (Value.cast(port.payload) == item))


def since(m: Module, event) -> Value:
    """Whether ``event`` happened in an earlier cycle."""
    seen = Signal()
    with m.If(event):
        m.d.sync += seen.eq(1)
    return seen
