"""`WalkResults`: answers after their records, slots freed by answers, fills that a later look-up may trust."""

from nestwalk.bus.translation import Access, PageSize
from nestwalk.config import preset
from nestwalk.formats.fault import FaultReason
from nestwalk.walk.results import WalkResults
from nestwalk.walk.state import Action
from rtl.tests.simulation import receive, simulate

CFG = preset("FORMAL").replace(walk_slots=4, tag_width=12)
PASID = 5


class Slots:
    """Finishes walks in free slots and watches what comes of them."""

    def __init__(self, dut: WalkResults, rng):
        self.dut, self.rng = dut, rng
        self.free = set(range(CFG.walk_slots))
        self.finished: dict[int, dict] = {}
        self.order: list[int] = []
        self.recorded: list[int] = []
        self.answered: list[int] = []
        self.fills: list[int] = []
        self.freed = 0

    def result(self, tag: int, slot: int) -> dict:
        """A random result; its address names the tag, as FaultEvent and fill do."""
        rng = self.rng
        granted = rng.random() < 0.6
        return {
            "slot": slot,
            "granted": granted,
            "recorded": not granted and rng.random() < 0.7,
            "cached": rng.random() < 0.8,
            "late": rng.random() < 0.2,
            "fault": FaultReason.NONE if granted else rng.choice([FaultReason.SPT_2, FaultReason.LGN_2]),
            "tag": tag,
        }

    def finish(self, ctx, result: dict):
        dut, tag = self.dut, result["tag"]
        address = tag << 12
        request = {"tag": tag, "source_id": tag, "pasid_valid": 1, "pasid": PASID, "address": address}
        ctx.set(dut.request, request | {"access": Access.WRITE, "privileged": 1})
        action = Action.GRANT if result["granted"] else Action.FAULT
        decision = {name: result[name] for name in ("recorded", "cached", "fault")}
        decision |= {"action": action, "address": address, "size": PageSize.SIZE_4K}
        ctx.set(dut.decision, decision)
        ctx.set(dut.space, {"domain_id": 3, "first_stage": 1, "pasid": PASID})
        ctx.set(dut.slot, result["slot"])
        ctx.set(dut.late, result["late"])
        self.free.remove(result["slot"])
        self.finished[tag] = result
        self.order.append(tag)

    def check_fault(self, event):
        tag = event.source_id
        result = self.finished[tag]
        assert result["recorded"]
        assert (event.reason, event.page, event.pasid) == (result["fault"], tag, PASID)
        assert (event.pasid_valid, event.privileged, event.execute) == (1, 1, 0)
        assert event.access == Access.WRITE.value
        self.recorded.append(tag)

    def check_response(self, response):
        result = self.finished[response.tag]
        assert response.granted == result["granted"]
        assert response.fault == result["fault"]
        assert not result["granted"] or response.address == response.tag << 12
        assert not result["recorded"] or response.tag in self.recorded, "answered before its record was taken"
        self.answered.append(response.tag)
        return result["slot"]

    def check_fill(self, fill):
        tag = fill.entry.source_id
        result = self.finished[tag]
        assert result["granted"]
        assert result["cached"]
        assert not result["late"], "an overtaken walk filled the IOTLB"
        assert (fill.entry.page, fill.entry.host_page, fill.entry.domain_id) == (tag, tag, 3)
        assert (fill.entry.pasid_valid, fill.entry.pasid, fill.entry.first_stage) == (1, PASID, 1)
        self.fills.append(tag)


def test_random_results(rng):
    dut = WalkResults(CFG)
    slots = Slots(dut, rng)
    count = 600

    async def testbench(ctx):
        tag = 0
        while len(slots.answered) < count:
            stall = rng.choice([0.1, 0.9]) if not tag % 50 else 0.5
            finishes = tag < count and slots.free and rng.random() < 0.5
            if finishes:
                slots.finish(ctx, slots.result(tag, rng.choice(sorted(slots.free))))
                tag += 1
            ctx.set(dut.finish, bool(finishes))
            for port in (dut.response, dut.faults, dut.iotlb_fill):
                ctx.set(port.ready, rng.random() >= stall)
            names = [getattr(port, name) for port in (dut.response, dut.faults, dut.iotlb_fill) for name in STREAM]
            _clk, _rst, freed, freed_slot, *values = await ctx.tick().sample(dut.freed, dut.freed_slot, *names)
            if values[0] and values[1]:
                slot = slots.check_response(values[2])
                assert (freed, freed_slot) == (1, slot)
                slots.free.add(slot)
            else:
                assert not freed
            if values[3] and values[4]:
                slots.check_fault(values[5])
            if values[6] and values[7]:
                slots.check_fill(values[8])

    simulate(dut, testbench)
    assert slots.answered == slots.order
    assert slots.recorded == [tag for tag in slots.order if slots.finished[tag]["recorded"]]
    cacheable = [
        tag for tag, result in slots.finished.items() if result["granted"] and result["cached"] and not result["late"]
    ]
    # A fill that finds no room may be left out.
    assert set(slots.fills) <= set(cacheable)
    assert len(slots.fills) > len(cacheable) * 0.9


STREAM = ("valid", "ready", "payload")


def test_a_page_that_reaches_the_interrupt_range_vouches_for_4_kib_only():
    dut = WalkResults(CFG)
    cases = []
    for size, width in ((PageSize.SIZE_4K, 12), (PageSize.SIZE_2M, 21), (PageSize.SIZE_1G, 30)):
        for host in (
            0xFEDF_F000,
            0xFEF4_5000,
            0xFEC0_0000,
            0xFEA0_0000,
            0xFF00_0000,
            0xC000_0000,
            0xBFFF_F000,
            0x3EE0_0000,
        ):
            first = host >> width << width
            reaches = first < 0xFEF0_0000 and first + (1 << width) > 0xFEE0_0000
            cases.append((host, size, PageSize.SIZE_4K if reaches else size))

    async def testbench(ctx):
        for host, size, kept in cases:
            ctx.set(dut.decision, {"action": Action.GRANT, "cached": 1, "address": host, "size": size})
            ctx.set(dut.finish, 1)
            ctx.set(dut.response.ready, 1)
            await ctx.tick()
            ctx.set(dut.finish, 0)
            fill = await receive(ctx, dut.iotlb_fill)
            assert fill.class_size == kept, f"{host:#x} {size}"
            assert fill.entry.size == size
            await ctx.tick().repeat(2)

    simulate(dut, testbench)
    assert {kept for host, size, kept in cases if size is not PageSize.SIZE_4K} == set(PageSize)


def test_nothing_waits_to_be_cached_once_an_invalidation_has_dropped_it():
    dut = WalkResults(CFG)

    async def testbench(ctx):
        ctx.set(dut.response.ready, 1)
        ctx.set(dut.decision, {"action": Action.GRANT, "cached": 1, "address": 0x5000})
        ctx.set(dut.finish, 1)
        await ctx.tick().repeat(5)
        ctx.set(dut.finish, 0)
        await ctx.tick().repeat(3)
        ctx.set(dut.drop_fills, 1)
        await ctx.tick().until(~dut.fills_wait)
        ctx.set(dut.drop_fills, 0)
        # The cache decides about the one that it is offered already.
        ctx.set(dut.iotlb_fill.ready, 1)
        taken = 0
        for _ in range(10):
            taken += (await ctx.tick().sample(dut.iotlb_fill.valid))[2]
        assert taken == 1

    simulate(dut, testbench)
