"""The page request queue against the golden model's, one request after the other and with software in between."""

from dataclasses import dataclass, field
from random import Random

from nestwalk.bus.axi import AxiResponse
from nestwalk.bus.memory import MemoryIds
from nestwalk.config import PRESETS
from nestwalk.events.page_requests import WORDS, PageRequests
from nestwalk.invalidation.command import Scope
from nestwalk_sim.memory import Memory
from nestwalk_sim.model import PageRequest, PageResponse
from nestwalk_sim.model.page_request import Acceptance
from nestwalk_sim.model_unit import page_requests as model
from nestwalk_sim.model_unit.caches import Caches, Tag
from nestwalk_sim.model_unit.register_file import RegisterFile
from rtl.tests.simulation import simulate
from rtl.tests.walk.steps import page_walk_request

CFG = PRESETS["DEFAULT"]
BASE = 0xAB_CDEF_F000  # so that the second page carries into the next bits


class Forgotten(Caches):
    """Notes what the model forgets, as the hardware's `Invalidation` says it."""

    def __init__(self):
        super().__init__()
        self.asked: list[dict] = []

    def forget_tagged(self, covered):
        for domain in range(1 << 8):
            if covered(Tag(domain, 0)):
                self.asked.append({"scope": Scope.DOMAIN, "domain_id": domain})

    def forget_pages_of_pasid(self, tag: Tag, address: int, size: int):
        assert size == 4096
        names = {"domain_id": tag.domain_id, "pasid": tag.pasid, "page": address >> 12}
        self.asked.append({"scope": Scope.PAGE_IN_PASID} | names)

    def forget_pages_of_domain(self, domain_id: int, address: int, size: int):
        assert size == 4096
        self.asked.append({"scope": Scope.PAGE_IN_DOMAIN, "domain_id": domain_id, "page": address >> 12})


@dataclass
class Bench:
    """The hardware, what surrounds it, and the model, which gets the same requests and the same software.

    ``speed`` is the chance of each cycle that a neighbour does its part; memory refuses the word at ``refused``, and in
    the model the whole queue.
    """

    rng: Random
    size: int = 0
    speed: float = 0.5
    refused: int | None = None
    responses: list[PageResponse] = field(default_factory=list)
    forgotten: list[dict] = field(default_factory=list)
    held: int = 0

    def __post_init__(self):
        self.dut = PageRequests(CFG)
        self.memory, self.twin = Memory(), Memory()
        for memory in (self.memory, self.twin) if self.refused is None else (self.memory,):
            memory.add_pages(range(BASE, BASE + (4096 << self.size), 4096))
        self.registers = RegisterFile(CFG)
        self.caches = Forgotten()
        self.model = model.PageRequests(self.registers, self.twin, self.caches, lambda _request: self.acceptance)
        self.acceptance = Acceptance(True, 0, 0, 1, None, None, False, [])
        self.status = {"PPR": 0, "PRO": 0}
        self.tail = 0
        self.registers.set_field("PQA", "PQA", BASE >> 12)
        self.registers.set_field("PQA", "PQS", self.size)

    def chance(self) -> bool:
        return self.rng.random() < self.speed

    def set_head(self, ctx, head: int):
        self.registers.set_field("PQH", "PQH", head)
        ctx.set(self.dut.control.head, head)

    def clear(self, ctx, **status: int):
        for name in status:
            self.status[name] = 0
            self.registers.set_field("PRS", name, 0)
        ctx.set(self.dut.control.overflow, self.status["PRO"])

    async def neighbours(self, ctx):
        """Register file, memory, caches and devices, each as slowly as it likes."""
        dut, control, write = self.dut, self.dut.control, self.dut.write
        ctx.set(control.base, BASE >> 12)
        ctx.set(control.size, self.size)
        written: list[tuple[int, int]] = []  # words on their way to memory
        visible = 0
        while True:
            ctx.set(control.hold, self.rng.random() < 0.2)
            granted = ctx.get(control.claims) and (ctx.get(control.granted) or self.chance())
            ctx.set(control.granted, granted)
            for port in (dut.walk, dut.invalidations, dut.responses):
                ctx.set(port.ready, self.chance())
            ctx.set(write.request.ready, ctx.get(write.request.valid) and self.chance())
            ctx.set(dut.pause, not self.chance())
            done = written.pop(0) if written and self.chance() else None
            if done is not None:
                failed = not self._put(self.memory, *done)
                response = AxiResponse.SLVERR if failed else AxiResponse.OKAY
                ctx.set(write.done.payload, {"id": MemoryIds(CFG).event, "response": response})
                visible += 1
            ctx.set(write.done.valid, done is not None)
            _clk, _rst, *values = await ctx.tick().sample(
                *(dut.invalidations.valid, dut.invalidations.ready, dut.invalidations.payload),
                *(dut.responses.valid, dut.responses.ready, dut.responses.payload),
                *(write.request.valid, write.request.ready, write.request.payload),
                *(control.hold, control.queued, control.next_tail, control.overflows),
            )
            invalidates, forgets, invalidation, responds, taken, response = values[:6]
            writes, accepted, word, hold, queued, next_tail, overflows = values[6:]
            if invalidates and forgets:
                self.forgotten.append(self._meant(invalidation))
            if responds and taken:
                pasid = response.pasid if response.pasid_valid else None
                self.responses.append(PageResponse(response.source_id, pasid, response.group, response.code))
            if writes:
                assert granted, "a write without permission"
                assert (word.id, word.size, word.exclusive) == (MemoryIds(CFG).event, 3, 0)
            else:
                assert word.as_bits() == 0, "nothing is offered, but not all zeros"
            if writes and accepted:
                written.append((word.address, word.data))
            self.held += hold
            assert not (hold and (queued or overflows)), "told while software writes a register"
            if queued:
                assert not written, "PQT moved before the request was in memory"
                assert visible == WORDS, "PQT moved before the request was in memory"
                self.tail = next_tail
                self.status["PPR"] = 1
            if overflows:
                self.status["PRO"] = 1
            if queued or overflows:
                visible = 0
            ctx.set(control.tail, self.tail)
            ctx.set(control.overflow, self.status["PRO"])

    def _put(self, memory: Memory, address: int, value: int) -> bool:
        if address == self.refused:
            return False
        memory.write64(address, value)
        return True

    @staticmethod
    def _meant(invalidation) -> dict:
        """The fields that the scope names."""
        assert (invalidation.iotlb, invalidation.context, invalidation.pasid_cache) == (1, 0, 0)
        assert (invalidation.address_mask, invalidation.hint) == (0, 0)
        names = {
            Scope.PAGE_IN_PASID: ("domain_id", "pasid", "page"),
            Scope.PAGE_IN_DOMAIN: ("domain_id", "page"),
            Scope.DOMAIN: ("domain_id",),
        }
        return {"scope": invalidation.scope} | {name: invalidation[name] for name in names[invalidation.scope]}

    async def tables(self, ctx):
        """Answers what is asked of the tables with ``acceptance``, a while later."""
        dut = self.dut
        while True:
            while not (ctx.get(dut.walk.valid) and ctx.get(dut.walk.ready)):
                await ctx.tick()
            walk = ctx.get(dut.walk.payload)
            wanted = page_walk_request(self.request)
            assert {name: getattr(walk, name) for name in wanted} == wanted
            await ctx.tick()
            while not self.chance():
                await ctx.tick()
            said = self.acceptance
            mode = said.translation_type or 1
            verdict = {"accepted": said.accepted, "domain_id": said.domain_id, "pasid": said.pasid, "mode": mode}
            ctx.set(dut.verdict.payload, verdict)
            ctx.set(dut.verdict.valid, 1)
            await ctx.tick()
            ctx.set(dut.verdict.valid, 0)

    async def send(self, ctx, request: PageRequest, acceptance: Acceptance):
        """One request through both, until it is done with."""
        dut = self.dut
        self.request, self.acceptance = request, acceptance
        self.model.send(request)
        ctx.set(
            dut.requests.payload,
            {
                "read": request.read,
                "write": request.write,
                "last": request.last,
                "group": request.group,
                "page": request.address >> 12,
                "pasid": request.pasid or 0,
                "execute": request.execute,
                "privileged": request.privileged,
                "pasid_valid": request.pasid is not None,
                "source_id": request.source_id,
            },
        )
        ctx.set(dut.requests.valid, 1)
        await ctx.tick().until(dut.requests.ready)
        ctx.set(dut.requests.valid, 0)
        while not ctx.get(dut.idle):
            await ctx.tick()
        await ctx.tick()  # the neighbours have seen the last cycle, too
        self.compare()

    def compare(self):
        """Nothing differs from what the model has."""
        registers = self.registers
        assert self.tail == registers.field("PQT", "PQT")
        assert self.status == {name: registers.field("PRS", name) for name in self.status}
        assert self.forgotten == self.caches.asked
        assert self.responses == [response for told in self.model.responses.values() for response in told]

    def forget(self):
        """What has been compared."""
        for told in (self.responses, self.forgotten, self.caches.asked, self.model.responses):
            told.clear()

    def run(self, software):
        simulate(self.dut, software, background=(self.neighbours, self.tables), limit=400_000)
        assert self.refused is not None or self.memory.image() == self.twin.image()


def random_request(rng: Random, *, last: bool | None = None) -> PageRequest:
    with_pasid = rng.random() < 0.6
    return PageRequest(
        rng.getrandbits(16),
        rng.getrandbits(20) if with_pasid else None,
        rng.getrandbits(52) << 12,
        read=rng.random() < 0.6,
        write=rng.random() < 0.6,
        last=rng.random() < 0.5 if last is None else last,
        group=rng.getrandbits(9),
        execute=with_pasid and rng.random() < 0.5,
        privileged=with_pasid and rng.random() < 0.5,
    )


def random_acceptance(rng: Random, *, refused: float = 0.2) -> Acceptance:
    if rng.random() < refused:
        return Acceptance(False, 0, 0, 0, 0x47, "SCT.8", True, [])
    pasid, domain_id, mode = rng.getrandbits(20), rng.randrange(1, 1 << 8), rng.randrange(1, 5)
    return Acceptance(True, pasid, domain_id, mode, None, None, False, [])


def test_random_requests_with_software_in_between(rng):
    bench = Bench(rng)
    seen = {"queued": 0, "refused": 0, "overflow": 0, "frozen": 0, "wrapped": 0, "silent": 0}

    async def software(ctx):
        slots = 128
        for number in range(700):
            request, acceptance = random_request(rng), random_acceptance(rng)
            tail, frozen = bench.tail, bench.status["PRO"]
            await bench.send(ctx, request, acceptance)
            seen["queued"] += bench.tail != tail
            seen["wrapped"] += bench.tail < tail
            seen["refused"] += not acceptance.accepted
            seen["frozen"] += bool(acceptance.accepted and frozen)
            seen["overflow"] += bool(bench.status["PRO"] and not frozen)
            seen["silent"] += not bench.responses
            bench.forget()
            # Software is slow for a while, then quick; it clears the overflow with or without making room.
            if rng.random() < (0.02 if number % 300 < 200 else 0.5):
                bench.clear(ctx, PPR=1)
                bench.set_head(ctx, bench.tail if rng.random() < 0.7 else (bench.tail - rng.randrange(slots)) % slots)
            if rng.random() < 0.05:
                bench.clear(ctx, PRO=1)

    bench.run(software)
    assert bench.held
    assert all(seen.values()), seen


def test_the_queue_fills_up_at_every_place_of_a_group(rng):
    """A group of three: none, one, two or all of its requests find a place; the last is answered unless it does."""
    for free in range(4):
        bench = Bench(rng, speed=1.0)

        async def software(ctx, bench=bench, free=free):
            bench.set_head(ctx, free + 1)
            group = [random_request(rng, last=number == 2)._replace(read=True, group=0x155) for number in range(3)]
            for request in group:
                await bench.send(ctx, request, random_acceptance(rng, refused=0))
            assert bench.tail == min(free, 3)
            assert bench.status["PRO"] == (free < 3)
            assert [(told.group, told.code) for told in bench.responses] == ([(0x155, 0)] if free < 3 else [])

        bench.run(software)


def test_queues_of_every_size_wrap(rng):
    for size in (1, 7):
        bench = Bench(rng, size=size, speed=1.0)

        async def software(ctx, bench=bench, size=size):
            last = (128 << size) - 1
            bench.tail = last - 1
            bench.registers.set_field("PQT", "PQT", bench.tail)
            bench.set_head(ctx, 1)
            for tail in (last, 0):
                await bench.send(ctx, random_request(rng), random_acceptance(rng, refused=0))
                assert bench.tail == tail
            await bench.send(ctx, random_request(rng), random_acceptance(rng, refused=0))
            assert (bench.tail, bench.status["PRO"]) == (0, 1)

        bench.run(software)


def test_a_request_that_memory_refuses_counts_as_overflow(rng):
    """Whichever of its words fails."""
    for word in range(WORDS):
        bench = Bench(rng, refused=BASE + 8 * word)

        async def software(ctx, bench=bench):
            await bench.send(ctx, random_request(rng, last=True)._replace(read=True), random_acceptance(rng, refused=0))
            assert (bench.tail, bench.status) == (0, {"PPR": 0, "PRO": 1})
            assert [told.code for told in bench.responses] == [0]

        bench.run(software)


def test_nothing_is_accepted_or_forgotten_while_it_must_not_be(rng):
    dut = PageRequests(CFG)
    accepted, offered = [], []

    async def testbench(ctx):
        ctx.set(dut.requests.valid, 1)
        ctx.set(dut.hold, 1)
        for _ in range(20):
            _, _, ready, idle = await ctx.tick().sample(dut.requests.ready, dut.idle)
            accepted.append(ready)
            assert idle
        ctx.set(dut.hold, 0)
        ctx.set(dut.pause, 1)
        ctx.set(dut.control.head, 5)
        ctx.set(dut.walk.ready, 1)
        await ctx.tick().until(dut.requests.ready)
        ctx.set(dut.requests.valid, 0)
        await ctx.tick().until(dut.walk.valid)
        ctx.set(dut.verdict.payload, {"accepted": 1, "domain_id": 3, "pasid": 0, "mode": 1})
        ctx.set(dut.verdict.valid, 1)
        await ctx.tick()
        ctx.set(dut.verdict.valid, 0)
        for _ in range(20):
            _, _, valid, idle = await ctx.tick().sample(dut.invalidations.valid, dut.idle)
            offered.append(valid)
            assert not idle
        ctx.set(dut.pause, 0)
        await ctx.tick().until(dut.invalidations.valid)

    simulate(dut, testbench)
    assert not any(accepted)
    assert not any(offered)
