"""Random translations on the hardware, compared with the golden model."""

import random
from collections import Counter
from collections.abc import Iterator

import cocotb
import numpy as np

from nestwalk_sim.builders import Coverage, Scenario, random_scenarios
from nestwalk_sim.memory import PAGE_SIZE
from nestwalk_sim.model import Access, Request, Result, translate
from nestwalk_sim.rtl.driver import Driver
from nestwalk_sim.rtl.unit import Bench, Traffic

from .expectations import compare_answer, compare_walk, expected_record, walk_transfers
from .session import CONFIG, MODEL, count_of, load, random_timing, rng_of, start

LINE_WIDTH = CONFIG.mem_data_width // 8 if CONFIG.line_buffer_lines else None
"""Bytes of a beat, if there is a line buffer."""

SHOWN = 5
"""Problems that a failure shows."""


def batches_of(scenario: Scenario, results: list[Result]) -> Iterator[slice]:
    """Consecutive requests that together leave no more faults than there are records."""
    first = faults = 0
    for index, (draw, result) in enumerate(zip(scenario.draws, results, strict=True)):
        faults += expected_record(draw.request, result) is not None
        if faults > CONFIG.fault_records:
            yield slice(first, index)
            first, faults = index, 1
    yield slice(first, len(results))


class Comparison:
    """A unit and what it did wrong.

    ``problems`` is readable; ``requests`` counts those compared.
    """

    def __init__(self, bench: Bench, driver: Driver):
        self.bench, self.driver = bench, driver
        self.problems: list[str] = []
        self.requests = 0

    def compare_answers(self, requests: list[Request], results: list[Result], answers: np.ndarray) -> None:
        for request, result, answer in zip(requests, results, answers, strict=True):
            problem = compare_answer(answer, result)
            if problem:
                self.problems.append(f"{request}: {problem}")
        self.requests += len(requests)

    def compare_memory(self, scenario: Scenario) -> None:
        """Memory is what the model left: the same accessed and dirty bits, and nothing else written."""
        image = self.bench.memory.image()
        for address, content in scenario.memory.image().items():
            if image.pop(address) != content:
                self.problems.append(f"the page at {address:#x} differs")
        self.problems += [f"the page at {address:#x} is new" for address in image]


class ColdWalks(Comparison):
    """One request after the other, nothing of it cached: every access in its order and every fault record."""

    def __init__(self, bench: Bench, driver: Driver):
        super().__init__(bench, driver)
        self.coverage = Coverage(MODEL)

    async def run(self, scenario: Scenario) -> None:
        await load(self.bench, self.driver, scenario)
        results = [translate(scenario.memory, scenario.state, MODEL, draw.request) for draw in scenario.draws]
        for draw, result in zip(scenario.draws, results, strict=True):
            self.coverage.record(draw, result)
        for part in batches_of(scenario, results):
            await self.batch([draw.request for draw in scenario.draws[part]], results[part])
        self.compare_memory(scenario)

    async def batch(self, requests: list[Request], results: list[Result]) -> None:
        self.bench.memory.clear_trace()
        answers = await self.bench.translate(requests)
        self.compare_answers(requests, results, answers)
        self.compare_accesses(requests, results, answers)
        records, lost = await self.driver.drain_faults()
        wanted = [record for record in map(expected_record, requests, results) if record is not None]
        if records != wanted or lost:
            self.problems.append(f"records {[f'{r:032x}' for r in records]}, not {[f'{r:032x}' for r in wanted]}")

    def compare_accesses(self, requests: list[Request], results: list[Result], answers: np.ndarray) -> None:
        """Each request's accesses lie between its acceptance and its answer, and there are no others."""
        trace = self.bench.memory.trace()
        begins = np.searchsorted(trace["cycle"], answers["accept_cycle"])
        ends = np.searchsorted(trace["cycle"], answers["response_cycle"])
        for request, result, begin, end in zip(requests, results, begins, ends, strict=True):
            problem = compare_walk(walk_transfers(trace[begin:end]), result.accesses, LINE_WIDTH)
            if problem:
                self.problems.append(f"{request}: {problem}")
        if (ends - begins).sum() != len(trace):
            self.problems.append(f"{len(trace)} accesses, {(ends - begins).sum()} while a request was at work")


@cocotb.test()
async def cold_walks(dut):
    rng = rng_of("cold_walks")
    bench, driver = await start(dut)
    bench.memory.tracing = True
    if CONFIG.prefetch_streams:
        # What is read ahead is none of the model's reads.
        await driver.share(prefetch=False)
    cold = ColdWalks(bench, driver)
    for scenario in random_scenarios(rng, MODEL, count_of("COLD")):
        bench.memory.timing = random_timing(rng)
        stalls = rng.choice((0, 0, 50))
        bench.set_traffic(Traffic(max_outstanding=1, response_stall_percent=stalls, seed=rng.getrandbits(32)))
        await cold.run(scenario)
        assert cold.problems == [], "\n".join(cold.problems[:SHOWN])
    assert cold.requests >= count_of("COLD")
    assert cold.coverage.missing() == []


def vary(rng: random.Random, request: Request) -> Request:
    """Another request to the same page, sometimes to its neighbour, or with another PASID."""
    address = request.address & ~(PAGE_SIZE - 1) | rng.randrange(PAGE_SIZE)
    if rng.random() < 0.1:
        address ^= PAGE_SIZE << rng.randrange(20)
    pasid = request.pasid
    if rng.random() < 0.05:
        pasid = rng.choice((None, 0, rng.getrandbits(20)))
    return request._replace(
        pasid=pasid,
        address=address,
        access=rng.choice((request.access, *Access)),
        privileged=rng.random() < 0.3,
        execute=rng.random() < 0.02,
    )


class WarmTraffic(Comparison):
    """Many requests in flight to a few pages: hits, hits under misses, equal misses, colliding bit updates.

    ``ahead``: pages may be read that nobody asks for.
    """

    ahead = False

    async def run(self, rng: random.Random, scenario: Scenario, count: int) -> None:
        await load(self.bench, self.driver, scenario)
        if CONFIG.prefetch_streams:
            self.ahead = rng.random() < 0.5
            await self.driver.share(prefetch=self.ahead)
        self.bench.memory.clear_trace()
        busy = rng.sample(scenario.draws, min(len(scenario.draws), rng.choice((2, 20, 150))))
        requests = [vary(rng, rng.choice(busy).request) for _ in range(count)]
        cold = [translate(scenario.memory, scenario.state, MODEL, request, updating=False) for request in requests]
        results = [translate(scenario.memory, scenario.state, MODEL, request) for request in requests]
        self.compare_answers(requests, results, await self.bench.translate(requests))
        self.compare_memory(scenario)
        if not self.ahead:
            reads = int((self.bench.memory.trace()["lock"] == 0).sum())
            self.compare_effort(reads, sum(len(result.accesses) for result in cold))
        await self.compare_records(requests, results)

    def compare_effort(self, reads: int, most: int) -> None:
        if reads > most:
            self.problems.append(f"{reads} reads, where walks without caches make {most}")

    async def compare_records(self, requests: list[Request], results: list[Result]) -> None:
        """As many records as there is room for, each of a fault that happened; the rest is known to be lost."""
        records, lost = await self.driver.drain_faults()
        wanted = Counter(record for record in map(expected_record, requests, results) if record is not None)
        if len(records) != min(wanted.total(), CONFIG.fault_records) or Counter(records) - wanted:
            self.problems.append(f"{len(records)} records, {wanted.total()} faults: {[f'{r:032x}' for r in records]}")
        if lost != (wanted.total() > CONFIG.fault_records):
            self.problems.append(f"{wanted.total()} faults, overflow {lost}")


@cocotb.test()
async def warm_traffic(dut):
    rng = rng_of("warm_traffic")
    bench, driver = await start(dut)
    bench.memory.tracing = True
    warm = WarmTraffic(bench, driver)
    wanted = count_of("WARM")
    for scenario in random_scenarios(rng, MODEL, wanted):
        bench.memory.timing = random_timing(rng)
        bench.set_traffic(
            Traffic(
                max_outstanding=rng.choice((0, 4, 16)),
                gap_percent=rng.choice((0, 50)),
                response_stall_percent=rng.choice((0, 30)),
                seed=rng.getrandbits(32),
            )
        )
        await warm.run(rng, scenario, rng.choice((50, 1000)))
        assert warm.problems == [], "\n".join(warm.problems[:SHOWN])
        if warm.requests >= wanted:
            break
    assert warm.requests >= wanted
