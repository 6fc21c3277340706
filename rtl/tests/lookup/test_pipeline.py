"""`LookupPipeline`: what hits, what walks and with which configuration, in which cycle, and when it is drained."""

from collections import Counter
from dataclasses import dataclass
from random import Random

import pytest

from nestwalk.bus.translation import Access, AddressType, PageSize
from nestwalk.config import CacheShape, preset
from nestwalk.formats.fault import FaultReason
from nestwalk.formats.pasid import TranslationMode
from nestwalk.lookup.pipeline import LookupPipeline
from nestwalk.lookup.structure_caches import TableLevel
from rtl.tests.lookup.rules import EVERYTHING
from rtl.tests.simulation import send, simulate

CFG = preset("FORMAL").replace(
    tag_width=16,
    iotlb_4k=CacheShape(sets=32, ways=4),
    context_cache=CacheShape(sets=4, ways=2),
    pasid_cache=CacheShape(sets=4, ways=2),
    structure_cache_1=CacheShape(sets=4, ways=1),
    structure_cache_2=CacheShape(sets=4, ways=2),
)
ASIDE = CFG.replace(waiting_misses=64, walk_slots=4)
"""With misses that wait aside."""
AHEAD = ASIDE.replace(prefetch_streams=4, walk_slots=16)
"""And with prefetches."""
DEVICES = [0x100, 0x208, 0x310]
PASIDS = [None, 5]
KNOWN_PAGES = [0, 1, 2, 3]
CONTEXT_OF = {DEVICES[0]: 0x11, DEVICES[1]: 0x22}
"""Devices whose context entry is cached, with its RID_PASID."""
SPACE_OF = {(DEVICES[0], None): 3, (DEVICES[1], 5): 4, (DEVICES[2], 5): 6}
"""Requesters whose PASID-table entry is cached, with its domain."""
TABLE_OF = {
    (DEVICES[0], None, TableLevel.LEVEL_1, 0): 0x33,
    (DEVICES[0], None, TableLevel.LEVEL_2, 0): 0x44,
    (DEVICES[1], 5, TableLevel.LEVEL_2, 1 << 44 >> 30): 0x55,
    (DEVICES[2], 5, TableLevel.LEVEL_1, 0): 0x66,
}
"""Requesters, levels and 2 MiB or 1 GiB regions whose table is cached."""
STRANGER = (DEVICES[2], 5)
"""The requester whose table is of another domain than its PASID-table entry."""


def host_page(source_id: int, pasid: int | None, page: int) -> int:
    return source_id << 4 | (pasid is not None) << 3 | page


def entry_of(source_id: int, pasid: int | None, page: int) -> dict:
    return {
        "source_id": source_id,
        "pasid_valid": pasid is not None,
        "pasid": pasid or 0,
        "page": page,
        "permissions": EVERYTHING if page else {"user_read": 1},
        "size": PageSize.SIZE_4K,
        "host_page": host_page(source_id, pasid, page),
    }


def root_pointer(number: int, enabled: bool = True) -> dict:
    return {"enabled": enabled, "mode": number & 3, "root_table": number}


async def fill_caches(ctx, dut: LookupPipeline):
    for source_id in DEVICES:
        for pasid in PASIDS:
            for page in KNOWN_PAGES:
                entry = {"entry": entry_of(source_id, pasid, page), "class_size": PageSize.SIZE_4K}
                await send(ctx, dut.iotlb_fill, entry)
                await ctx.tick()
                assert not ctx.get(dut.events.iotlb_4k_evictions)
    for source_id, rid_pasid in CONTEXT_OF.items():
        await send(ctx, dut.context_fill, {"source_id": source_id, "fields": {"rid_pasid": rid_pasid}})
    for (source_id, pasid), domain in SPACE_OF.items():
        space = {"domain_id": domain, "mode": TranslationMode.SECOND_STAGE, "pasid": pasid or 0}
        fields = {"source_id": source_id, "pasid_valid": pasid is not None, "space": space}
        await send(ctx, dut.pasid_fill, fields)
    for (source_id, pasid, level, region), table in TABLE_OF.items():
        page = region << (9 if level is TableLevel.LEVEL_1 else 18)
        tags = {"source_id": source_id, "pasid_valid": pasid is not None, "pasid": pasid or 0, "page": page}
        tags["domain_id"] = 9 if (source_id, pasid) == STRANGER else SPACE_OF[source_id, pasid]
        await send(ctx, dut.structure_fill, {"level": level, "entry": tags | {"table": table}})


@dataclass
class Flight:
    """A request under way and what must become of it: ``outcome`` is "hit", "bypass", "walk" or "must walk".

    It must not be answered under a root pointer that was replaced before ``root_since``.
    """

    request: dict
    root: dict
    accepted: int
    outcome: str
    root_since: int = 0

    def __post_init__(self):
        self.root_since = self.accepted

    def response(self) -> dict:
        address = self.request["address"]
        if self.outcome == "hit":
            page = host_page(self.request["source_id"], self.pasid, address >> 12)
            address = page << 12 | address & 0xFFF
        return {"tag": self.request["tag"], "granted": 1, "address": address % (1 << CFG.haw)}

    @property
    def pasid(self) -> int | None:
        return self.request["pasid"] if self.request["pasid_valid"] else None

    def knowledge(self) -> dict:
        """RID_PASID, domain and table from the caches, None where they are unknown."""
        if self.outcome == "must walk":
            return dict.fromkeys(("context", "space", "hint"))
        source_id, address = self.request["source_id"], self.request["address"]
        tables = [TABLE_OF.get((source_id, self.pasid, TableLevel.LEVEL_1, address >> 21))]
        tables += [TABLE_OF.get((source_id, self.pasid, TableLevel.LEVEL_2, address >> 30))]
        return {
            "context": CONTEXT_OF.get(source_id),
            "space": SPACE_OF.get((source_id, self.pasid)),
            "hint": tables[0] or tables[1],
        }

    def visible(self, lost: set[str]) -> dict:
        """What of that the walker gets: the space, with the table if it is the space's, or else the context entry."""
        known = {name: value for name, value in self.knowledge().items() if name not in lost and value is not None}
        if "space" not in known or (self.request["source_id"], self.pasid) == STRANGER:
            known.pop("hint", None)
        if "space" in known:
            known.pop("context", None)
        return known


def random_request(rng: Random) -> tuple[dict, str]:
    """A request with enabled translation and its outcome."""
    pasid = rng.choice(PASIDS)
    request = {
        "source_id": rng.choice(DEVICES),
        "pasid_valid": pasid is not None,
        "pasid": rng.getrandbits(20) if pasid is None else pasid,
        "address": rng.choice([*KNOWN_PAGES, *KNOWN_PAGES, 4, 1 << 44]) << 12 | rng.getrandbits(12),
        "access": rng.choice(list(Access)),
        "privileged": rng.getrandbits(1),
        "execute": 0 if pasid is not None else rng.getrandbits(1),
    }
    page = request["address"] >> 12
    # Page 0 may only be read, and not by privileged requests; without PASID nobody is privileged.
    privileged = request["privileged"] and pasid is not None
    readable = request["access"] in (Access.READ, Access.ZERO_LENGTH_READ) and not privileged
    outcome = "hit" if page in KNOWN_PAGES and (page or readable) else "walk"
    lot = rng.random()
    if lot < 0.05:
        return request | {"address": request["address"] | rng.randrange(1, 127) << 57}, "must walk"
    if lot < 0.1:
        return request | {"address": 0xFEE00000 | rng.getrandbits(20)}, "must walk" if pasid is None else "walk"
    if lot < 0.15 and pasid is not None:
        return request | {"execute": 1}, "must walk"
    if lot < 0.2:
        address_type = rng.choice([AddressType.TRANSLATED, AddressType.TRANSLATION_REQUEST])
        return request | {"address_type": address_type}, "must walk"
    return request, outcome


def page_after_page(rng: Random) -> list[tuple[dict, str]]:
    """Some requests to each of the known pages, the last one first; those to the first page miss."""
    request = {"source_id": rng.choice(DEVICES), "pasid_valid": 0, "access": Access.READ, "privileged": 0, "execute": 0}
    hits = [(request | {"address": page << 12}, "hit") for page in reversed(KNOWN_PAGES[1:]) for _ in range(8)]
    return hits + [(request | {"address": 0, "access": Access.WRITE}, "walk") for _ in range(2)]


class Walks:
    """Stands in for the walker where misses wait aside: which slots are taken, and what they walk for."""

    def __init__(self, dut: LookupPipeline, rng: Random):
        self._dut, self._rng = dut, rng
        self._slots: list[tuple | None] = [None] * dut.cfg.walk_slots
        self._free = 0
        self.beside_equal = 0

    def offer(self, ctx, stall: float) -> bool:
        """Drive the status of this cycle; whether a walk could start."""
        free = [slot for slot, walk in enumerate(self._slots) if walk is None]
        ending = self._rng.choice([slot for slot, walk in enumerate(self._slots) if walk] or [None])
        ending = ending if self._rng.random() < 0.2 * (1 - stall) else None
        self._free = self._rng.choice(free) if free else 0
        status = {"slot": self._free, "freed": ending is not None, "freed_slot": ending or 0}
        ctx.set(self._dut.status, status | {"fills": self._rng.randrange(3), "filled": 0})
        if ending is not None:
            self._slots[ending] = None
        return bool(free)

    def start(self, request):
        page = (request.source_id, request.pasid_valid, request.pasid_valid and request.pasid, request.address >> 12)
        self.beside_equal += page in self._slots
        self._slots[self._free] = page


class Soak:
    """Random requests under random back-pressure, with ``forget`` and ``mark``."""

    def __init__(self, dut: LookupPipeline, rng: Random):
        self.dut, self.rng = dut, rng
        self.now = 0
        self.flights: dict[int, Flight] = {}
        self.outcomes: Counter[str] = Counter()
        self.forgets: dict[str, list[int]] = {"configuration": [], "structures": []}
        self.mark = -2
        self.drained_cycles = 0
        self.lookups = self.hits = 0
        self.roots: list[tuple[int, dict]] = []
        self.walks = Walks(dut, rng) if dut.cfg.waiting_misses else None

    async def run(self, ctx, requests: int):
        dut, rng = self.dut, self.rng
        offered, entering, tag, stall, root = None, None, 0, 0.5, root_pointer(0, True)
        sweep = []
        while tag < requests or offered or entering or self.flights:
            if not self.now % 200:
                stall = rng.choice([0.0, 0.2, 0.9, 0.99]) if tag < requests else 0.0
            if not offered and tag < requests and rng.random() < 0.9:
                offered = sweep.pop() if sweep else random_request(rng)
                offered[0]["tag"] = tag
                tag += 1
                ctx.set(dut.request.payload, offered[0])
            if not self.now or rng.random() < 0.02:
                root = root_pointer(rng.randrange(1 << 10), rng.random() < 0.7)
                self.roots.append((self.now, root))
            if rng.random() < 0.02:
                sweep = page_after_page(rng)
            mark = rng.random() < 0.03
            forgets = [name for name in self.forgets if rng.random() < 0.03]
            ctx.set(dut.request.valid, offered is not None)
            ctx.set(dut.root_pointer, root)
            ctx.set(dut.mark, mark)
            ctx.set(dut.forget_configuration, "configuration" in forgets)
            ctx.set(dut.forget_structures, "structures" in forgets)
            ctx.set(dut.response.ready, rng.random() >= stall)
            room = self.walks.offer(ctx, stall) if self.walks else True
            ctx.set(dut.miss.ready, room and rng.random() >= stall)
            samples = [getattr(port, name) for port in (dut.request, dut.response, dut.miss) for name in HANDSHAKE]
            _clk, _rst, drained, events, *values = await ctx.tick().sample(dut.drained, dut.events, *samples)
            accepted, answered, missed = (values[3 * n] and values[3 * n + 1] for n in range(3))
            self.check_drained(drained, root)
            if answered:
                self.check_response(values[5])
            if missed:
                self.check_miss(values[8])
            # A request enters in the cycle after it is taken.
            if entering:
                request, outcome = entering
                self.flights[request["tag"]] = Flight(request, root, self.now, outcome if root["enabled"] else "bypass")
            entering = None
            if accepted:
                assert offered
                request, outcome = offered
                entering = request | {"pasid": request["pasid"] if request["pasid_valid"] else 0}, outcome
                offered = None
            if mark:
                self.mark = self.now
            for name in forgets:
                self.forgets[name].append(self.now)
            self.lookups += events.iotlb_lookups
            self.hits += events.iotlb_4k_hits
            self.now += 1

    def check_drained(self, drained, root):
        if drained:
            self.drained_cycles += 1
            assert self.now > self.mark + 1
            late = [flight for flight in self.flights.values() if flight.accepted <= self.mark]
            assert not any(flight.outcome in ("hit", "bypass") for flight in late)
            # None may be answered from the tables of a root pointer that is gone.
            if not self.walks:
                assert all(flight.root == root for flight in late)
            for flight in late:
                flight.root_since = self.now

    def roots_of(self, flight) -> list[dict]:
        """The root pointers that a request may go by: who waits aside goes by the one of its last look-up."""
        if not self.walks:
            return [flight.root]
        since = max(time for time, _root in self.roots if time <= flight.root_since)
        return [root for time, root in self.roots if time >= since]

    def check_response(self, response):
        flight = self.flights.pop(response.tag)
        if flight.outcome in ("walk", "must walk") and not all(root["enabled"] for root in self.roots_of(flight)):
            flight.outcome = "disabled aside"
        assert flight.outcome in ("hit", "bypass", "disabled aside"), flight
        assert {name: response[name] for name in flight.response()} == flight.response()
        assert response.page_size == PageSize.SIZE_4K
        assert response.fault == FaultReason.NONE
        self.outcomes[flight.outcome] += 1

    def check_miss(self, miss):
        if self.dut.cfg.prefetch_streams and miss.lookup.prefetch:
            self.check_prefetch(miss.lookup.request)
            return
        flight = self.flights.pop(miss.lookup.request.tag)
        assert flight.outcome in ("walk", "must walk"), flight
        lookup, known = miss.lookup, miss.known
        assert {name: lookup.request[name] for name in flight.request} == flight.request
        assert {name: lookup.root_pointer[name] for name in flight.root} in self.roots_of(flight)
        found = {}
        if known.space_hit:
            found["space"] = lookup.configuration.space.domain_id
            if known.hint_hit:
                found["hint"] = lookup.hint.table
        elif known.context_hit:
            found["context"] = lookup.configuration.context.rid_pasid
        lost = set()
        for name, what in (("configuration", {"context", "space"}), ("structures", {"hint"})):
            if any(flight.accepted <= forget < self.now for forget in self.forgets[name]):
                lost |= what
        if self.walks:
            # Whoever has waited aside was looked up later than accepted.
            assert found in [flight.visible(lost - kept) for kept in (set(), {"context", "space"}, {"hint"}, lost)]
            self.walks.start(lookup.request)
        else:
            assert found == flight.visible(lost), flight
        self.outcomes[flight.outcome] += 1
        for name in ("context", "space", "hint"):
            self.outcomes[f"known {name}"] += name in found
            self.outcomes[f"forgotten {name}"] += name in flight.visible(set()).keys() - found.keys()
            self.outcomes[f"hidden {name}"] += flight.knowledge()[name] is not None and name not in flight.visible(
                set()
            )

    def check_prefetch(self, request):
        """A page after those that requests of this requester go to."""
        assert self.walks
        assert request.source_id in DEVICES
        assert request.pasid == (5 if request.pasid_valid else 0)
        assert 0 < (request.address >> 12) % (1 << 32) <= 4 + AHEAD.prefetch_pages
        assert request.address % (1 << 12) == 0
        assert request.access == Access.READ
        self.outcomes["prefetch"] += 1
        self.walks.start(request)


HANDSHAKE = ("valid", "ready", "payload")


@pytest.mark.parametrize("cfg", [CFG, ASIDE, AHEAD], ids=["in line", "aside", "ahead"])
def test_random_requests(cfg, rng):
    dut = LookupPipeline(cfg)
    soak = Soak(dut, rng)

    async def testbench(ctx):
        await fill_caches(ctx, dut)
        await soak.run(ctx, 1500)
        ctx.set(dut.mark, 1)
        await ctx.tick()
        ctx.set(dut.mark, 0)
        await ctx.tick().repeat(20)
        assert ctx.get(dut.drained)

    simulate(dut, testbench)
    outcomes = soak.outcomes
    kinds = {"hit", "bypass", "walk", "must walk"}
    kinds |= {f"{what} {name}" for what in ("known", "forgotten") for name in ("context", "space", "hint")}
    kinds |= {"hidden context", "hidden hint"}
    kinds |= {"disabled aside"} if cfg.waiting_misses else set()
    kinds |= {"prefetch"} if cfg.prefetch_streams else set()
    assert kinds == {name for name, count in outcomes.items() if count}
    assert soak.drained_cycles > soak.now // 50
    assert soak.hits == outcomes["hit"]
    assert soak.lookups == sum(outcomes[name] for name in ("hit", "walk", "must walk", "disabled aside"))
    if soak.walks:
        # Only those that wait no second time, or may not wait.
        assert soak.walks.beside_equal < (outcomes["walk"] + outcomes["must walk"]) // 3


def test_misses_that_wait_aside_hold_up_no_hits():
    """A flood of misses to a walker that takes none: hits go on, and the misses come in their order."""
    dut = LookupPipeline(ASIDE)
    misses = 40

    async def testbench(ctx):
        await fill_caches(ctx, dut)
        ctx.set(dut.root_pointer, root_pointer(1))
        ctx.set(dut.response.ready, 1)
        ctx.set(dut.request.valid, 1)
        for number in range(misses):
            fields = {"tag": number, "source_id": DEVICES[0], "address": (1 + number) << 30}
            ctx.set(dut.request.payload, fields)
            await ctx.tick().until(dut.request.ready)
        accepted = 0
        for _ in range(100):
            ctx.set(dut.request.payload, {"tag": misses + accepted, "source_id": DEVICES[0], "address": 0x1000})
            accepted += (await ctx.tick().sample(dut.request.ready))[2]
        ctx.set(dut.request.valid, 0)
        assert accepted > 90
        ctx.set(dut.miss.ready, 1)
        order, slot = [], 0
        for _ in range(2000):
            # Each walk ends as soon as it has begun.
            ctx.set(dut.status, {"slot": slot})
            _clk, _rst, valid, tag = await ctx.tick().sample(dut.miss.valid, dut.miss.payload.lookup.request.tag)
            if valid:
                order.append(tag)
                ctx.set(dut.miss.ready, 0)
                ctx.set(dut.status, {"slot": slot, "freed": 1, "freed_slot": slot})
                await ctx.tick()
                ctx.set(dut.miss.ready, 1)
                slot = (slot + 1) % ASIDE.walk_slots
        assert order == list(range(misses))

    simulate(dut, testbench)


@pytest.mark.parametrize("cfg", [CFG, ASIDE], ids=["in line", "aside"])
def test_one_hit_each_cycle_at_constant_latency(cfg, rng):
    dut = LookupPipeline(cfg)
    count = 100
    accepted: dict[int, int] = {}
    answered: dict[int, int] = {}

    async def testbench(ctx):
        await fill_caches(ctx, dut)
        ctx.set(dut.root_pointer, root_pointer(1))
        ctx.set(dut.response.ready, 1)
        ctx.set(dut.request.valid, 1)
        for cycle in range(count + dut.LATENCY):
            fields = {"source_id": rng.choice(DEVICES), "address": rng.choice(KNOWN_PAGES[1:]) << 12}
            ctx.set(dut.request.payload, fields | {"tag": cycle})
            _clk, _rst, ready, valid, tag = await ctx.tick().sample(
                dut.request.ready, dut.response.valid, dut.response.payload.tag
            )
            if ready:
                accepted[cycle] = cycle
            if valid:
                answered[tag] = cycle
        assert not ctx.get(dut.miss.valid)

    simulate(dut, testbench)
    assert list(accepted) == list(range(count + dut.LATENCY)), "a cycle without acceptance"
    assert answered == {tag: tag + dut.LATENCY for tag in range(count)}


def test_stalls_without_losing_anything_when_nobody_takes_answers(rng):
    dut = LookupPipeline(CFG)
    answered = []

    async def testbench(ctx):
        await fill_caches(ctx, dut)
        ctx.set(dut.root_pointer, root_pointer(1))
        ctx.set(dut.request.valid, 1)
        accepted = 0
        for _ in range(60):
            ctx.set(dut.request.payload, {"tag": accepted, "source_id": DEVICES[0], "address": 0x1000})
            accepted += (await ctx.tick().sample(dut.request.ready))[2]
        assert dut.DEPTH - dut.LATENCY <= accepted <= dut.DEPTH + 1
        ctx.set(dut.request.valid, 0)
        ctx.set(dut.response.ready, 1)
        for _ in range(accepted):
            (response,) = await ctx.tick().sample(dut.response.payload).until(dut.response.valid)
            answered.append(response.tag)
        await ctx.tick().repeat(10)
        assert not ctx.get(dut.response.valid)
        assert answered == list(range(accepted))

    simulate(dut, testbench)
