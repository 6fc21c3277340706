# amaranth: UnusedElaboratable=no
"""`Queue` and `RoundRobin`: nothing lost, nothing reordered, latency 1 and 0, fair."""

import pytest
from amaranth.lib import data, enum

from nestwalk.bus.arbiter import RoundRobin
from nestwalk.bus.queue import Queue
from rtl.tests.simulation import receive, send, simulate


class Colour(enum.Enum, shape=2):
    RED = 1
    BLUE = 2


class Item(data.Struct):
    colour: Colour
    number: 9


def item(number: int) -> dict:
    return {"colour": Colour.RED if number % 3 else Colour.BLUE, "number": number}


@pytest.mark.parametrize("refuses", [True, False], ids=["refuses", "never_refuses"])
@pytest.mark.parametrize(("depth", "registered"), [(1, 0), (2, 0), (3, 0), (4, 0), (9, 0), (3, 1), (4, 1), (9, 1)])
def test_keeps_order_and_fills_to_its_depth(depth, registered, refuses, rng):
    dut = Queue(Item, depth, refuses=refuses, registered=bool(registered))
    count = 300
    received = []
    levels = set()

    async def put(ctx):
        for number in range(count):
            await ctx.tick().repeat(rng.choice([0, 0, 0, 1, 5]) + 1)
            while not refuses and ctx.get(dut.level) == depth:
                await ctx.tick()
            await send(ctx, dut.i, item(number))

    async def take(ctx):
        while len(received) < count:
            await ctx.tick().repeat(rng.choice([0, 0, 0, 1, 20]) + 1)
            view = await receive(ctx, dut.o)
            received.append((view.colour, view.number))

    async def observe(ctx):
        while True:
            _clk, _rst, level, ready = await ctx.tick().sample(dut.level, dut.i.ready)
            levels.add(level)
            assert ready == (level < depth) or not refuses

    simulate(dut, put, take, background=(observe,))
    assert received == [(item(n)["colour"], n) for n in range(count)]
    assert levels == set(range(depth + 1))


@pytest.mark.parametrize(("depth", "registered"), [(2, 0), (5, 0), (5, 1)])
def test_first_word_after_one_cycle_then_one_each_cycle(depth, registered):
    dut = Queue(Item, depth, registered=bool(registered))
    seen = []

    async def testbench(ctx):
        ctx.set(dut.o.ready, 1)
        ctx.set(dut.i.valid, 1)
        for number in range(20):
            ctx.set(dut.i.payload.number, number)
            _clk, _rst, valid, payload = await ctx.tick().sample(dut.o.valid, dut.o.payload)
            seen.append(payload.number if valid else None)

    simulate(dut, testbench)
    assert seen == [None, *range(19)]


def test_shows_zeros_while_empty(rng):
    dut = Queue(8, 2, cleared=True)
    shown = []

    async def put(ctx):
        for _ in range(200):
            await ctx.tick().repeat(rng.choice([1, 1, 3, 6]))
            await send(ctx, dut.i, rng.randrange(1, 256))

    async def take(ctx):
        for _ in range(200):
            await ctx.tick().repeat(rng.choice([1, 1, 4]))
            assert await receive(ctx, dut.o) != 0

    async def observe(ctx):
        while True:
            _clk, _rst, valid, payload = await ctx.tick().sample(dut.o.valid, dut.o.payload)
            shown.append((valid, payload != 0))

    simulate(dut, put, take, background=(observe,))
    assert set(shown) == {(0, False), (1, True)}


def test_needs_room():
    with pytest.raises(ValueError, match="at least 1 item, not 0"):
        Queue(8, 0)
    with pytest.raises(ValueError, match="at most 2 items, not 3"):
        Queue(8, 3, cleared=True)
    with pytest.raises(ValueError, match="at least 1 stream, not 0"):
        RoundRobin(8, 0)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_round_robin_serves_all_in_turn(count, rng):
    dut = RoundRobin(Item, count)
    order = []

    async def testbench(ctx):
        for port in range(count):
            ctx.set(dut.i[port].payload.number, port)
            ctx.set(dut.i[port].valid, 1)
        for _ in range(20 * count):
            view = await receive(ctx, dut.o)
            order.append(view.number)
            await ctx.tick().repeat(rng.choice([1, 1, 4]))

    simulate(dut, testbench)
    assert order == [n % count for n in range(20 * count)]


def test_round_robin_loses_nothing(rng):
    count, each = 3, 100
    dut = RoundRobin(Item, count)
    received = {port: [] for port in range(count)}

    def source(port):
        async def put(ctx):
            for number in range(each):
                await ctx.tick().repeat(rng.choice([0, 0, 1, 7]) + 1)
                await send(ctx, dut.i[port], {"colour": Colour.RED, "number": port * each + number})

        return put

    async def take(ctx):
        for _ in range(count * each):
            view = await receive(ctx, dut.o)
            received[view.number // each].append(view.number % each)
            await ctx.tick().repeat(rng.choice([1, 1, 1, 6]))

    simulate(dut, *map(source, range(count)), take)
    assert all(numbers == list(range(each)) for numbers in received.values())
