# amaranth: UnusedElaboratable=no
"""`FrontEnd` between a random device, a random core and a random target; its rates, and who waits for whom."""

from random import Random

import pytest

from nestwalk.config import PRESETS
from nestwalk.front.front_end import FrontEnd
from rtl.tests.front.traffic import Burst, Rates, Surroundings, random_bursts
from rtl.tests.simulation import simulate

TINY = PRESETS["TINY"]
NARROW = TINY.replace(dma_translations=2, dma_outstanding=3, id_width=4, user_width=0, data_width=32, haw=40)


def run(cfg, rng: Random, bursts: list[Burst], *testbenches, limit: int = 20_000, **rates: Rates) -> Surroundings:
    """Simulate until all bursts are answered."""
    dut = FrontEnd(cfg)
    around = Surroundings(dut, cfg, rng, bursts, **rates)
    simulate(dut, around.run, *(testbench(dut, around) for testbench in testbenches), limit=limit)
    return around


def marking(rng: Random, pauses: range):
    """Draws lines while there is traffic, most of them when the line before has been drained."""

    def make(dut, around: Surroundings):
        async def testbench(ctx):
            while not around.finished:
                await ctx.tick().repeat(rng.choice(pauses))
                ctx.set(dut.mark, 1)
                await ctx.tick()
                ctx.set(dut.mark, 0)
                if rng.random() < 0.7:
                    await ctx.tick().until(dut.drained)

        return testbench

    return make


@pytest.mark.parametrize(
    ("cfg", "count", "ids"), [(TINY, 500, 8), (TINY, 300, 1), (NARROW, 200, 3)], ids=["many", "one_id", "narrow"]
)
def test_random_traffic(cfg, count, ids, rng):
    """Every transfer is the one that belongs there, whatever waits; drained means drained."""
    for _ in range(2):
        rates = {
            "device": Rates(stall=rng.choice((0, 0.3)), gap=rng.choice((0, 0.3))),
            "core": Rates(stall=rng.choice((0, 0.3))),
            "target": Rates(
                stall=rng.choice((0, 0.3)), gap=rng.choice((0, 0.3)), latency=rng.choice((range(1, 3), range(1, 60)))
            ),
        }
        bursts = random_bursts(rng, cfg, count, ids=ids, misses=rng.choice((0.05, 0.4)), blocked=0.2)
        around = run(cfg, rng, bursts, marking(rng, range(1, 50)), **rates)
        assert all(burst.went_out is None for burst in bursts if burst.blocked)
        assert around.drains >= 5


def single_beats(rng: Random, cfg, count: int, *, write, ids: int = 1) -> list[Burst]:
    """Hits of one beat each; ``write`` as a function of the number."""
    bursts = random_bursts(rng, cfg, 3 * count, ids=ids, misses=0, blocked=0)
    chosen = []
    for number in range(count):
        burst = next(burst for burst in bursts if burst.write == write(number))
        bursts.remove(burst)
        burst.fields |= {"len": 0, "burst": 1}
        burst.data = burst.data[:1]
        chosen.append(burst)
    return chosen


@pytest.mark.parametrize("kind", ["reads", "writes", "both"])
@pytest.mark.parametrize("ids", [1, 8])
def test_hits_go_through_one_each_cycle(kind, ids, rng):
    """No bubble, and an address is on ``out`` seven cycles after it was on ``dma``."""
    write = {"reads": lambda n: False, "writes": lambda n: True, "both": lambda n: n % 2 == 1}[kind]
    bursts = single_beats(rng, TINY, 400, write=write, ids=ids)
    run(TINY, rng, bursts)
    assert {burst.went_out - burst.accepted for burst in bursts} == {7}
    accepted = sorted(burst.accepted for burst in bursts)
    assert accepted[-1] - accepted[0] == len(bursts) - 1


def test_backlog_behind_a_miss_goes_through_one_each_cycle(rng):
    """Reads of one id that waited for a miss follow it, one each cycle."""
    bursts = single_beats(rng, TINY, 8, write=lambda n: False)
    bursts[0].delay = 60
    run(TINY, rng, bursts)
    assert [burst.went_out - bursts[0].went_out for burst in bursts] == list(range(len(bursts)))


def test_reads_pass_the_walks_of_other_ids(rng):
    bursts = single_beats(rng, TINY, 40, write=lambda n: False, ids=2)
    slow = bursts[0].fields["id"]
    late = [burst for burst in bursts if burst.fields["id"] == slow][:4]
    late[0].delay = 300
    bursts = late + [burst for burst in bursts if burst.fields["id"] != slow]
    run(TINY, rng, bursts)
    assert all(burst.went_out - burst.accepted == 7 for burst in bursts[4:])
    assert min(burst.went_out for burst in late) > max(burst.went_out for burst in bursts[4:])


def test_a_stopped_direction_does_not_stop_the_other(rng):
    """``out`` takes no address of one direction for a long time: the other one's bursts all finish."""
    for stopped, write in (("out_ar", True), ("out_aw", False)):
        bursts = random_bursts(rng, TINY, 200, ids=4, misses=0.2, blocked=0.1)
        open_again = []

        def testbench(dut, around, stopped=stopped, write=write, bursts=bursts, open_again=open_again):
            around.stopped.add(stopped)

            async def wait(ctx):
                while any(burst.completed is None for burst in bursts if burst.write == write):
                    await ctx.tick()
                open_again.append(sum(burst.completed is not None for burst in bursts if burst.write != write))
                around.stopped.clear()

            return wait

        run(TINY, rng, bursts, testbench)
        assert open_again[0] < 100


def test_a_device_that_takes_no_answers_stops_only_itself_for_a_while(rng):
    """Nothing is lost while R and B are not taken; ``drained`` waits for them."""
    bursts = random_bursts(rng, TINY, 150, ids=4, misses=0.1, blocked=0.3)
    drained_early = []

    def testbench(dut, around):
        around.stopped |= {"dma_r", "dma_b"}

        async def wait(ctx):
            await ctx.tick().repeat(300)
            ctx.set(dut.mark, 1)
            await ctx.tick()
            ctx.set(dut.mark, 0)
            for _ in range(100):
                await ctx.tick()
                drained_early.append(ctx.get(dut.drained))
            around.stopped.clear()
            await ctx.tick().until(dut.drained)

        return wait

    run(TINY, rng, bursts, testbench)
    assert not any(drained_early)
