"""Numbers as bits of which one is set."""

from amaranth.hdl import Module, Signal, Value

__all__ = ["one_hot"]


def one_hot(m: Module, number: Value, enable: Value, count: int) -> list[Value]:
    """Which of ``count`` things ``number`` names, if ``enable``: decoded in two halves, which are small."""
    low_bits = len(number) // 2
    low, high = number[:low_bits], number[low_bits:]
    columns, rows = Signal(1 << low_bits), Signal(1 << len(high))
    m.d.comb += [columns[place].eq(low == place) for place in range(len(columns))]
    m.d.comb += [rows[place].eq(enable & (high == place)) for place in range(len(rows))]
    return [columns[place % len(columns)] & rows[place // len(columns)] for place in range(count)]
