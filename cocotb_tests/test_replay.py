"""Captured platforms on the hardware, under easy and hard behaviour of memory and of the requester."""

from dataclasses import replace
from random import Random

import pytest

from nestwalk_sim.capture import CAPTURES, Capture, load_capture
from nestwalk_sim.replay import ReplayReport
from nestwalk_sim.rtl.memory import MemoryTiming, Moment
from nestwalk_sim.rtl.replay import replay_on_rtl
from nestwalk_sim.rtl.unit import Traffic

NAMES = sorted(folder.parent.name for folder in CAPTURES.glob("*/capture.json"))


def check_agreement(report: ReplayReport, capture: Capture):
    """Every probe of the capture was sent and answered as captured."""
    assert report.disagree == []
    assert report.agree == report.requests == capture.requests > 1000
    assert report.cycles > report.requests
    assert report.memory_reads > 0


@pytest.mark.parametrize("name", NAMES)
def test_capture_agrees(name: str):
    capture = load_capture(CAPTURES / name)
    done = []
    report = replay_on_rtl(capture, progress=lambda phase, count, total: done.append((count, total)))
    check_agreement(report, capture)
    assert done[-1] == (capture.requests, capture.requests)


@pytest.mark.parametrize("name", NAMES)
def test_capture_agrees_under_stress(name: str, rng: Random):
    """Latencies differ and answers overtake each other, every channel stalls, exclusive pairs fail now and then."""
    timing = MemoryTiming(
        latency=rng.randint(1, 10),
        jitter=rng.randint(5, 60),
        stall_percent=rng.randint(5, 50),
        interleave=True,
        moment=Moment.RANDOM,
        exclusive_loss_percent=30,
        seed=rng.getrandbits(64),
    )
    traffic = Traffic(
        gap_percent=rng.randint(0, 40), response_stall_percent=rng.randint(5, 50), seed=rng.getrandbits(64)
    )
    capture = load_capture(CAPTURES / name)
    check_agreement(replay_on_rtl(capture, timing=timing, traffic=traffic), capture)


def test_wrong_answers_are_found():
    """Probes that claim another address, page size, permission or fault than the capture do not agree."""
    capture = load_capture(CAPTURES / "sl48")
    probes = capture.phases[0].probes[:200]
    granted = [index for index, probe in enumerate(probes) if probe.granted]
    blocked = [index for index, probe in enumerate(probes) if not probe.granted]
    wrong = {
        granted[0]: {"host_address": 0x1234_5000},
        granted[1]: {"page_size": 1 << 30},
        granted[2]: {"granted": False, "host_address": None},
        blocked[0]: {"granted": True, "host_address": 0x1000},
        blocked[1]: {"fault": 0x01},
    }
    claimed = [probe._replace(**wrong.get(index, {})) for index, probe in enumerate(probes)]
    phase = replace(capture.phases[0], probes=claimed)
    report = replay_on_rtl(replace(capture, phases=[phase]))
    assert report.requests - report.agree == len(report.disagree) == len(wrong)
    expected = [int(str(entry["address"]), 16) for entry in report.disagree]
    assert expected == [probes[index].request.address for index in sorted(wrong)]
