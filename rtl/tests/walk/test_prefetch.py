"""Prefetching in the whole translator: pages of a stream come early, and nothing else shows that they did."""

from random import Random

from nestwalk.config import preset
from nestwalk_sim.builders import FirstStageTables, HostSpace, ScalableTables, first_stage_fields
from nestwalk_sim.memory import PAGE_SIZE, Memory
from nestwalk_sim.model import Access, Request, model_preset, translate
from rtl.tests.walk.bench import SMALL_CACHES, TranslatorBench

AHEAD = 4
CFG = preset("TINY").replace(
    tag_width=12, walk_slots=8, waiting_misses=64, prefetch_streams=2, prefetch_pages=AHEAD, **SMALL_CACHES
)
MODEL = model_preset("TINY")
SOURCE_ID, PASID, START = 0x321, 5, 0x7000_0000
PAGES, ABSENT, NOT_ACCESSED, ENDING, LINES = 28, 10, 15, 20, 64


def make_tables(rng: Random) -> tuple[Memory, ScalableTables, list[int]]:
    """Consecutive pages, and the addresses of their entries: one is absent, and the last ones were never accessed."""
    memory = Memory()
    space = HostSpace(memory, CFG.haw, rng)
    tables = ScalableTables(space)
    first = FirstStageTables(space, 4)
    for page in range(PAGES):
        if page != ABSENT:
            first.map(START + page * PAGE_SIZE, space.unused(), A=page < NOT_ACCESSED, D=0)
    tables.add_device(SOURCE_ID, 2, PASIDE=1)
    tables.add_pasid(SOURCE_ID, PASID, DID=3, **first_stage_fields(first))
    return memory, tables, [first.path(START + page * PAGE_SIZE)[-1].host for page in range(PAGES)]


def test_pages_ahead_of_a_stream(rng):
    memory, tables, entries = make_tables(rng)
    bench = TranslatorBench(CFG, memory.copy(), rng, latency=range(20, 40), stall=0.0)
    bench.state = tables.state
    offsets = [PAGE_SIZE * page + 64 * line for page in range(ENDING) for line in range(LINES)]
    requests = [Request(SOURCE_ID, PASID, START + offset, Access.READ) for offset in offsets]
    tags: list[int] = []

    async def testbench(ctx):
        tags.extend(bench.request(request) for request in requests)
        await bench.finish(ctx)
        await bench.cycles(ctx, 500)

    bench.run(testbench)
    faults = 0
    for tag, request in zip(tags, requests, strict=True):
        result = translate(memory, tables.state, MODEL, request)
        response = bench.answers[tag][1]
        assert response.granted == result.granted
        assert response.address == result.address if result.granted else response.fault.value == result.fault
        faults += not result.granted
    # Only accesses set bits and leave records, though pages beyond the last one were looked at.
    assert bench.memory.tables.image() == memory.image()
    assert len(bench.faults) == faults == LINES
    looked_at = {access.address for access in bench.memory.log}
    assert [entry in looked_at for entry in entries] == [page < ENDING + AHEAD for page in range(PAGES)]
    first_waits = [bench.answers[tag][0] - bench.accepted[tag] for tag in tags[::LINES]]
    print(f"cycles for the first access to each page: {first_waits}")
    # Ahead of the pages that are absent or were never accessed.
    assert sum(wait < 10 for wait in first_waits) >= NOT_ACCESSED - 6
