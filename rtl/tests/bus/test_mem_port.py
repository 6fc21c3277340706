# amaranth: UnusedElaboratable=no
"""`MemPort`: every read of every size brings its own bytes to its own reader, every write lands where it should."""

from collections import defaultdict, deque

import pytest

from nestwalk.bus.axi import AxiResponse
from nestwalk.bus.mem_port import MemPort
from nestwalk.config import IommuConfig
from rtl.tests.axi_memory import AxiMemory
from rtl.tests.simulation import send, simulate

READERS = [range(5), range(5, 6), range(6, 7)]
WRITERS = [range(5, 6), range(6, 8)]
PAGE = 0x12_3456_7000


def make_port(mem_data_width: int) -> MemPort:
    cfg = IommuConfig(mem_data_width=mem_data_width, walk_slots=4, id_width=3)
    return MemPort(cfg, readers=READERS, writers=WRITERS)


def expected_pieces(memory: AxiMemory, address: int, size: int) -> list[int]:
    """What a reader gets, with the bytes that it did not ask for cleared."""
    if size < 4:
        return [memory.read(address, 1 << size) << 8 * (address % 16)]
    return [memory.read(address + offset, 16) for offset in range(0, 1 << size, 16)]


@pytest.mark.parametrize("mem_data_width", [128, 256, 512])
def test_reads_of_all_sizes(mem_data_width, rng):
    dut = make_port(mem_data_width)
    memory = AxiMemory(dut.mem, rng)
    memory.write(PAGE, rng.getrandbits(8 * 4096), 4096)
    failing = {PAGE + 64 * n for n in rng.sample(range(64), 8)}
    memory.respond = lambda kind, address: AxiResponse.SLVERR if address & -64 in failing else None
    outstanding = defaultdict(deque)
    count = 250
    answered = []

    def reader(index):
        async def request(ctx):
            for _ in range(count):
                await ctx.tick().repeat(rng.choice([1, 1, 1, 9]))
                user = rng.choice(READERS[index])
                size = rng.choice([2, 3, 3, 4, 5, 6, 6])
                address = PAGE + (rng.randrange(4096) & -(1 << size))
                response = AxiResponse.SLVERR if address & -64 in failing else AxiResponse.OKAY
                pieces = expected_pieces(memory, address, size)
                outstanding[user].append((address, size, response, pieces))
                await send(ctx, dut.readers[index].request, {"id": user, "address": address, "size": size})

        return request

    def check_piece(index, piece):
        assert piece.id in READERS[index]
        address, size, response, pieces = outstanding[piece.id][0]
        mask = (1 << 128) - 1 if size >= 4 else (1 << 8 * (1 << size)) - 1 << 8 * (address % 16)
        assert piece.data & mask == pieces.pop(0), f"{1 << size} bytes at {address:#x}"
        assert piece.response is response
        assert piece.last == (not pieces)
        if piece.last:
            outstanding[piece.id].popleft()
            answered.append(piece.id)

    async def collect(ctx):
        ports = [reader.data for reader in dut.readers]
        while len(answered) < count * len(READERS):
            _clk, _rst, *values = await ctx.tick().sample(*(v for port in ports for v in (port.valid, port.payload)))
            for index in range(len(ports)):
                if values[2 * index]:
                    check_piece(index, values[2 * index + 1])

    simulate(dut, *map(reader, range(len(READERS))), collect, background=(memory.run,))
    assert not any(outstanding.values())
    assert {access.size for access in memory.log} == {1 << n for n in range(2, mem_data_width.bit_length() - 3)}


@pytest.mark.parametrize("mem_data_width", [128, 512])
def test_writes_and_exclusive_pairs(mem_data_width, rng):
    dut = make_port(mem_data_width)
    memory = AxiMemory(dut.mem, rng)
    reference = AxiMemory(dut.mem, rng)
    done = [deque() for _ in WRITERS]
    count = 200

    async def testbench(ctx):
        expected = [[] for _ in WRITERS]
        for number in range(count):
            index = rng.randrange(len(WRITERS))
            size = rng.choice([2, 3])
            address = PAGE + (rng.randrange(4096) & -(1 << size))
            value = rng.getrandbits(8 << size)
            user = rng.choice(WRITERS[index])
            exclusive = number % 5 == 0
            if not exclusive:  # nobody has read exclusively before: an exclusive write changes nothing
                reference.write(address, value, 1 << size)
            # The bytes around the value are noise.
            lanes = (1 << (8 << size)) - 1 << 8 * (address % 8)
            data = rng.getrandbits(64) & ~lanes | value << 8 * (address % 8)
            request = {"id": user, "address": address, "size": size, "data": data, "exclusive": exclusive}
            expected[index].append((user, AxiResponse.OKAY))
            await send(ctx, dut.writers[index].request, request)
            await ctx.tick().repeat(rng.choice([1, 1, 5]))
        while any(len(done[index]) < len(expected[index]) for index in range(len(WRITERS))):
            await ctx.tick()
        assert [sorted(answers, key=str) for answers in done] == [sorted(e, key=str) for e in expected]

    async def collect(ctx):
        ports = [writer.done for writer in dut.writers]
        while True:
            _clk, _rst, *values = await ctx.tick().sample(*(v for port in ports for v in (port.valid, port.payload)))
            for index in range(len(ports)):
                if values[2 * index]:
                    answer = values[2 * index + 1]
                    done[index].append((answer.id, answer.response))

    simulate(dut, testbench, background=(memory.run, collect))
    assert memory.read(PAGE, 4096) == reference.read(PAGE, 4096)
    assert sum(access.exclusive for access in memory.log) == count // 5


def test_request_reaches_ar_and_data_the_reader_at_once():
    dut = make_port(128)

    async def testbench(ctx):
        ctx.set(dut.readers[0].request.payload, {"id": 3, "address": PAGE, "size": 6})
        ctx.set(dut.readers[0].request.valid, 1)
        assert ctx.get(dut.mem.arvalid)
        assert not ctx.get(dut.readers[0].request.ready)
        # What was offered stays, whoever comes meanwhile.
        await ctx.tick()
        ctx.set(dut.readers[1].request.valid, 1)
        ctx.set(dut.mem.arready, 1)
        assert ctx.get(dut.readers[0].request.ready)
        assert not ctx.get(dut.readers[1].request.ready)
        assert (ctx.get(dut.mem.arlen), ctx.get(dut.mem.arsize), ctx.get(dut.mem.arid)) == (3, 4, 3)
        ctx.set(dut.mem.rvalid, 1)
        ctx.set(dut.mem.rid, 3)
        ctx.set(dut.mem.rdata, 77)
        assert ctx.get(dut.readers[0].data.valid)
        assert ctx.get(dut.readers[0].data.payload.data) == 77
        assert ctx.get(dut.mem.rready)
        assert not ctx.get(dut.readers[1].data.valid)

    simulate(dut, testbench)


def test_rejects_shared_and_unnameable_ids():
    cfg = IommuConfig(walk_slots=4, id_width=3)
    with pytest.raises(ValueError, match="share an id"):
        MemPort(cfg, readers=[range(3), range(2, 4)], writers=[range(1)])
    with pytest.raises(ValueError, match="ids of 3 bits cannot name"):
        MemPort(cfg, readers=[range(3)], writers=[range(7, 9)])
