"""`Iotlb`: pages of three sizes, permissions, and one invalidation for all parts."""

from collections import deque

from amaranth.hdl import Module, Signal, Value

from nestwalk.bus.translation import Access
from nestwalk.config import CacheShape, preset
from nestwalk.lookup.iotlb import Iotlb, Permissions
from nestwalk.lookup.requester_format import page_of
from rtl.tests.formats.evaluate import evaluate
from rtl.tests.lookup.cache_bench import CacheBench, pack
from rtl.tests.lookup.rules import IotlbRules
from rtl.tests.simulation import simulate

CFG = preset("FORMAL").replace(
    iotlb_4k=CacheShape(sets=64, ways=2), iotlb_2m=CacheShape(sets=16, ways=1), iotlb_1g_entries=4
)


class IotlbPort:
    """How the bench sees the IOTLB: an answer is the host page and the size."""

    def __init__(self, dut: Iotlb, rules: IotlbRules):
        self.dut = dut
        self.latency = dut.LATENCY
        self.rules = rules
        self.answers = [dut.hit, dut.host_page, Value.cast(dut.size)]
        self._key = Value.cast(dut.key)

    def present(self, ctx, keys: deque):
        ctx.set(self._key, pack(self.dut.key.shape(), keys[-1]))
        if len(keys) >= self.latency:
            ctx.set(self.dut.address_page, keys[-self.latency]["page"] % (1 << 18))

    def fill_payload(self, entry: dict) -> dict:
        return {"entry": entry, "class_size": self.rules.CLASSES[self.rules.shift_of(entry)]}

    def decode(self, values):
        hit, host_page, size = values
        return (host_page, size) if hit else None

    def expected(self, entry: dict, key: dict):
        within = (1 << self.rules.shift_of(entry)) - 1
        return entry["host_page"] & ~within | key["page"] & within, entry["size"].value


def test_random_traffic(rng):
    rules = IotlbRules(CFG)
    bench = CacheBench(IotlbPort(Iotlb(CFG), rules), rules, rng)

    async def testbench(ctx):
        for _ in range(2):
            await bench.churn(ctx, 400, fills=0.5, removals=0.0)
            await bench.check_everything_is_found(ctx)
            for _ in range(15):
                await bench.check_one_invalidation(ctx)
            await bench.churn(ctx, 600, fills=0.5, removals=0.05)
            await bench.check_everything_is_found(ctx)
            await bench.churn(ctx, 300, fills=0.5, removals=0.0)
            await bench.check_reset(ctx, 64)

    bench.run(testbench)
    print(f"{bench.now} cycles, {bench.hits} hits, {bench.discarded} fills discarded, {bench.evicted} evicted")
    assert bench.hits > bench.now // 20
    assert bench.discarded
    assert bench.evicted


def test_permissions_by_access_and_privilege():
    permissions = Signal(Permissions)
    cases = [(access, privileged) for access in Access for privileged in (0, 1)]
    rows = evaluate(
        permissions, range(16), [permissions.allows(Value.cast(access), Value.cast(p)) for access, p in cases]
    )
    for value, row in enumerate(rows):
        for (access, privileged), allowed in zip(cases, row, strict=True):
            read, write = value >> 2 * privileged & 1, value >> 2 * privileged + 1 & 1
            wanted = {
                Access.READ: read,
                Access.WRITE: write,
                Access.ATOMIC: read & write,
                Access.ZERO_LENGTH_READ: read | write,
            }
            assert allowed == wanted[access], (value, access, privileged)


def test_page_numbers_keep_canonical_halves_apart(rng):
    address, page = Signal(64), Signal(46)
    module = Module()
    module.d.comb += page.eq(page_of(address))
    addresses = [rng.getrandbits(57) for _ in range(50)] + [-1 - rng.getrandbits(57) & (1 << 64) - 1 for _ in range(50)]

    async def testbench(ctx):
        for value in addresses:
            ctx.set(address, value)
            assert ctx.get(page) == (value >> 12) % (1 << 45) | value >> 63 << 45

    simulate(module, testbench)
