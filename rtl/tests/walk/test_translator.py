"""`Translator`: invalidations against walks that are under way, begin or wait."""

from nestwalk.config import CacheShape, preset
from nestwalk.invalidation.command import Scope
from nestwalk_sim.builders import (
    FirstStageTables,
    GuestSpace,
    HostSpace,
    ScalableTables,
    SecondStageTables,
    nested_fields,
)
from nestwalk_sim.memory import Memory
from nestwalk_sim.model import Request
from rtl.tests.walk.bench import TranslatorBench

CFG = preset("TINY").replace(tag_width=12, walk_slots=4)
DOMAIN, PASID = 7, 5
DEVICES = [0x100 + n for n in range(64)]
ADDRESS = 0x7654_3000
GUEST = 0x4000_0000


class NestedGuest:
    """Devices of one guest that share nested tables; the second stage has one page of level-1 tables to replace."""

    def __init__(self):
        self.memory = Memory()
        self.space = HostSpace(self.memory, CFG.haw)
        self.tables = ScalableTables(self.space)
        self.second = SecondStageTables(self.space, 4)
        self.first = FirstStageTables(GuestSpace(self.second, 30), 4)
        self.first.map(ADDRESS, GUEST)
        self.target = self.space.new_pages()
        self.second.map(GUEST, self.target)
        for source_id in DEVICES:
            self.tables.add_device(source_id, RID_PASID=0, PASIDE=1)
            self.tables.add_pasid(source_id, PASID, DID=DOMAIN, **nested_fields(self.first, self.second))

    def move(self):
        """Map the guest's page elsewhere, by a new second-stage table."""
        above = self.second.path(GUEST)[-2]
        self.target = self.space.new_pages()
        self.second.set_fields(above, ADDR=self.space.new_pages())
        self.second.map(GUEST, self.target)


def test_a_walk_that_begins_while_the_guest_caches_are_cleaned_keeps_nothing_stale(rng):
    """The requester's domain is not known when the walk begins, so nobody can tell yet whether it is covered."""
    cfg = CFG.replace(second_stage_cache_1=CacheShape(sets=256, ways=1))
    guest = NestedGuest()
    bench = TranslatorBench(cfg, guest.memory, rng, latency=range(1, 3), stall=0.0)
    bench.state = guest.tables.state
    stale = []

    async def testbench(ctx):
        await bench.cycles(ctx, 256)
        for delay, source_id in zip(range(0, 60, 10), DEVICES[1:], strict=False):
            warm = await bench.translate(ctx, Request(DEVICES[0], PASID, ADDRESS))
            assert warm.address == guest.target
            guest.move()
            bench.invalidate({"iotlb": 1, "scope": Scope.DOMAIN, "domain_id": DOMAIN})
            await bench.cycles(ctx, delay)
            bench.request(Request(source_id, PASID, ADDRESS))
            await bench.finish(ctx)
            response = await bench.translate(ctx, Request(source_id, PASID, ADDRESS))
            if response.address != guest.target:
                stale.append(delay)

    bench.run(testbench)
    assert stale == []
