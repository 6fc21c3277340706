"""Self-test of the bench on a stand-in that passes requests to memory (`rtl.tests.stand_in`)."""

from random import Random

import cocotb
import numpy as np
import pytest

from nestwalk.bus.axi import AxiResponse
from nestwalk_sim.memory import AccessError, ErrorKind
from nestwalk_sim.model.request import Access, Request
from nestwalk_sim.rtl.library import BenchError, Hang
from nestwalk_sim.rtl.memory import MemoryTiming, Moment
from nestwalk_sim.rtl.unit import Bench, Interrupt, Traffic, request_array
from rtl.tests.stand_in import ADDRESS, COUNT, CYCLES, DOORBELL, SCRATCH

PAGES = 64
OKAY, EXOKAY, SLVERR, DECERR = (code.value for code in AxiResponse)


def content(address: int) -> int:
    """What `start` puts at ``address``."""
    return address * 0x10001 & (1 << 52) - 1


async def start(dut, **timing) -> Bench:
    """A bench after reset, with memory filled."""
    bench = Bench(dut)
    await bench.reset()
    words = np.array([content(address) for address in range(0, PAGES * 4096, 8)], np.uint64).tobytes()
    bench.memory.load({at: words[at : at + 4096] for at in range(0, len(words), 4096)})
    bench.memory.timing = MemoryTiming(seed=cocotb.RANDOM_SEED, **timing)
    return bench


def read(address: int, *, lane: int = 0, beats: int = 1, small: bool = True) -> Request:
    """A request that the stand-in turns into one read with AXI id ``lane``."""
    return Request(source_id=lane, pasid=beats - 1, address=address, one_dword=small)


def random_reads(rng: Random, count: int) -> np.ndarray:
    return request_array(read(rng.randrange(PAGES * 512) * 8, lane=rng.randrange(4)) for _ in range(count))


def check_content(requests: np.ndarray, answers: np.ndarray):
    """Every read was granted with what memory holds there."""
    assert answers["granted"].all()
    assert (answers["address"] == [content(int(address)) for address in requests["address"]]).all()


def latencies(answers: np.ndarray) -> np.ndarray:
    return answers["response_cycle"] - answers["accept_cycle"]


@cocotb.test()
async def latency_is_exact(dut):
    """The first beat comes L cycles after the address, a beat per cycle follows, one new address per cycle is taken."""
    bench = await start(dut)
    for latency in (1, 2, 7, 30, 100):
        bench.memory.timing = MemoryTiming(latency=latency)
        requests = random_reads(Random(latency), 300)
        answers = await bench.translate(requests)
        check_content(requests, answers)
        assert (latencies(answers) == latency).all()
        assert (np.diff(answers["accept_cycle"].astype(int)) == 1).all()
        four_beats = await bench.translate([read(0x40, beats=4, small=False)])
        assert latencies(four_beats).tolist() == [latency + 3]


@cocotb.test()
async def outstanding_is_limited_by_the_lane(dut):
    """With n in flight and latency L, n answers come per L cycles or so."""
    bench = await start(dut, latency=50)
    for limit in (1, 4, 16):
        bench.set_traffic(Traffic(max_outstanding=limit))
        answers = await bench.translate([read(8 * at) for at in range(160)])
        spent = int(answers["response_cycle"][-1] - answers["accept_cycle"][0])
        assert abs(spent - 160 / limit * 51) <= 60, f"{spent} cycles with {limit} in flight"


@cocotb.test()
async def order_is_kept_per_id_only(dut):
    """Under jitter answers of one AXI id keep their order, those of different ids overtake each other."""
    rng = Random(cocotb.RANDOM_SEED)
    bench = await start(dut, latency=5, jitter=40, interleave=True, stall_percent=20, moment=Moment.RANDOM)
    bench.set_traffic(Traffic(gap_percent=20, response_stall_percent=30, seed=rng.getrandbits(32)))
    requests = random_reads(rng, 3000)
    answers = await bench.translate(requests)
    check_content(requests, answers)
    for lane in range(4):
        of_lane = answers["response_cycle"][requests["source_id"] == lane].astype(int)
        assert (np.diff(of_lane) > 0).all()
    assert (np.diff(answers["response_cycle"].astype(int)) < 0).any()
    assert latencies(answers).min() >= 5


@cocotb.test()
async def bursts_interleave_only_when_told(dut):
    """Beats of bursts with different ids reach the stand-in together, each burst whole."""
    bench = await start(dut, latency=3, jitter=10, interleave=True)
    requests = request_array(read(1024 * (index % 256), lane=index % 4, beats=16, small=False) for index in range(400))
    together = await bench.translate(requests)
    bench.memory.timing = MemoryTiming(latency=3, jitter=10)
    apart = await bench.translate(requests)
    last_beat = requests["address"] + 15 * bench.memory.beat_bytes
    for answers in (together, apart):
        assert (answers["address"] == [content(int(address)) for address in last_beat]).all()
    assert np.diff(np.sort(apart["response_cycle"])).min() >= 16
    assert np.diff(np.sort(together["response_cycle"])).min() < 16


@cocotb.test()
async def lanes_take_turns(dut):
    """A short batch is not held up by a long one of another lane, and a cancelled one ends with what was sent."""
    bench = await start(dut, latency=10)
    long = bench.submit([read(8 * (at % 512)) for at in range(5000)], lane=1)
    await bench.cycles(20)
    short = await bench.translate([read(8, lane=1)] * 50, lane=2)
    assert np.diff(short["accept_cycle"].astype(int)).tolist() == [2] * 49
    assert long.answered < 100
    long.cancel()
    answers = await long
    assert 50 < answers["answered"].sum() < 200
    assert not answers["answered"][200:].any()


@cocotb.test()
async def exclusive_pairs(dut):
    """A pair succeeds alone, and fails when someone else writes between, the monitor loses it or memory has none."""
    bench = await start(dut, latency=20)
    update = Request(source_id=0, pasid=None, address=0x1008, access=Access.ATOMIC)

    async def outcome() -> tuple[bool, int, bool]:
        bench.memory.write64(0x1008, 0x5)
        answer = (await bench.translate([update]))[0]
        return bool(answer["granted"]), int(answer["fault"]), bench.memory.read64(0x1008) == 0x25

    assert await outcome() == (True, EXOKAY, True)
    batch = bench.submit([update])
    await bench.cycles(10)
    bench.memory.write(0x100F, b"\x01")
    assert not (await batch)[0]["granted"]
    assert bench.memory.read(0x100F, 1) == b"\x01"
    bench.memory.timing = MemoryTiming(latency=20, exclusive_loss_percent=100)
    assert await outcome() == (False, OKAY, False)
    assert bench.memory.counters["exclusive_failures"] >= 2
    bench.memory.timing = MemoryTiming(latency=20, exclusives=False)
    assert await outcome() == (False, OKAY, False)
    bench.memory.timing = MemoryTiming(latency=20)
    bench.memory.inject_error(0x1000, 4096, ErrorKind.UPDATE)
    assert await outcome() == (False, OKAY, False)
    bench.memory.clear_errors()
    assert await outcome() == (True, EXOKAY, True)


@cocotb.test()
async def errors_are_injected(dut):
    """Missing pages answer DECERR; ranges and numbered accesses answer what they are told."""
    bench = await start(dut)
    beyond = read(PAGES * 4096)

    async def faults(*requests: Request) -> list[int]:
        return (await bench.translate(requests))["fault"].tolist()

    assert await faults(beyond, read(8)) == [DECERR, OKAY]
    bench.memory.inject_error(0x108, 8)
    assert await faults(read(0x100), read(0x108), read(0x110)) == [OKAY, SLVERR, OKAY]
    assert bench.memory.read64(0x108) == content(0x108)
    bench.memory.fail_access(2, response=AxiResponse.DECERR)
    assert await faults(*[read(0x200)] * 4) == [OKAY, OKAY, DECERR, OKAY]
    bench.memory.remove_pages([0x3000])
    assert await faults(read(0x3000)) == [DECERR]
    for missing in (lambda: bench.memory.read(0x2FF8, 16), lambda: bench.memory.write(0x2FF8, bytes(16))):
        with pytest.raises(AccessError, match="0x2ff8"):
            missing()


@cocotb.test()
async def accesses_meet_memory_when_told(dut):
    """A change while a read is under way is seen by a late one only."""
    bench = await start(dut)
    for moment, expected in ((Moment.EARLY, 1), (Moment.LATE, 2)):
        bench.memory.timing = MemoryTiming(latency=60, moment=moment)
        bench.memory.write64(0x800, 1)
        batch = bench.submit([read(0x800)])
        await bench.cycles(30)
        bench.memory.write64(0x800, 2)
        assert (await batch)["address"].tolist() == [expected]


@cocotb.test()
async def registers(dut):
    """32- and 64-bit accesses, polling, and what never happens."""
    bench = await start(dut)
    bench.set_csr_skew(50)
    await bench.csr_write(SCRATCH, 0x1122_3344_5566_7788, 8)
    await bench.csr_write(SCRATCH + 4, 0xAABB_CCDD)
    assert await bench.csr_read(SCRATCH, 8) == 0xAABB_CCDD_5566_7788
    assert await bench.csr_read(SCRATCH + 4) == 0xAABB_CCDD
    await bench.translate([read(8)] * 25)
    assert await bench.csr_read(COUNT) == 25
    assert await bench.csr_poll(CYCLES, 0x400, 0x400) & 0x400
    with pytest.raises(Hang, match="0x000: not within 500 cycles"):
        await bench.csr_poll(SCRATCH, 1, 1, limit=500)
    assert await bench.csr_read(COUNT) == 25


@cocotb.test()
async def writes_and_interrupts(dut):
    """A write of the unit shows in memory, trace and on the interrupt wire; a failed one leaves memory alone."""
    bench = await start(dut, latency=9)
    bench.memory.tracing = True
    await bench.csr_write(ADDRESS, 0x2008, 8)
    await bench.csr_write(DOORBELL, 77, 8)
    await bench.memory_equals(0x2008, 77)
    assert not bench.interrupt_count(Interrupt.FAULT)
    await bench.interrupt(Interrupt.FAULT)
    assert bench.interrupt_count(Interrupt.FAULT) == 1
    bench.memory.inject_write_error(0x2000, 4096)
    await bench.csr_write(DOORBELL, 78, 8)
    await bench.interrupt(Interrupt.FAULT)
    assert bench.memory.read64(0x2008) == 77
    await bench.translate([read(0x40, lane=3, beats=2, small=False)])
    trace = bench.memory.trace()
    columns = ["write", "address", "id", "beats", "size", "burst", "lock", "data", "response"]
    assert trace[columns].tolist() == [
        (1, 0x2008, 8, 0, 3, 1, 0, 77, OKAY),
        (1, 0x2008, 8, 0, 3, 1, 0, 78, SLVERR),
        (0, 0x40, 3, 1, bench.memory.beat_bytes.bit_length() - 1, 1, 0, content(0x40), OKAY),
    ]
    assert bench.memory.counters[["reads", "read_beats", "writes"]].tolist() == (1, 2, 2)
    assert bench.memory.reads_of(3) == 1


@cocotb.test()
async def broken_protocol_and_hang_are_reported(dut):
    """What the unit does wrong, or does not do, ends the wait."""
    bench = await start(dut)
    wrapping = Request(source_id=0, pasid=None, address=0, execute=True)
    with pytest.raises(BenchError, match="AR wrapping burst of a length that AXI forbids"):
        await bench.translate([wrapping])
    bench.memory.timing = MemoryTiming(latency=3000)
    bench.set_hang_limit(200)
    with pytest.raises(Hang, match="200 cycles"):
        await bench.translate([read(0x18)])


@cocotb.test()
async def speed(dut):
    """Steady traffic runs in C++: far more than the 50 000 cycles per second of a Python coroutine."""
    from time import perf_counter

    bench = await start(dut, latency=30)
    requests = random_reads(Random(cocotb.RANDOM_SEED), 100_000)
    began, first = perf_counter(), bench.now()
    answers = await bench.translate(requests)
    seconds, cycles = perf_counter() - began, bench.now() - first
    check_content(requests, answers)
    dut._log.info("%.0f cycles/s, %.0f requests/s", cycles / seconds, len(requests) / seconds)
    assert cycles < 100_100
    assert cycles / seconds > 100_000
