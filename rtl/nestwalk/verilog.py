"""Conversion of a component to plain Verilog with flat port names (``mem_awvalid``, ``request_payload``)."""

import re
from dataclasses import dataclass
from itertools import count

from amaranth.back import verilog
from amaranth.hdl import Signal, Value
from amaranth.lib import wiring

__all__ = ["Port", "convert", "flat_ports"]


@dataclass(frozen=True)
class Port:
    """A port of the converted module: ``direction`` is ``input`` or ``output``, ``width`` in bits."""

    name: str
    direction: str
    width: int


def flat_ports(component: wiring.Component) -> dict[str, tuple[Value, wiring.Flow]]:
    """Every port of ``component`` by its flat name: the path of its members joined by ``_``.

    The constant ``ready`` of an always-ready stream is no port.
    """
    return {
        "_".join(str(part) for part in path): (Value.cast(value), member.flow)
        for path, member, value in component.signature.flatten(component)
        if isinstance(Value.cast(value), Signal)
    }


def convert(component: wiring.Component, *, name: str) -> tuple[str, list[Port]]:
    """Verilog text of ``component`` as module ``name``, and its ports (with ``clk`` and ``rst``).

    The text is the same for every run: it holds no source locations and no private attributes.
    """
    ports = flat_ports(component)
    directions = {wiring.In: "input", wiring.Out: "output"}
    listed = [Port("clk", "input", 1), Port("rst", "input", 1)]
    listed += [Port(port, directions[flow], len(value)) for port, (value, flow) in ports.items()]
    for port, (value, _) in ports.items():
        value.name = port
    text = verilog.convert(
        component,
        name=name,
        ports=[value for value, _ in ports.values()],
        emit_src=False,
        strip_internal_attrs=True,
    )
    return _evaluate_constants(text), listed


def _evaluate_constants(text: str) -> str:
    """Give a trigger to each process that assigns only a constant to a part of a register.

    Yosys writes it as ``always @*`` with nothing to wait for: it never runs, and the part stays unknown in simulation.
    """
    numbers = count()

    def with_trigger(process: re.Match) -> str:
        trigger = f"\\$constant${next(numbers)} "
        indent, assignment = process.groups()
        return (
            f"{indent}reg {trigger}= 0;\n{indent}always @* begin\n{indent}  if ({trigger}) begin end\n"
            f"{indent}  {assignment}\n{indent}end\n"
        )

    return re.sub(r"^( *)always @\*\n +([^\n]+ = \d+'h[0-9a-f]+;)\n", with_trigger, text, flags=re.MULTILINE)
