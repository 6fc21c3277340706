"""Out-of-context builds: what a component costs and how fast it is on a device, without a board's pins.

Yosys synthesizes the component in its `Harness`; nextpnr places and routes it once for each seed; the figures come from
the netlist and from nextpnr's reports. Everything that the tools write stays in one directory.
"""

import json
import os
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from amaranth.back import rtlil
from amaranth.lib import wiring

from nestwalk_sim import tools

from .board import Board
from .harness import Harness

__all__ = ["SEEDS", "Figures", "Leg", "Placement", "build"]

SEEDS = (1, 2, 3)
"""Placer seeds of a full build."""

SYNTHESIS = """\
read_rtlil design.il
chformal -remove
delete t:$print
scratchpad -copy abc9.script.flow3 abc9.script
synth_ecp5 -nowidelut -top top -json netlist.json
"""
"""Properties and messages are for simulation and proofs; what is left becomes cells of the ECP5, with that one of ABC's
scripts which needs the fewest of them."""

MANY_BLOCK_RAMS = 64
"""Around more of them nextpnr's usual placer packs so densely that the router does not find its way; the one that
balances density costs some speed."""

_ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Leg:
    """One leg of a path.

    Parameters
    ----------
    kind : str
        ``clk-to-q``, ``logic``, ``routing`` or ``setup``.
    delay_ns : float
        In nanoseconds.
    start, end : str
        Cell and its port.
    source : str or None
        Python file and line that the driven net comes from, where the tools kept it.
    """

    kind: str
    delay_ns: float
    start: str
    end: str
    source: str | None


@dataclass(frozen=True)
class Placement:
    """What one placer seed reached: the maximum frequency in MHz after routing and the path that limits it."""

    seed: int
    fmax_mhz: float
    critical_path: tuple[Leg, ...]


@dataclass(frozen=True)
class Figures:
    """What a component costs and reaches, its harness left out.

    Parameters
    ----------
    target_mhz : float
        What the placer aimed at.
    lut4 : int
        4-input LUTs that nothing else can use: logic, carry chains (2 each CCU2C), LUT RAM with its write ports.
    ff : int
        Flip-flops.
    bram : int
        Block RAMs of 18 kbit (DP16KD).
    placements : tuple of Placement
        One for each seed, in their order.
    """

    target_mhz: float
    lut4: int
    ff: int
    bram: int
    placements: tuple[Placement, ...]

    @property
    def fmax_mhz(self) -> float:
        """Median over the seeds, in MHz."""
        return statistics.median(placement.fmax_mhz for placement in self.placements)

    @property
    def typical(self) -> Placement:
        """The placement that is nearest to the median."""
        return min(self.placements, key=lambda placement: abs(placement.fmax_mhz - self.fmax_mhz))


def build(
    component: wiring.Component,
    board: Board,
    directory: Path,
    *,
    seeds: Sequence[int] = SEEDS,
    progress: Callable[[str], None] = lambda step: None,
) -> Figures:
    """Synthesizes, places and routes ``component`` out of context for the device of ``board``.

    Parameters
    ----------
    component : wiring.Component
        What is built.
    board : Board
        Gives the device, its speed grade and the target frequency.
    directory : Path
        Working directory, made when missing: ``netlist.json``, ``report-SEED.json`` and the logs of the tools.
    seeds : sequence of int
        Placer seeds; two placements run at once where there are two processors.
    progress : callable
        Told in a few words what happens now.

    Raises
    ------
    ToolMissing, ToolFailed
        If a tool is not installed or ends with an error.
    """
    yosys, nextpnr = tools.yosys(), tools.nextpnr_ecp5()
    directory.mkdir(parents=True, exist_ok=True)
    progress("elaborating")
    (directory / "design.il").write_text(rtlil.convert(Harness(component), name="top"))
    (directory / "synthesis.ys").write_text(SYNTHESIS)
    progress("synthesizing")
    # The quiet option and a log of its own: YoWASP's Yosys loses its redirected standard output after it has run ABC.
    command = [yosys, "-q", "-l", "synthesis.log", "synthesis.ys"]
    tools.run(command, what="synthesis", log=directory / "synthesis.err", cwd=directory)

    netlist = json.loads((directory / "netlist.json").read_text())
    placer = "static" if _block_rams(netlist) > MANY_BLOCK_RAMS else "heap"

    def place(seed: int) -> Placement:
        command = [
            nextpnr,
            *board.nextpnr_options,
            *("--json", "netlist.json", "--report", f"report-{seed}.json", "--freq", str(board.target_mhz)),
            *("--placer", placer, "--seed", str(seed), "--lpf-allow-unconstrained", "--timing-allow-fail"),
        ]
        tools.run(command, what=f"placement with seed {seed}", log=directory / f"nextpnr-{seed}.log", cwd=directory)
        return _placement(seed, json.loads((directory / f"report-{seed}.json").read_text()))

    progress(f"placing and routing, seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}")
    with ThreadPoolExecutor(min(len(seeds), os.cpu_count() or 1)) as pool:
        placements = tuple(pool.map(place, seeds))
    used = json.loads((directory / f"report-{seeds[0]}.json").read_text())["utilization"]
    harness_luts, harness_registers = _harness_cells(netlist)
    return Figures(
        target_mhz=board.target_mhz,
        lut4=used["TRELLIS_COMB"]["used"] + 2 * used["TRELLIS_RAMW"]["used"] - harness_luts,
        ff=used["TRELLIS_FF"]["used"] - harness_registers,
        bram=used["DP16KD"]["used"],
        placements=placements,
    )


def _block_rams(netlist: dict) -> int:
    return sum(cell["type"] == "DP16KD" for cell in netlist["modules"]["top"]["cells"].values())


def _harness_cells(netlist: dict) -> tuple[int, int]:
    """LUTs and flip-flops of the harness: its named registers, and the LUTs that feed its signature."""
    top = netlist["modules"]["top"]
    own = {bit for name in Harness.REGISTERS for bit in top["netnames"][name]["bits"]}
    folded = set(top["netnames"]["signature"]["bits"])

    def pins(kind: str) -> list[dict]:
        return [cell["connections"] for cell in top["cells"].values() if cell["type"] == kind]

    registers = [register for register in pins("TRELLIS_FF") if register["Q"][0] in own]
    fed = {register["DI"][0] for register in registers if register["Q"][0] in folded}
    return sum(lut["Z"][0] in fed for lut in pins("LUT4")), len(registers)


def _placement(seed: int, report: dict) -> Placement:
    (clock,) = report["fmax"].values()
    inside = [path["path"] for path in report["critical_paths"] if path["from"] == path["to"] != "<async>"]
    slowest = max(inside, key=lambda path: sum(leg["delay"] for leg in path))
    return Placement(seed, round(clock["achieved"], 2), tuple(map(_leg, slowest)))


def _leg(leg: dict) -> Leg:
    def pin(end: dict) -> str:
        return f"{end['cell']}.{end['port']}"

    source = _python_line(leg.get("sources", []))
    return Leg(leg["type"], round(leg["delay"], 3), pin(leg["from"]), pin(leg["to"]), source)


def _python_line(sources: list[str]) -> str | None:
    """The first source of Python code, relative to the repository where it lies inside; libraries by package path."""
    for source in sources:
        name, _, line = source.partition(":")
        if name.endswith(".py"):
            path = Path(name)
            inside = path.is_relative_to(_ROOT) and "site-packages" not in path.parts
            return f"{path.relative_to(_ROOT) if inside else Path(*path.parts[-3:])}:{line}"
    return None
