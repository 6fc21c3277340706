"""Looks a cache up every cycle while it is filled and invalidated, and compares it with a log of both.

A hit must return the latest fill of the key's tag, and never what an invalidation covers: one that was offered no
earlier than the fill and has been transferred before the look-up. A look-up in the very cycle in which its entry is
written must miss, since a block RAM does not say what it returns then. At rest everything that was filled must be
found, apart from what was covered and as many entries as were evicted.
"""

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from random import Random

from amaranth.hdl import ResetInserter, Signal, Value
from amaranth.lib import data

from rtl.tests.lookup.rules import CacheRules
from rtl.tests.simulation import simulate

__all__ = ["CacheBench", "CachePort", "pack"]


def pack(layout: data.Layout, fields: dict) -> int:
    """The bits of a structure; quicker than a constant, which matters when there is one in each cycle."""
    bits = 0
    for name, value in fields.items():
        place = layout[name]
        number = (
            pack(data.Layout.cast(place.shape), value) if isinstance(value, dict) else getattr(value, "value", value)
        )
        assert 0 <= number < 1 << place.width, f"{name} is {place.width} bits wide"
        bits |= int(number) << place.offset
    return bits


@dataclass
class Fill:
    """``written`` is the cycle of the write, None before it."""

    entry: dict
    offered: int
    taken: int = -1
    written: int | None = None


@dataclass
class Removal:
    """An invalidation; ``done`` is the cycle of its transfer."""

    fields: dict
    offered: int
    done: int | None = None


class CachePort:
    """How the bench sees a `BlockCache` or a `RegisterCache`."""

    def __init__(self, dut, rules: CacheRules):
        self.dut = dut
        self.latency = dut.LATENCY
        self.rules = rules
        self.answers = [dut.way_hit, *(Value.cast(entry) for entry in dut.way_entry)]
        self._key = Value.cast(dut.key)

    def present(self, ctx, keys: deque):
        """Set the key of this cycle, the last of ``keys``."""
        ctx.set(self._key, pack(self.dut.key.shape(), keys[-1]))

    def fill_payload(self, entry: dict) -> dict:
        return entry

    def decode(self, values):
        """The entry that hits, None for a miss."""
        hits, *entries = values
        assert hits & (hits - 1) == 0, "two ways hit"
        return entries[hits.bit_length() - 1] if hits else None

    def expected(self, entry: dict, key: dict):
        return pack(self.rules.format.entry, entry | {"valid": 1})


class CacheBench:
    """Runs one cache.

    Attributes
    ----------
    hits, discarded, evicted, lost : int
        What has happened so far; entries are lost to evictions.
    """

    def __init__(self, port, rules: CacheRules, rng: Random):
        self.port = port
        self.rules = rules
        self.rng = rng
        self.reset = Signal()
        self.now = 0
        self.keys: deque[dict] = deque()
        self.forgotten = -1  # look-ups up to this cycle were reset away
        self.history: dict[Hashable, list[Fill]] = {}
        self.removals: list[Removal] = []
        self.filling: Fill | None = None
        self.taken: Fill | None = None
        self.removing: Removal | None = None
        self.removed = -1  # when the last invalidation was done
        self.hits = self.discarded = self.evicted = self.lost = 0
        self._evicted_before = 0
        self.hit_times: set[int] = set()

    def run(self, testbench):
        """Simulate ``testbench`` with this bench's cache."""
        simulate(ResetInserter(self.reset)(self.port.dut), testbench, limit=1_000_000)

    def offer_fill(self, ctx, entry: dict):
        self.filling = Fill(entry, self.now)
        ctx.set(self.port.dut.fill.payload, self.port.fill_payload(entry))
        ctx.set(self.port.dut.fill.valid, 1)

    def offer_invalidation(self, ctx, fields: dict):
        self.removing = Removal(fields, self.now)
        self.removals.append(self.removing)
        ctx.set(self.port.dut.invalidations.payload, fields)
        ctx.set(self.port.dut.invalidations.valid, 1)

    async def cycle(self, ctx, key: dict | None = None):
        """One cycle with a look-up, of a random key by default."""
        dut, port = self.port.dut, self.port
        key = key or self.rules.random_key(self.rng)
        # Whoever looks up gives PASID 0 where there is none.
        self.keys.append(key | {"pasid": 0} if key.get("pasid_valid") == 0 else key)
        port.present(ctx, self.keys)
        _clk, _rst, fill_taken, done, filled, evicted, *values = await ctx.tick().sample(
            dut.fill.ready, dut.invalidations.ready, dut.filled, dut.evicted, *port.answers
        )
        if self.taken:  # in the cycle before: written now or never
            self._end_fill(filled)
            filled = 0
        if self.filling and fill_taken:
            self.filling.taken = self.now
            self.taken, self.filling = self.filling, None
            ctx.set(dut.fill.valid, 0)
        if filled:
            self._end_fill(filled)
        if self.removing and done:
            self.removed = self.removing.done = self.now
            self.removing = None
            ctx.set(dut.invalidations.valid, 0)
        self.evicted += bool(evicted)
        if len(self.keys) > port.latency:
            answered = self.keys.popleft()
            self._check(self.now - port.latency, answered, port.decode(values))
        self.now += 1

    def _end_fill(self, filled: int):
        fill, self.taken = self.taken, None
        assert fill, "a fill out of nowhere"
        if filled:
            fill.written = self.now
            self.history.setdefault(self.rules.tag(fill.entry), []).append(fill)
        else:
            assert self._waited(fill.taken), "a fill was discarded although no invalidation waited"
            self.discarded += 1

    def _waited(self, time: int) -> bool:
        """Whether an invalidation that reaches this cache was offered at ``time``."""
        last = self.removals[-1] if self.removals else None
        return bool(last and last.offered <= time <= (last.done or time) and self.rules.reaches(last.fields))

    def _covered(self, fill: Fill, before: int) -> bool:
        """Whether an invalidation done at ``before`` at the latest has taken the fill away."""
        return any(
            fill.offered <= removal.offered
            and removal.done is not None
            and removal.done <= before
            and self.rules.covers(fill.entry, removal.fields)
            for removal in self.removals
        )

    def _check(self, time: int, key: dict, answer):
        fills = self.history.get(self.rules.tag(key), [])
        fill = next((fill for fill in reversed(fills) if fill.written is not None and fill.written < time), None)
        if answer is None:
            return
        self.hits += 1
        self.hit_times.add(time)
        assert time > self.forgotten, "an answer from before the reset"
        assert fill, f"a hit for {key}, which was never filled"
        assert not any(fill.written == time for fill in fills), f"a hit for {key} while it was written"
        assert self.rules.allows(fill.entry, key), f"{fill.entry} does not allow {key}"
        assert answer == self.port.expected(fill.entry, key)
        assert not self._covered(fill, time), f"a hit for {key} after its invalidation"

    async def churn(self, ctx, cycles: int, *, fills: float, removals: float):
        """Random traffic; ``fills`` and ``removals`` are the probabilities to begin one in a cycle."""
        for _ in range(cycles):
            if not self.filling and self.rng.random() < fills:
                self.offer_fill(ctx, self.rules.random_entry(self.rng))
            if not self.removing and self.rng.random() < removals:
                self.offer_invalidation(ctx, self.rules.random_invalidation(self.rng))
            await self.cycle(ctx)

    async def settle(self, ctx):
        """Wait until nothing is offered any more."""
        while self.filling or self.taken or self.removing:
            await self.cycle(ctx)
        for _ in range(self.port.latency + 2):
            await self.cycle(ctx)

    async def check_everything_is_found(self, ctx):
        """At rest: look everything up. Entries are only missing if they were covered or evicted."""
        await self.settle(ctx)
        known = [fills[-1] for fills in self.history.values() if fills]
        wanted = [(fill, key) for fill in known if (key := self.rules.key_for(fill.entry))]
        first = self.now
        for _, key in wanted:
            await self.cycle(ctx, key)
        for _ in range(self.port.latency):
            await self.cycle(ctx)
        missing = 0
        for time, (fill, _) in enumerate(wanted, first):
            if time not in self.hit_times:
                missing += not (self._covered(fill, first) or self._may_be_gone(fill))
                self.history[self.rules.tag(fill.entry)].clear()
        evicted = self.evicted - self._evicted_before
        assert missing <= evicted, f"{missing} entries are lost, but {evicted} were evicted"
        self.lost += missing
        self._evicted_before = self.evicted
        self._forget_old()

    def _may_be_gone(self, fill: Fill) -> bool:
        """An invalidation was under way when the fill was written, and covers it or what it replaced."""
        time = fill.written
        assert time is not None
        entries = [other.entry for other in self.history[self.rules.tag(fill.entry)][-2:]]
        return any(
            removal.offered <= time <= (removal.done or self.now)
            and any(self.rules.covers(entry, removal.fields) for entry in entries)
            for removal in self.removals
        )

    def first_written(self, entry: dict) -> int:
        """The cycle in which the first fill of an entry's tag was written."""
        time = self.history[self.rules.tag(entry)][0].written
        assert time is not None
        return time

    def _forget_old(self):
        """Drop what no later check can need."""
        for tag, fills in self.history.items():
            alive = fills and not self._covered(fills[-1], self.now)
            self.history[tag] = fills[-1:] if alive else []
            for fill in self.history[tag]:
                # Probed after every invalidation so far: those do not count any more.
                fill.offered = fill.written = self.now - self.port.latency - 1
        self.removals.clear()
        self.hit_times.clear()

    async def check_one_invalidation(self, ctx):
        """At rest: an invalidation, mostly aimed at an entry, takes what it covers and nothing else."""
        fields = self.rules.random_invalidation(self.rng)
        known = [fills[-1].entry for fills in self.history.values() if fills]
        if known and self.rng.random() < 0.8:
            fields = self.rules.aim(fields, self.rng.choice(known))
        self.offer_invalidation(ctx, fields)
        await self.check_everything_is_found(ctx)

    async def check_reset(self, ctx, rows: int):
        """Reset in the middle of everything: all is forgotten, at once and for ever."""
        ctx.set(self.reset, 1)
        ctx.set(self.port.dut.fill.valid, 0)
        ctx.set(self.port.dut.invalidations.valid, 0)
        await ctx.tick()
        ctx.set(self.reset, 0)
        known = [key for fills in self.history.values() for fill in fills if (key := self.rules.key_for(fill.entry))]
        self.keys.clear()
        self.forgotten = self.now
        self.now += 1
        self.history.clear()
        self.removals.clear()
        self.filling = self.taken = self.removing = None
        assert known
        for _ in range(2 * rows):
            await self.cycle(ctx, self.rng.choice(known))
