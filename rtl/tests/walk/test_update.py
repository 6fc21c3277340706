"""`EntryUpdate` under races and failures."""

from amaranth.hdl import Module
from amaranth.lib import wiring

from nestwalk.bus.axi import AxiResponse
from nestwalk.bus.mem_port import MemPort
from nestwalk.bus.memory import MemoryIds
from nestwalk.config import IommuConfig
from nestwalk.walk.update import MAX_TRIES, EntryUpdate
from rtl.tests.axi_memory import AxiMemory
from rtl.tests.simulation import receive, send, simulate

ACCESSED = 1 << 5
DIRTY = 1 << 6
TABLE = 0x8_7654_3000


class Bench:
    """An updater at a memory port of 128 bits."""

    def __init__(self, rng, **changes):
        cfg = IommuConfig(walk_slots=4, id_width=3, **changes)
        user = MemoryIds(cfg).update
        self.rng = rng
        self.update = EntryUpdate(cfg)
        self.port = MemPort(cfg, readers=[range(user, user + 1)], writers=[range(user, user + 1)])
        self.memory = AxiMemory(self.port.mem, rng)
        self.module = Module()
        self.module.submodules += [self.update, self.port]
        wiring.connect(self.module, self.update.read, self.port.readers[0])
        wiring.connect(self.module, self.update.write, self.port.writers[0])

    def run(self, requests: list[dict]) -> list:
        """Pass all requests, return the responses as (slot, data, failed)."""
        responses = []

        async def ask(ctx):
            for request in requests:
                await ctx.tick().repeat(self.rng.choice([1, 1, 30]))
                await send(ctx, self.update.request, request)

        async def answer(ctx):
            for _ in requests:
                await ctx.tick().repeat(self.rng.choice([1, 1, 10]))
                response = await receive(ctx, self.update.response)
                responses.append((response.slot, response.data, response.failed))
            self.retries = ctx.get(self.update.retries)

        simulate(self.module, ask, answer, background=(self.memory.run,))
        return responses


def test_sets_bits_unless_the_entry_changed(rng):
    bench = Bench(rng)
    memory = bench.memory
    requests, expected = [], []
    for number in range(150):
        address = TABLE + 8 * number
        entry = rng.getrandbits(64)
        request = {"slot": rng.randrange(4), "address": address, "expected": entry}
        request["mask"] = rng.choice([ACCESSED, ACCESSED | DIRTY])
        if rng.random() < 0.3:  # software was quicker
            entry ^= 1 << rng.randrange(7, 64)
            expected.append((request["slot"], entry, 0))
        else:
            expected.append((request["slot"], entry | request["mask"], 0))
        memory.write(address, entry, 8)
        requests.append(request)
    assert bench.run(requests) == expected
    assert [memory.read(request["address"], 8) for request in requests] == [data for _, data, _ in expected]
    written = sum(memory.read(r["address"], 8) == r["expected"] | r["mask"] for r in requests)
    assert sum(access.kind == "write" for access in memory.log) == written
    assert bench.retries == 0


def test_software_that_writes_between_read_and_write_is_never_overwritten(rng):
    bench = Bench(rng)
    memory = bench.memory
    requests = []
    changes: dict[int, list[int]] = {}
    for number in range(80):
        address = TABLE + 8 * number
        entry = rng.getrandbits(64) & ~(ACCESSED | DIRTY)
        memory.write(address, entry, 8)
        requests.append({"slot": number % 4, "address": address, "expected": entry, "mask": ACCESSED})
        # Software writes just before each exclusive write: the same value again, the accessed bit, or another value.
        changes[address] = [entry] * rng.randrange(4) + rng.choice([[], [entry | ACCESSED], [entry ^ 1 << 63]])
    last = {request["address"]: changes[request["address"]][-1:] for request in requests}
    interfered = sum(map(len, changes.values()))

    def before(kind, address):
        if kind == "write" and changes[address]:
            memory.write(address, changes[address].pop(0), 8)

    memory.before = before
    responses = bench.run(requests)
    for request, (slot, data, failed) in zip(requests, responses, strict=True):
        assert (slot, failed) == (request["slot"], 0)
        assert data == memory.read(request["address"], 8)
        final = last[request["address"]] or [request["expected"]]
        assert data == (final[0] if final[0] >> 63 != request["expected"] >> 63 else final[0] | ACCESSED)
    assert bench.retries == interfered


def test_gives_up_after_losing_16_times(rng):
    bench = Bench(rng)
    memory = bench.memory
    requests = [{"slot": slot, "address": TABLE + 8 * slot, "expected": 1, "mask": ACCESSED} for slot in range(3)]
    for request in requests:
        memory.write(request["address"], 1, 8)
    tries = iter([MAX_TRIES, MAX_TRIES - 1, 0])
    left = {request["address"]: next(tries) for request in requests}

    def before(kind, address):
        if kind == "write" and left[address]:
            left[address] -= 1
            memory.write(address, 1, 8)

    memory.before = before
    responses = bench.run(requests)
    assert [failed for _, _, failed in responses] == [1, 0, 0]
    assert [data for _, data, _ in responses[1:]] == [1 | ACCESSED] * 2
    assert memory.read(TABLE, 8) == 1
    assert bench.retries == 2 * MAX_TRIES - 1
    assert len(memory.log) == 2 * (2 * MAX_TRIES + 1)


def test_fails_without_monitor_and_on_errors(rng):
    for broken in ("monitor", AxiResponse.SLVERR, AxiResponse.DECERR):
        for kind in ("read", "write"):
            if (broken, kind) == ("monitor", "write"):
                continue
            bench = Bench(rng)
            memory = bench.memory
            memory.write(TABLE, 5, 8)
            if broken == "monitor":
                memory.exclusive_works = False
            else:
                memory.respond = lambda access, address, kind=kind, broken=broken: broken if access == kind else None
            request = {"slot": 1, "address": TABLE, "expected": 5, "mask": ACCESSED}
            responses = bench.run([request, request | {"slot": 2}])
            assert [(slot, failed) for slot, _, failed in responses] == [(1, 1), (2, 1)]
            assert memory.read(TABLE, 8) == 5
            assert any(access.kind == "write" for access in memory.log) == (kind == "write")


def test_takes_a_request_of_every_walk_at_once(rng):
    bench = Bench(rng)
    port = bench.update.request

    async def testbench(ctx):
        ctx.set(port.valid, 1)
        taken = [(await ctx.tick().sample(port.ready))[2] for _ in range(5)]
        assert taken == [1, 1, 1, 1, 0]

    simulate(bench.module, testbench)
