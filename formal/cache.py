"""What every cache promises, however it stores its entries."""

from abc import abstractmethod
from typing import ClassVar

from amaranth.hdl import Cat, Module, Signal, Value

from nestwalk.bus.sharing import domain_ways
from nestwalk.invalidation.command import Invalidation, Scope

from .lib import anything, constant, free, held_until_taken, implies, past, since
from .spec import Mode, Spec, Task
from .tags import ComparedTags, Tags

__all__ = ["CacheSpec"]

SCOPES = {
    "context": (Scope.GLOBAL, Scope.DOMAIN, Scope.DEVICE),
    "pasid_cache": (Scope.GLOBAL, Scope.DOMAIN, Scope.PASID),
    "iotlb": (Scope.GLOBAL, Scope.DOMAIN, Scope.PASID, Scope.PAGE_IN_DOMAIN, Scope.PAGE_IN_PASID),
}
"""Granularities of the invalidations that reach each kind of cache (§5.2)."""


class CacheSpec(Spec):
    """A hit returns what a fill said, only under equal tags, and never after a covering invalidation.

    An arbitrary entry is watched: what holds for it holds for every entry, and what holds for keys that it answers
    holds for every key. It is *known* from the transfer of a fill that says it to that of an invalidation that covers
    it. It is *resident* from a fill that no invalidation met until an invalidation that covers it, a fill of equal
    tags, or an eviction.

    The task ``tags`` proves that the cache's comparisons of tags mean what §8.1 and §5.3 say; the others then take
    them as they are.

    Assumed of the surroundings: fills and invalidations stay offered, unchanged, until they are taken; and a fill
    that is offered while an invalidation waits is not covered by it (`nestwalk.walk.walker` sees to that). A fill
    that waits when the invalidation comes may well be. Keys are anything in every cycle. Resets come at any time, and
    the contents of RAM survive them; a read of a row that is written in the same cycle returns anything.

    Parameters
    ----------
    tags : Tags
        The meaning of the tags.
    """

    RESETS = True
    TAGS = Task(Mode.PROVE, 1, "the comparisons are combinational")

    def __init__(self, task: str, tags: Tags):
        self.meaning = tags
        self.tags = ComparedTags(tags.format)
        super().__init__(task)

    @abstractmethod
    def make(self, m: Module):
        """Adds the cache to ``m`` and returns it."""

    @abstractmethod
    def held(self, m: Module, entry) -> list:
        """What the cache stores in the places in which ``entry`` may be, and whether that counts, because the place was
        cleared since the reset."""

    def _partitions(self, m: Module, choosing: Value, ways: int) -> None:
        """Claims about the ways of a fill that is written in the next cycle if it is ``choosing``.

        Which ways a domain may use is anything and may change at any time; while it changes, a fill may go by either.
        """
        dut, chosen = self.dut, self.dut._replacement
        free(m, Value.cast(dut.partitions))
        masks = Value.cast(dut.partitions)
        steady = Cat(masks == past(m, masks, cycles) for cycles in (1, 2)).all()
        allowed = domain_ways(dut.partitions, dut.format.domain(dut.fill.payload), ways)
        self.claim(
            m,
            "A fill takes a way of its domain, or that of the entry of its tags.",
            implies(choosing & steady, ((chosen.way & ~allowed) == 0) | (chosen.way == chosen.equal)),
        )
        self.cover(
            m,
            "A fill passes over the way whose turn it is, which is not its domain's.",
            choosing & steady & chosen.evicts & (chosen.way != chosen.rotation),
        )

    def invariants(self, m: Module) -> None:
        """Claims about the cache's own state, which strengthen the induction."""

    def specify(self, m: Module):
        if self.task == "tags":
            self._tags(m)
        else:
            self._cache(m)

    def _tags(self, m):
        """Claims about the comparisons of tags, which are combinational."""
        entry, key, invalidation = (
            anything(m, shape) for shape in (self.tags.format.entry, self.tags.format.key, Invalidation)
        )
        self._scopes(m, invalidation)
        compared, meant = self.tags, self.meaning
        self.claim(
            m,
            "An entry answers the keys of its tags and no others.",
            compared.same(entry, key) == meant.same(entry, key),
            task="tags",
        )
        self.claim(
            m,
            "An entry answers the accesses that it permits and no others.",
            compared.allows(entry, key) == meant.allows(entry, key),
            task="tags",
        )
        other = anything(m, self.tags.format.entry)
        self.claim(
            m,
            "A fill replaces the entries of its tags and no others.",
            compared.replaces(other, entry) == meant.same(other, entry),
            task="tags",
        )
        self.claim(
            m,
            "An invalidation removes every entry that it must.",
            implies(meant.covers(invalidation, entry), compared.covers(invalidation, entry)),
            task="tags",
        )
        self.claim(
            m,
            "An invalidation removes no entry that it may not.",
            implies(compared.covers(invalidation, entry), meant.may_cover(invalidation, entry)),
            task="tags",
        )

    def _cache(self, m):
        self.dut = dut = self.make(m)
        fill, invalidations = dut.fill, dut.invalidations
        free(m, dut.key, fill.valid, fill.payload, invalidations.valid, invalidations.payload)
        self.entry = entry = constant(m, self.tags.format.entry, "entry")
        self.assume(m, "The watched entry is valid.", entry.valid)
        self._surroundings(m)

        taken = fill.valid & fill.ready
        stored = Signal(self.tags.format.entry)
        m.d.comb += [stored.eq(fill.payload), stored.valid.eq(1)]
        self.says = fill.valid & (Value.cast(stored) == Value.cast(entry))
        said = fill.ready & self.says
        replaced = taken & self.tags.same(stored, entry)
        covered = invalidations.valid & self.tags.covers(invalidations.payload, entry)

        self.known = known = Signal()
        self.resident = resident = Signal()
        evicted = dut.evicted & ~past(m, said)
        with m.If(covered & invalidations.ready):
            m.d.sync += known.eq(0)
        with m.Elif(said):
            m.d.sync += known.eq(1)
        with m.If(said & ~invalidations.valid):
            m.d.sync += resident.eq(1)
        with m.Elif(replaced | covered | evicted):
            m.d.sync += resident.eq(0)

        quiet = ~taken & ~invalidations.valid
        self._answers(m, quiet)
        self._storage(m)
        self.invariants(m)
        self._counters(m, taken, replaced)
        if "progress" in self.TASKS:
            self._progress(m)
        self._covers(m, said, taken, replaced, covered)

    def _surroundings(self, m):
        fill, invalidations = self.dut.fill, self.dut.invalidations
        self.assume(m, "A fill stays offered, unchanged, until it is taken.", held_until_taken(m, fill))
        self.assume(
            m, "An invalidation stays offered, unchanged, until it is taken.", held_until_taken(m, invalidations)
        )
        if "pasid_valid" in self.tags.format.key.members:
            key = self.dut.key
            self.assume(m, "Who looks up without a PASID gives 0.", key.pasid_valid | (key.pasid == 0))
        comes = fill.valid & ~past(m, fill.valid & ~fill.ready)
        waits = invalidations.valid & past(m, invalidations.valid & ~invalidations.ready)
        stored = Signal(self.tags.format.entry)
        m.d.comb += [stored.eq(fill.payload), stored.valid.eq(1)]
        self.assume(
            m,
            "A fill that is offered while an invalidation waits is not covered by it.",
            implies(comes & waits, ~self.tags.covers(invalidations.payload, stored)),
        )
        self._scopes(m, invalidations.payload)

    def _scopes(self, m, invalidation):
        for cache, scopes in SCOPES.items():
            self.assume(
                m,
                "The scope of an invalidation is one that each of its caches has.",
                implies(invalidation[cache], Cat(invalidation.scope == scope for scope in scopes).any()),
            )

    def _answers(self, m, quiet):
        """Claims about look-ups, in the cycle in which the answer to ``key`` is there."""
        dut, latency = self.dut, self.dut.LATENCY
        key = past(m, dut.key, latency)
        known = past(m, self.known, latency)
        answers, alike = [], []
        for hit, entry in zip(dut.way_hit, dut.way_entry, strict=True):
            is_watched = Value.cast(entry) == Value.cast(self.entry)
            self.claim(
                m,
                "A hit returns what a fill said, and no invalidation that covers it was transferred since.",
                implies(hit & is_watched, known),
            )
            self.claim(
                m,
                "A hit has the tags of the key and permits its access.",
                implies(hit, entry.valid & self.tags.same(entry, key) & self.tags.allows(entry, key)),
            )
            answers.append(hit & is_watched)
            alike.append(hit & self.tags.same(entry, self.entry))
        if len(alike) > 1:
            self.claim(m, "At most one way hits.", sum(alike) <= 1)

        # Around the cycle in which the key was there nothing may be written.
        settled = self.resident & past(m, self.resident)
        calm = past(m, quiet, latency - 1) & past(m, quiet, latency) & past(m, quiet, latency + 1)
        wanted = self.tags.same(self.entry, key) & self.tags.allows(self.entry, key)
        self.claim(
            m,
            "An entry that is resident while nothing is written answers its key.",
            implies(past(m, settled, latency) & calm & wanted, Cat(answers).any()),
        )

    def _storage(self, m):
        """Invariants of what is stored."""
        held = self.held(m, self.entry)
        watched = [counts & (Value.cast(entry) == Value.cast(self.entry)) for entry, counts in held]
        equal = [counts & entry.valid & self.tags.same(entry, self.entry) for entry, counts in held]
        self.claim(m, "What is stored is known.", implies(Cat(watched).any(), self.known))
        self.claim(m, "No two entries of equal tags are stored.", sum(equal) <= 1)
        self.claim(
            m,
            "A resident entry is stored.",
            implies(self.resident & past(m, self.resident), Cat(watched).any()),
        )

    #: Cycles from the transfer of a fill to its pulse on ``filled`` and ``evicted``.
    PULSE: ClassVar[int] = 1

    #: Bounds of a fill's and an invalidation's wait in cycles.
    FILL: int
    INVALIDATION: int

    def _counters(self, m, taken, replaced):
        dut = self.dut
        met = past(m, taken, self.PULSE)
        unmet = past(m, taken & ~dut.invalidations.valid, self.PULSE)
        self.claim(m, "A fill that met no invalidation is counted once.", implies(unmet, dut.filled))
        self.claim(m, "Only fills are counted.", implies(dut.filled, met))
        self.claim(m, "Only a fill evicts.", implies(dut.evicted, dut.filled))
        again = past(m, replaced & self.resident & past(m, self.resident), self.PULSE)
        self.claim(m, "A fill that replaces an entry of equal tags evicts none.", implies(again, ~dut.evicted))

    def _progress(self, m):
        """Claims of the task ``progress``."""
        waits = (("fill", self.dut.fill, self.FILL), ("invalidation", self.dut.invalidations, self.INVALIDATION))
        for name, port, bound in waits:
            waited = Signal(range(bound + 1), name=f"{name}_waited")
            with m.If(~port.valid | port.ready):
                m.d.sync += waited.eq(0)
            with m.Elif(waited != bound):
                m.d.sync += waited.eq(waited + 1)
            self.claim(m, f"Every {name} is taken within {bound} cycles.", waited < bound, task="progress")

    def _narrow(self, m):
        """Leaves the search for covers few values: what is reached with these is reached."""
        if self.task != "cover":
            return
        tags = self.tags.format.key_of(self.entry)
        vary = next(iter(tags))  # the tag that tells entries apart
        fill, offered = self.dut.fill.payload, self.dut.invalidations.payload
        for name, _ in self.tags.format.entry:
            entry, filled = Value.cast(self.entry[name]), Value.cast(fill[name])
            self.assume(m, "The watched entry is one.", ~entry.any() if name in tags else entry.all())
            free_bits = 3 if name == vary else 0 if name in tags else 1
            self.assume(m, "Fills are alike.", filled[free_bits:] == entry[free_bits:])
        for name, _ in Invalidation.as_shape():
            field = Value.cast(offered[name])
            if name in ("domain_id", "source_id", "pasid", "page", "address_mask"):
                self.assume(m, "Fields of invalidations are all zeros or all ones.", field.all() | ~field.any())
        same = [self.dut.key[name] == value for name, value in tags.items()]
        self.assume(m, "Look-ups ask for the watched entry.", Cat(same).all())

    def _covers(self, m, said, taken, replaced, covered):
        dut = self.dut
        invalidations = dut.invalidations
        self._narrow(m)
        hit = Cat(
            hit & (Value.cast(entry) == Value.cast(self.entry))
            for hit, entry in zip(dut.way_hit, dut.way_entry, strict=True)
        ).any()
        key = past(m, dut.key, dut.LATENCY)
        asked = self.tags.same(self.entry, key) & self.tags.allows(self.entry, key)
        was_hit, removed = since(m, hit), since(m, covered & invalidations.ready)
        self.cover(m, "The watched entry hits.", hit)
        self.cover(
            m,
            "The watched entry hits, is invalidated and misses.",
            removed & past(m, was_hit, 8) & past(m, removed, dut.LATENCY) & asked & ~hit,
        )
        self.cover(
            m, "The watched entry hits again after an invalidation and another fill.", removed & hit & self.known
        )
        self.cover(
            m,
            "The watched entry outlives an invalidation of others in reach.",
            was_hit
            & hit
            & since(
                m, invalidations.valid & invalidations.ready & ~covered & dut.format.reaches(invalidations.payload)
            ),
        )
        self.cover(
            m, "A fill replaces the watched entry.", was_hit & since(m, replaced & ~said) & ~self.resident & dut.filled
        )
        self.cover(m, "A fill evicts an entry.", dut.evicted)
        self.cover(m, "A fill that an invalidation covers is discarded.", taken & covered)
