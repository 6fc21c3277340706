"""Walks side by side: answers, faults, accesses in order and accessed and dirty bits are the golden model's."""

from collections import Counter, defaultdict
from collections.abc import Iterable

import pytest

from nestwalk.config import preset
from nestwalk.invalidation.command import Scope
from nestwalk_sim.builders import Scenario, random_scenarios
from nestwalk_sim.model import AccessKind, MemoryAccess, Request, Result, Structure, model_preset, translate
from rtl.tests.axi_memory import Access
from rtl.tests.walk.bench import SMALL_CACHES, TranslatorBench
from rtl.tests.walk.steps import PAGE_SIZES

CFG = preset("TINY").replace(tag_width=12, walk_slots=4)
MODEL = model_preset("TINY")
EVERYTHING = {"context": 1, "pasid_cache": 1, "iotlb": 1, "scope": Scope.GLOBAL}


def beats(access: MemoryAccess) -> list[tuple[str, int, int]]:
    """An access as (kind, address, bytes) of its beats on a port of 16 bytes."""
    if access.kind is AccessKind.READ:
        width = min(access.size, 16)
        return [("read", access.address + offset, width) for offset in range(0, access.size, width)]
    write = [] if access.failed else [("write", access.address, 8)]
    return [("read", access.address, 8), *write]


def check_order(found: list[tuple[str, int, int]], accesses: Iterable[MemoryAccess], *, by_lines: bool):
    """``found`` are the beats of a walk, without the later ones of lines.

    The guest caches may spare it second-stage entries that it has read before, and the line buffer what came with
    another entry of level 1, which may be read alone too.
    """
    read, lines, position = set(), set(), 0
    for access in accesses:
        alone, in_line = beats(access), False
        wanted = alone
        if by_lines and access.level == 1 and access.kind is AccessKind.READ:
            wanted, in_line = [("line", access.address & -16, 16)], access.address >> 6 in lines
        here = found[position : position + len(wanted)]
        if here in (wanted, alone):
            position += len(wanted)
            if here != alone:
                lines.add(access.address >> 6)
        else:
            spared = access.structure is Structure.SECOND_STAGE and access.address in read
            assert spared or in_line, f"{found[position:]} instead of {wanted}"
        read.add(access.address)
    assert position == len(found)


def check_accesses(log: list[Access], results: list[Result], *, by_lines: bool):
    """Requests share no table but the root table, so that every other access tells whose it is."""
    roots = {result.accesses[0].address for result in results if result.accesses}
    owner = {
        address: number
        for number, result in enumerate(results)
        for access in result.accesses[1:]
        for _, address, _ in [*beats(access), ("line", access.address & -16, 16)]
    }
    found = defaultdict(list)
    for access in log:
        if access.address not in roots and not access.line_beat:
            assert access.address in owner, f"nobody reads {access.address:#x}"
            kind = access.kind if access.line_beat is None else "line"
            found[owner[access.address]].append((kind, access.address, access.size))
    for number, result in enumerate(results):
        check_order(found[number], result.accesses[1:], by_lines=by_lines)
    wanted = Counter(result.accesses[0].address for result in results if result.accesses)
    assert Counter(access.address for access in log if access.address in roots) == wanted


def check_answer(request: Request, result: Result, response):
    assert response.granted == result.granted, (request, result.fault_condition, response.fault)
    if not result.granted:
        assert response.fault.value == result.fault, (request, result.fault_condition)
        return
    assert response.address == result.address % (1 << CFG.haw)
    if result.page_size:
        assert PAGE_SIZES[response.page_size] == result.page_size


async def check_scenario(ctx, bench: TranslatorBench, scenario: Scenario) -> list[Result]:
    """All requests at once on cold caches, then again the granted ones, on whatever the caches kept."""
    bench.memory.tables = scenario.memory.copy()
    bench.state = scenario.state
    bench.invalidate(EVERYTHING)
    await bench.finish(ctx)
    bench.memory.log.clear()
    bench.faults.clear()
    requests = [draw.request for draw in scenario.draws]
    results = [translate(scenario.memory, scenario.state, MODEL, request) for request in requests]
    tags = [bench.request(request) for request in requests]
    await bench.finish(ctx, limit=40_000)
    for tag, request, result in zip(tags, requests, results, strict=True):
        check_answer(request, result, bench.answers[tag][1])
    check_accesses(bench.memory.log, results, by_lines=bench.cfg.line_buffer_lines > 0)
    recorded = Counter(
        (request.source_id, result.fault)
        for request, result in zip(requests, results, strict=True)
        if not result.granted and result.recorded
    )
    assert Counter((fault.source_id, fault.reason.value) for fault in bench.faults) == recorded
    granted = [request for request, result in zip(requests, results, strict=True) if result.granted]
    tags = [bench.request(request) for request in granted]
    await bench.finish(ctx, limit=40_000)
    for tag, request in zip(tags, granted, strict=True):
        again = translate(scenario.memory, scenario.state, MODEL, request)
        check_answer(request, again, bench.answers[tag][1])
    assert bench.memory.tables.image() == scenario.memory.image()
    return results


LINES = SMALL_CACHES | {"line_buffer_lines": 4}


@pytest.mark.parametrize(
    ("caches", "draws"), [({}, 100), (SMALL_CACHES, 150), (LINES, 150)], ids=["tiny", "cached", "lines"]
)
def test_random_walks_side_by_side(caches, draws, rng):
    seen: Counter = Counter()
    scenarios = random_scenarios(rng, MODEL, draws, devices=50)
    first = next(scenarios)
    bench = TranslatorBench(CFG.replace(**caches), first.memory.copy(), rng, latency=range(1, 10), stall=0.1)

    async def testbench(ctx):
        for scenario in (first, *scenarios):
            bench.stall = rng.choice([0.0, 0.5])
            for result in await check_scenario(ctx, bench, scenario):
                seen[result.fault_condition or result.mode] += 1

    bench.run(testbench)
    print(f"{bench.now} cycles, {len(bench.answers)} answers")
    assert len(seen) > 20


def test_walks_wait_for_a_full_fault_log_and_lose_nothing(rng):
    """Nobody takes faults or answers for a while: everything stands still, then every walk ends as it should."""
    bench = TranslatorBench(
        CFG, next(iter(random_scenarios(rng, MODEL, 1))).memory, rng, latency=range(1, 3), stall=0.0
    )
    bench.state = bench.state._replace(translation_enabled=True, ttm=1, root_table=1 << 40)  # no memory is there
    count = 40

    async def testbench(ctx):
        bench.stall = 1.0
        tags = [bench.request(Request(number, None, 0x1000)) for number in range(count)]
        await bench.cycles(ctx, 200)
        assert not bench.answers
        accepted = len(bench.accepted)
        await bench.cycles(ctx, 50)
        assert len(bench.accepted) == accepted < count
        bench.stall = 0.5
        await bench.finish(ctx)
        assert {bench.answers[tag][1].fault.value for tag in tags} == {0x38}
        # Every record is there before its answer.
        assert [fault.source_id for fault in bench.faults] == list(range(count))

    bench.run(testbench)
    assert len(bench.answers) == count
