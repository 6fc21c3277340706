"""Targets, table, JSON and plots, from figures made up here."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from nestwalk_sim.bench.plots import write_plots
from nestwalk_sim.bench.report import BenchReport
from nestwalk_sim.bench.session import Outcome
from nestwalk_sim.bench.table import show
from nestwalk_sim.bench.targets import REFERENCES, Reference, Sense, verdict_of
from nestwalk_sim.bench.workloads import LONG, QUICK, WORKLOADS
from nestwalk_sim.cli import main
from nestwalk_sim.errors import UserError

CASES = [
    "pass_through", "first_4k_4", "first_4k_5", "second_4k_4", "second_4k_5",
    "nested_4k_4x4", "nested_4k_5x5", "nested_2m_4x4", "nested_1g_4x4",
]  # fmt: skip

NAMES = {
    "hit_latency": ["core_cycles", "axi_cycles"],
    "hit_throughput": ["requests_per_cycle", "axi_requests_per_cycle"],
    "cold_walk": [f"{c}_{f}" for c in CASES for f in ("L30_cycles", "reads", "overhead_per_read")],
    "warm_walk": ["sequential_reads", "random_1g_reads", "random_64g_reads"],
    "stream": ["requests_per_cycle"],
    "hit_under_miss": ["requests_per_cycle"],
    "tenants": [f"requests_per_kcycle_{n}{s}" for n in (1, 16, 1024, 4096) for s in ("", "_L100")],
    "walks_in_flight": ["walks_per_kcycle_1", "walks_per_kcycle_4", "walks_per_kcycle_16", "efficiency_16"],
    "invalidate_under_load": ["requests_per_cycle", "wait_cycles"],
    "bind_churn": ["binds_per_mcycle", "tenant_requests_per_cycle"],
    "noisy_neighbour": ["victim_ratio_off", "victim_ratio_on"],
    "simulator": ["cycles_per_second", "translations_per_second", "ratio"],
}
"""The figures as the reference's last table spells them."""


def made_up() -> BenchReport:
    report = BenchReport("DEFAULT", 5)
    report.add("hit_latency", Outcome({"core_cycles": 5, "more": 1.5}, notes=["a note"]))
    warm = Outcome({"sequential_reads": 0.31, "random_1g_reads": 2.1, "random_64g_reads": 5.5})
    warm.count("sequential_latency", [100, 300, 100])
    report.add("warm_walk", warm)
    report.add("tenants", Outcome({f"requests_per_kcycle_{n}{s}": 950.0 for n in (1, 64) for s in ("", "_L100")}))
    return report


def test_every_figure_of_the_reference_is_known():
    assert list(WORKLOADS) == list(QUICK)
    assert set(WORKLOADS) == set(REFERENCES) == {*NAMES, *LONG}
    assert [name for w, names in NAMES.items() for name in names if name not in REFERENCES[w]] == []


@pytest.mark.parametrize(
    ("value", "reference", "met", "text"),
    [
        (0.99, Reference(target=0.99), True, "met"),
        (0.891, Reference(target=0.99), False, "missed by 0.099 (10%)"),
        (4, Reference(target=6, stretch=4, sense=Sense.AT_MOST), True, "met, stretch too"),
        (5, Reference(target=6, stretch=4, sense=Sense.AT_MOST), True, "met"),
        (9, Reference(target=6, sense=Sense.AT_MOST), False, "missed by 3 (50%)"),
        (27, Reference(target=28, sense=Sense.EXACTLY), False, "missed by 1 (4%)"),
        (None, Reference(target=28), False, "missed: not measured"),
        (3, Reference(limit=1), None, ""),
    ],
)
def test_verdicts(value: float | None, reference: Reference, met: bool | None, text: str):
    assert verdict_of(value, reference) == (met, text)


def test_missing_figures_are_missed_targets():
    report = made_up()
    assert (report.targets, report.met) == (2 + 3 + 4, 1 + 2 + 4)
    assert [row.figure for row in report.rows("hit_latency")] == ["core_cycles", "axi_cycles", "more"]


def test_table_names_figures_verdicts_and_notes():
    text = io.StringIO()
    show(Console(file=text, width=130), made_up())
    lines = text.getvalue().splitlines()
    assert "missed by 0.01 (3%)" in next(line for line in lines if "sequential_reads" in line)
    assert "missed: not measured" in next(line for line in lines if "axi_cycles" in line)
    assert "hit_latency: a note" in lines
    assert lines[-1] == "7 of 9 targets met"


def test_json_has_the_figures():
    stored = json.loads(json.dumps(made_up().as_dict()))
    assert stored["preset"] == "DEFAULT"
    assert stored["workloads"]["warm_walk"]["sequential_reads"] == 0.31
    assert stored["histograms"]["warm_walk"]["sequential_latency"] == {"100": 2, "300": 1}


def test_plots_are_drawn_where_there_are_figures(tmp_path: Path):
    drawn = write_plots(tmp_path / "all", made_up())
    assert sorted(path.name for path in drawn) == ["miss_latency.svg", "reads_per_miss.svg", "tenants.svg"]
    assert all(path.read_text().startswith("<?xml") for path in drawn)
    assert write_plots(tmp_path / "none", BenchReport("DEFAULT", 1)) == []
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write plots"):
        write_plots(tmp_path / "file", made_up())


def test_bad_input_is_one_line(capsys: pytest.CaptureFixture[str]):
    assert main(["bench", "warm_milk"]) == 2
    assert capsys.readouterr().err.startswith("nestwalk: unknown workload 'warm_milk': choose of hit_latency, ")
    assert main(["bench", "--preset", "HUGE"]) == 2
    assert capsys.readouterr().err.startswith("nestwalk: unknown preset 'HUGE'")
