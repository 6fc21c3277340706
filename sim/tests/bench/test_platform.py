"""What the workloads expect is what the golden model finds in their tables."""

from random import Random

import numpy as np
import pytest

from nestwalk_sim.bench.cold_walk import CASES, Case, build
from nestwalk_sim.bench.platform import GIB, MIB, Platform, Requests
from nestwalk_sim.bench.stream import LINE, sequential
from nestwalk_sim.bench.tenants import lru_misses
from nestwalk_sim.memory import PAGE_SIZE
from nestwalk_sim.model import AccessKind, ModelConfig, Request, Result, Structure, translate


def translate_all(platform: Platform, requests: Requests) -> list[Result]:
    asked = [Request(int(r["source_id"]), int(r["pasid"]), int(r["address"])) for r in requests.records]
    return [translate(platform.memory, platform.tables.state, ModelConfig(), request) for request in asked]


def test_tenants_translate_as_built(seed: int):
    platform = Platform(f"{seed}")
    source_id, guest = platform.add_device(), platform.add_guest()
    tenants = [platform.add_tenant(source_id, guest), platform.add_tenant(source_id, guest), platform.add_tenant()]
    requests = Requests.gather([tenant.map_scattered(64 * GIB, 20) for tenant in tenants])
    results = translate_all(platform, requests)
    assert [result.address for result in results] == requests.hosts.tolist()
    assert len(set(requests.hosts.tolist())) == 60
    assert {(int(r["source_id"]), int(r["pasid"])) for r in requests.records} == {
        (tenant.source_id, tenant.pasid) for tenant in tenants
    }


def test_sequential_requests_cover_every_line(seed: int):
    platform = Platform(f"{seed}")
    requests = sequential(platform.add_tenant().map_pages(2 * MIB, range(3)))
    assert (np.diff(requests.records["address"].astype(np.int64)) == LINE).all()
    assert len(requests) == 3 * PAGE_SIZE // LINE
    assert [result.address for result in translate_all(platform, requests)] == requests.hosts.tolist()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_cold_walks_need_the_reads_of_the_reference(case: Case, seed: int):
    """No second-stage entry serves two walks of a request, so that nothing can be saved."""
    platform = Platform(f"{seed}")
    request = build(case, platform)
    result = translate_all(platform, request)[0]
    reads = [access for access in result.accesses if access.kind is AccessKind.READ]
    assert result.address == request.hosts[0]
    assert len(reads) == case.reads
    below_top = [
        access.address for access in reads if access.structure is Structure.SECOND_STAGE and access.level < case.second
    ]
    assert len(set(below_top)) == len(below_top)


def test_same_seed_same_platform(seed: int):
    first, second, other = (
        Platform(f"{number}").add_tenant().map_scattered(GIB, 8) for number in (seed, seed, seed + 1)
    )
    assert (first.records == second.records).all()
    assert (first.hosts == second.hosts).all()
    assert not (first.records == other.records).any()


def test_lru_misses_counts_as_a_list_does(rng: Random):
    sequence = [rng.randrange(40) for _ in range(2000)]
    recent: list[int] = []
    missed = 0
    for number, item in enumerate(sequence):
        missed += item not in recent and number >= 500
        recent = [item, *(other for other in recent if other != item)][:25]
    assert lru_misses(np.array(sequence), 500, 25) == missed / 1500
