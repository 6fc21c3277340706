"""Short forms for the rows of the register table."""

from .description import Attribute, Field, Register

__all__ = ["RO", "ROS", "RW", "RW1C", "RW1CS", "WO", "event_registers", "field", "register"]

RW, RO, WO, ROS = Attribute.RW, Attribute.RO, Attribute.WO, Attribute.ROS
RW1C, RW1CS = Attribute.RW1C, Attribute.RW1CS


def field(bits: str, name: str, attribute: Attribute, description: str, **more) -> Field:
    """A row of a register: ``bits`` is ``"31"`` or ``"15:8"``."""
    high, _, low = bits.partition(":")
    return Field(name=name, high=int(high), low=int(low or high), attribute=attribute, description=description, **more)


def register(name: str, offset: int, width: int, section: str, description: str, *fields: Field, **more) -> Register:
    return Register(
        name=name, offset=offset, width=width, section=section, description=description, fields=fields, **more
    )


def event_registers(prefix: str, offset: int, section: str, event: str, *, when: str = "") -> tuple[Register, ...]:
    """Control, data and address registers of one event's interrupt message (§1.8, §1.9)."""
    return (
        register(
            f"{prefix}CTL",
            offset,
            32,
            section,
            f"{event} control",
            field("31", "IM", RW, "interrupt mask", reset=1, when=when),
            field("30", "IP", RO, "interrupt pending", when=when),
        ),
        register(
            f"{prefix}DATA",
            offset + 4,
            32,
            section,
            f"{event} message data",
            field("15:0", "IMD", RW, "interrupt message data", when=when),
        ),
        register(
            f"{prefix}ADDR",
            offset + 8,
            32,
            section,
            f"{event} message address",
            field("31:2", "MA", RW, "message address [31:2]", when=when),
        ),
        register(
            f"{prefix}UADDR",
            offset + 12,
            32,
            section,
            f"{event} message upper address",
            field("31:0", "MUA", RW, "message address [63:32]", when=when),
        ),
    )
