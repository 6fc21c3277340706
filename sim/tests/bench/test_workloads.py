"""Small versions of the workloads on the hardware."""

import pytest

from nestwalk_sim.bench.report import BenchReport
from nestwalk_sim.bench.session import WrongAnswer
from nestwalk_sim.bench.simulator import Simulator
from nestwalk_sim.bench.targets import Reference, Sense
from nestwalk_sim.bench.workloads import QUICK
from nestwalk_sim.cli import main

from .broken import NothingBlocked, WrongExpectation

IN_SIMULATION = [name for name in QUICK if name != "simulator"]


def is_possible(value: float, reference: Reference) -> bool:
    """Whether a figure keeps to its physical limit."""
    if reference.limit is None:
        return value > 0
    return value >= reference.limit if reference.sense is not Sense.AT_LEAST else 0 < value <= reference.limit


def check_counters(counts: dict[str, int]):
    """What is counted apart fits together."""
    caches = [name.removesuffix("_lookups") for name in counts if name.endswith("_lookups")]
    assert {"pasid_cache", "structure_cache_1", "nested_tlb", "line_buffer"} < set(caches)
    for cache in caches:
        assert 0 <= counts.get(f"{cache}_hits", 0) <= counts[f"{cache}_lookups"], cache
        assert counts.get(f"{cache}_evictions", 0) <= counts.get(f"{cache}_fills", 0), cache
    walked_for_nobody = counts["prefetches"] - counts["prefetches_cached"] - counts["prefetches_dropped"]
    assert 0 < counts["walks"] <= counts["iotlb_misses"] + walked_for_nobody
    assert counts["walks"] <= counts["reads"]
    assert counts["faults"] == 0


@pytest.mark.parametrize("name", IN_SIMULATION)
def test_figures_are_there_and_possible(name: str, seed: int):
    """Every answer is checked by the workload itself; a figure better than physics would be measured wrongly."""
    report = BenchReport("DEFAULT", seed, quick=True)
    report.add(name, QUICK[name].measure("DEFAULT", seed))
    rows = report.rows(name)
    if name not in ("invalidate_under_load", "races"):  # some of their pages are gone on purpose
        check_counters(report.counters[name])
    assert rows
    assert [row for row in rows if row.value is None or not is_possible(row.value, row.reference)] == []


def test_simulator_is_compared_with_axi_ram(seed: int):
    figures = Simulator(pages=32, requests=128, repetitions=8).measure("TINY", seed).figures
    assert figures["ratio"] > 1
    assert figures["cycles_per_second"] > figures["axi_ram_cycles_per_second"] > 0


def test_same_seed_same_figures():
    first, second = (QUICK["hit_under_miss"].measure("DEFAULT", 7).figures for _ in range(2))
    assert first == second


def test_wrong_answers_end_a_workload(seed: int):
    with pytest.raises(WrongAnswer, match=r"got 0x[0-9a-f]+, not 0x[0-9a-f]+; 1 of 4 answers are wrong"):
        WrongExpectation().measure("DEFAULT", seed)
    with pytest.raises(WrongAnswer, match="granted after its invalidation; 4 of 4"):
        NothingBlocked().measure("DEFAULT", seed)


def test_command_writes_all_results(tmp_path, capsys: pytest.CaptureFixture[str]):
    words = [
        "bench",
        "hit_latency",
        "--quick",
        "--seed",
        "3",
        "--json",
        f"{tmp_path}/b.json",
        "--plots",
        f"{tmp_path}/p",
    ]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "core_cycles" in printed
    assert "targets met" in printed
    assert '"core_cycles"' in (tmp_path / "b.json").read_text()
