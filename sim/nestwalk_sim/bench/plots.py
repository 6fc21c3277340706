"""The figures as plots: latency of misses, throughput over tenants, reads per miss."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..errors import UserError
from .report import BenchReport
from .targets import PEER_TENANTS, REFERENCES

__all__ = ["write_plots"]

_OURS, _OTHER, _PEER = "#1f5fa8", "#6fa8dc", "#b5651d"
_STYLE: dict[Any, Any] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.hashsalt": "nestwalk",
}


def write_plots(folder: Path, report: BenchReport) -> list[Path]:
    """Draw what the report's workloads allow, as SVG.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    UserError
        When the folder cannot be written to.
    """
    drawn = {
        "miss_latency": _miss_latency(report),
        "tenants": _tenants(report),
        "reads_per_miss": _reads_per_miss(report),
    }
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, figure in drawn.items():
            if figure is not None:
                paths.append(folder / f"{name}.svg")
                with mpl.rc_context(_STYLE):
                    figure.savefig(paths[-1], metadata={"Date": None})
    except OSError as error:
        raise UserError(f"cannot write plots to {folder}: {error.strerror}") from error
    return paths


def _axes(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.add_subplot()
    axes.set_title(title, loc="left")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes


def _miss_latency(report: BenchReport) -> Figure | None:
    """Histogram of cycles from acceptance to answer of misses, one at a time."""
    histograms: Mapping[str, Mapping[int, int]] = report.histograms.get("warm_walk", {})
    if not histograms:
        return None
    figure, axes = _axes("Latency of first accesses to pages, L = 100", "cycles", "requests")
    axes.hist(
        [list(counts) for counts in histograms.values()],
        bins=60,
        weights=[list(counts.values()) for counts in histograms.values()],
        label=[name.removesuffix("_latency").replace("_", " ") for name in histograms],
        histtype="step",
        linewidth=1.5,
    )
    axes.set_yscale("log")
    axes.legend()
    return figure


def _tenants(report: BenchReport) -> Figure | None:
    """Throughput over the number of tenants, with the peer's."""
    figures = report.workloads.get("tenants", {})
    if not figures:
        return None
    figure, axes = _axes("Uniform random requests, two pages per tenant", "tenants", "requests per 1000 cycles")
    prefix = "requests_per_kcycle_"
    for suffix, label, colour in (("", "L = 30", _OURS), ("_L100", "L = 100", _OTHER)):
        counts = [2**power for power in range(13) if f"{prefix}{2**power}{suffix}" in figures]
        axes.plot(counts, [figures[f"{prefix}{n}{suffix}"] for n in counts], "o-", color=colour, label=label)
    axes.plot(list(PEER_TENANTS), [float(v) for v in PEER_TENANTS.values()], "s--", color=_PEER, label="peer, L = 30")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.legend()
    return figure


def _reads_per_miss(report: BenchReport) -> Figure | None:
    """Reads for each new page, with limit and peer."""
    figures = report.workloads.get("warm_walk", {})
    names = [name for name in REFERENCES["warm_walk"] if name in figures]
    if not names:
        return None
    figure, axes = _axes("Table reads for each new page", "", "reads")
    places = range(len(names))
    columns = (
        ("nestwalk", _OURS, [figures[name] for name in names]),
        ("limit", _OTHER, [REFERENCES["warm_walk"][name].limit or 0 for name in names]),
        ("peer", _PEER, [float(REFERENCES["warm_walk"][name].peer) for name in names]),
    )
    for offset, (label, colour, values) in zip((-0.27, 0.0, 0.27), columns, strict=True):
        bars = axes.bar([place + offset for place in places], values, 0.25, label=label, color=colour)
        axes.bar_label(bars, fmt="%.3g")
    axes.set_xticks(list(places), [name.removesuffix("_reads").replace("_", " ") for name in names])
    axes.legend()
    return figure
