"""A model of block RAM for proofs, which promises no more than the hardware does."""

from amaranth.hdl import Array, Module, Mux, Signal, Value
from amaranth.lib.memory import Memory

from .lib import anything

__all__ = ["Platform"]


class Platform:
    """What components are elaborated for: each memory becomes one register per row, which a specification can look at.

    Rows and read data have no reset. A synchronous read of a row that is written at the same time returns anything
    when the memory's attribute ``no_rw_check`` says that nobody relies on it.
    """

    def __init__(self):
        self._rows: dict[int, list] = {}

    def rows(self, memory: Memory) -> list:
        """The contents of ``memory``, row by row."""
        if id(memory) not in self._rows:
            self._rows[id(memory)] = [
                Signal(memory.shape, init=init, reset_less=True, name=f"row_{number}")
                for number, init in enumerate(memory.init)
            ]
        return self._rows[id(memory)]

    def get_memory(self, memory: Memory):
        """The hook of `amaranth.lib.memory.Memory`."""
        m = Module()
        rows = [Value.cast(row) for row in self.rows(memory)]
        for number, row in enumerate(rows):
            for port in memory.write_ports:
                with m.If(port.en & (port.addr == number)):
                    m.d.sync += row.eq(Value.cast(port.data))
        for index, port in enumerate(memory.read_ports):
            stored, target = Array(rows)[port.addr], Value.cast(port.data)
            if port.domain == "comb":
                m.d.comb += target.eq(stored)
                continue
            clash = Value.cast(0)
            for write in memory.write_ports:
                clash = clash | (write.en & (write.addr == port.addr))
            undefined = clash if memory.attrs.get("no_rw_check") else 0
            held = Signal(target.shape(), reset_less=True, name=f"read_{index}")
            m.d.comb += target.eq(held)
            with m.If(port.en):
                m.d.sync += held.eq(Mux(undefined, anything(m, target.shape()), stored))
        return m
