"""The look-up pipeline: one request a cycle through IOTLB and configuration caches."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..bus.bypass_queue import BypassQueue
from ..bus.fork import Fork
from ..bus.generations import Generations
from ..bus.sharing import sharing_port
from ..bus.translation import (
    AddressType,
    PageSize,
    RootPointer,
    TranslationRequest,
    TranslationResponse,
    is_page_request,
)
from ..config import IommuConfig
from ..counters.events import Events
from ..formats.pasid import TranslationMode
from ..invalidation.command import Invalidation
from .block_cache import BlockCache
from .cache_format import select
from .configuration import AddressSpace, ContextFormat, PasidFormat
from .hash import fold
from .iotlb import Iotlb, IotlbFill
from .merging import WalkStatus
from .miss_queue import SIGNATURE_BITS, Miss, MissQueue
from .reentry import Reentry
from .replaced_root import ReplacedRoot
from .requester_format import page_of
from .structure_caches import SpaceTags, StructureCaches, StructureFill, structure_shapes

__all__ = ["LookupPipeline", "optional_fills"]

INTERRUPT_RANGE = 0xFEE
"""Address bits 63:20 of FEEx_xxxxh (§3.2)."""


class _Flight(data.StructLayout):
    """A request in the pipeline; ``again`` tells that it is none that was just accepted, but has waited aside."""

    def __init__(self, cfg: IommuConfig):
        fields = {
            "request": TranslationRequest(cfg),
            "root_pointer": RootPointer(cfg),
            "must_walk": 1,
            "generation": 1,
        }
        if cfg.waiting_misses:
            fields |= {"again": 1, "merged": 1}
        if cfg.prefetch_streams:
            fields["prefetch"] = 1
        if cfg.page_requests:
            fields["page_request"] = 1
        super().__init__(fields)


def optional_fills(cfg: IommuConfig) -> dict[str, stream.Signature]:
    """The fill streams of the caches that can be left out and are not, by name."""
    fills = {}
    if cfg.context_cache is not None:
        fills["context_fill"] = stream.Signature(ContextFormat(cfg).entry)
    if structure_shapes(cfg):
        fills["structure_fill"] = stream.Signature(StructureFill(cfg))
    return fills


class LookupPipeline(wiring.Component):
    """Answers hits, and hands misses on with what the caches know about requester and address.

    ::

                     ┌> Iotlb ────────────────┐
        request ─[ ]─┼> StructureCaches ──────┼─> hit ──> queue ─> response      (`LATENCY` cycles when nothing waits)
        (snapshot of ├> PASID cache ──────────┤   miss ─> MissQueue ─┬─> miss
        root_pointer)├> context cache ────────┘     └────────┐       │
                     └────────────────────────────────────  Reentry <┘

    A request is accepted each cycle as long as both queues could take all that is in the pipeline, so nothing stalls
    inside. With ``cfg.waiting_misses``, misses hold up nobody: those that the miss queue has no room for, and those for
    whose page a walk is under way, wait aside and are looked up again later, each in a cycle in which no request is
    accepted, and go by the root pointer and belong to the generation of the cycle in which they enter anew. Prefetches
    enter like that too; if they hit they are forgotten.

    While translation is disabled requests pass untranslated, but for page requests. Requests in the interrupt range,
    with execute permission, of an address type other than untranslated, or with an address that no table can map always
    walk.

    Parameters
    ----------
    cfg : IommuConfig
        Widths and cache shapes.

    Attributes
    ----------
    request : In(stream of TranslationRequest)
    page_request : In(stream of TranslationRequest)
        Enters in the place of a request; with ``cfg.page_requests``.
    root_pointer : In(RootPointer)
        Sampled one cycle after a request is accepted.
    status : In(WalkStatus)
        Of the walker; only with ``cfg.waiting_misses``.
    response : Out(stream of TranslationResponse)
        Answers to hits.
    responds : Out(1)
        Known earlier in the cycle: there may be one.
    miss : Out(stream of Miss)
    iotlb_fill, pasid_fill : In(stream)
        Entries to cache; ``structure_fill`` and ``context_fill`` too, unless ``cfg`` leaves those caches out.
    page_invalidations, configuration_invalidations : In(stream of Invalidation)
        The transfer is the completion for IOTLB and paging-structure caches, or for both configuration caches.
    forget_configuration, forget_structures : In(1)
        Disowns what the caches knew for the requests accepted so far.
    mark : In(1)
        Starts a new generation of requests.
    drained : Out(1)
        No hit of a generation before the last ``mark`` still waits for its response transfer, nor a miss of before a
        mark under a root pointer that was replaced before the mark for its walk.
    sharing : In(Sharing)
    events : Out(Events)
        Pulses for counters, of those that are told here; a request counts when it is looked up first.
    """

    LATENCY = 1 + Iotlb.LATENCY
    DEPTH = 16
    FULL, LOW = 8, 4
    """With so many in the miss queue others wait aside, or are looked up again; there is room for those under way."""

    def __init__(self, cfg: IommuConfig):
        self.cfg = cfg
        self._pasid_format = PasidFormat(cfg)
        super().__init__(
            {
                "request": In(stream.Signature(TranslationRequest(cfg))),
                **({"page_request": In(stream.Signature(TranslationRequest(cfg)))} if cfg.page_requests else {}),
                "root_pointer": In(RootPointer(cfg)),
                "response": Out(stream.Signature(TranslationResponse(cfg))),
                "responds": Out(1),
                "miss": Out(stream.Signature(Miss(cfg))),
                **({"status": In(WalkStatus(cfg))} if cfg.waiting_misses else {}),
                "iotlb_fill": In(stream.Signature(IotlbFill(cfg))),
                "pasid_fill": In(stream.Signature(self._pasid_format.entry)),
                **{name: In(signature) for name, signature in optional_fills(cfg).items()},
                "page_invalidations": In(stream.Signature(Invalidation)),
                "configuration_invalidations": In(stream.Signature(Invalidation)),
                "forget_configuration": In(1),
                "forget_structures": In(1),
                "mark": In(1),
                "drained": Out(1),
                "sharing": sharing_port(),
                "events": Out(Events()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.iotlb = self._iotlb = iotlb = Iotlb(self.cfg)
        m.submodules.pasid_cache = spaces = BlockCache(
            self._pasid_format, self.cfg.pasid_cache, partitioned=self.cfg.partitioning
        )
        if self.cfg.partitioning:
            m.d.comb += spaces.partitions.eq(self.sharing.ways)
        m.submodules.misses = misses = MissQueue(self.cfg, self.DEPTH)
        m.submodules.hits = hits = BypassQueue(_Answer(self.cfg), self.DEPTH, refuses=False)
        m.submodules.generations = self._generations = Generations(most=2 * self.DEPTH + 8, exits=2)
        wiring.connect(m, wiring.flipped(self.iotlb_fill), iotlb.fill)
        wiring.connect(m, wiring.flipped(self.pasid_fill), spaces.fill)
        contexts, structures = self._build_caches(m, iotlb, spaces)
        reentry = None
        if self.cfg.waiting_misses:
            m.submodules.reentry = reentry = Reentry(self.cfg)
            if self.cfg.page_requests:
                wiring.connect(m, wiring.flipped(self.page_request), reentry.page_request)
        entered, accepted = self._elaborate_entry(m, misses, hits, reentry)
        self._look_up(m, accepted.request, iotlb, spaces, contexts, structures)

        # The request travels beside the look-ups.
        valid = [entered]
        flight, known, known_structures = [accepted], [C(1, 1)], [C(1, 1)]
        for stage in range(1, Iotlb.LATENCY + 1):
            valid.append(Signal(name=f"valid_{stage}"))
            flight.append(Signal(_Flight(self.cfg), name=f"flight_{stage}", reset_less=True))
            known.append(Signal(name=f"known_{stage}"))
            known_structures.append(Signal(name=f"known_structures_{stage}"))
            m.d.sync += [
                valid[stage].eq(valid[stage - 1]),
                flight[stage].eq(flight[stage - 1]),
                known[stage].eq(known[stage - 1] & ~self.forget_configuration),
                known_structures[stage].eq(known_structures[stage - 1] & ~self.forget_structures),
            ]
        before_last, last = flight[-2], flight[-1]
        m.d.comb += iotlb.address_page.eq(before_last.request.address[12:30])

        # What is found goes into the miss queue before it is known whether the request hits.
        lookup = misses.lookup.payload
        m.d.comb += [
            misses.lookup.valid.eq(valid[-2]),
            lookup.request.eq(before_last.request),
            lookup.root_pointer.eq(before_last.root_pointer),
            misses.forget_configuration.eq(self.forget_configuration),
            misses.forget_structures.eq(self.forget_structures),
        ]
        found = self._find_configuration(m, lookup, spaces, contexts)
        hit = Signal()
        bypass = ~last.root_pointer.enabled & ~(last.page_request if self.cfg.page_requests else C(0))
        m.d.comb += hit.eq(bypass | (iotlb.hit & ~last.must_walk))
        for name, value in found.items():
            m.d.comb += misses.known[name].eq(value & known[-1] & ~last.must_walk)
        if structures is not None:
            self._find_structure(m, lookup, structures)
            m.d.comb += misses.known.hint_hit.eq(structures.hit & known_structures[-1] & ~last.must_walk)
        missed, first, answered = Signal(), Value.cast(1), Value.cast(1)
        m.d.comb += missed.eq(valid[-1] & ~hit)
        if reentry is None:
            m.d.comb += misses.missed.eq(missed)
            wiring.connect(m, misses.o, wiring.flipped(self.miss))
        else:
            first = ~last.again
            self._distribute(m, reentry, misses, missed, before_last, last)
            if self.cfg.prefetch_streams:
                answered = ~last.prefetch
                counted = valid[-1] & ~last.again & ~last.must_walk & ~bypass
                self._watch(m, reentry, counted, missed, valid[-1] & last.prefetch & hit, last.request)

        m.d.comb += self.responds.eq(valid[-1] | (hits.level != 0))
        self._answer(m, hits, valid[-1] & hit & answered, last, bypass)
        m.submodules.replaced = replaced = ReplacedRoot(self.cfg, self.DEPTH)
        m.d.comb += [
            self._generations.enter.eq(entered & ~accepted.prefetch if self.cfg.prefetch_streams else entered),
            self._generations.mark.eq(self.mark),
            self._generations.leave[0].valid.eq(missed & answered),
            self._generations.leave[0].generation.eq(last.generation),
            replaced.root_pointer.eq(self.root_pointer),
            replaced.mark.eq(self.mark),
            replaced.drained.eq(self._generations.drained),
            replaced.level.eq(misses.level),
            replaced.leaves.eq(misses.o.valid & misses.o.ready),
            self.drained.eq(self._generations.drained & ~replaced.awaited),
        ]
        self._count(m, valid[-1] & ~bypass & first, hit, reentry, structures, {"pasid": spaces, "context": contexts})
        return m

    def _build_caches(self, m, iotlb, spaces):
        """The caches that can be left out, None if they are, and the ways of fills and invalidations."""
        contexts = structures = None
        if self.cfg.context_cache is not None:
            m.submodules.context_cache = contexts = BlockCache(ContextFormat(self.cfg), self.cfg.context_cache)
            wiring.connect(m, wiring.flipped(self.context_fill), contexts.fill)
        if structure_shapes(self.cfg):
            m.submodules.structures = structures = StructureCaches(self.cfg)
            wiring.connect(m, wiring.flipped(self.structure_fill), structures.fill)
        for name, caches in (("page", (iotlb, structures)), ("configuration", (spaces, contexts))):
            built = [cache for cache in caches if cache is not None]
            m.submodules[f"{name}_invalidations"] = fork = Fork(Invalidation, len(built))
            wiring.connect(m, wiring.flipped(getattr(self, f"{name}_invalidations")), fork.i)
            for out, cache in zip(fork.o, built, strict=True):
                wiring.connect(m, out, cache.invalidations)
        return contexts, structures

    def _look_up(self, m, request, iotlb, spaces, contexts, structures):
        """Ask all caches at once."""
        for name in ("source_id", "pasid_valid", "pasid"):
            for cache in (iotlb, spaces):
                m.d.comb += cache.key[name].eq(request[name])
        if contexts is not None:
            m.d.comb += contexts.key.source_id.eq(request.source_id)
        if structures is not None:
            for name in ("source_id", "pasid_valid", "pasid"):
                m.d.comb += structures.key[name].eq(request[name])
            m.d.comb += structures.key.page.eq(page_of(request.address))
        m.d.comb += [
            iotlb.key.page.eq(page_of(request.address)),
            iotlb.key.access.eq(request.access),
            iotlb.key.privileged.eq(request.privileged & request.pasid_valid),
        ]

    def _count(self, m, looked_up: Value, hit: Value, reentry, structures, caches: dict):
        """Pulses for counters."""
        iotlb, events = self._iotlb, self.events
        m.d.comb += [iotlb.sharing.eq(self.sharing), events.iotlb_lookups.eq(looked_up)]
        for part, name in enumerate(("iotlb_4k", "iotlb_2m", "iotlb_1g")):
            m.d.comb += events[f"{name}_hits"].eq(looked_up & hit & iotlb.size_hit[part])
            m.d.comb += _written(events, name, iotlb.filled[part], iotlb.evicted[part])
        for name, cache in caches.items():
            if cache is not None:
                m.d.comb += _written(events, f"{name}_cache", cache.filled, cache.evicted)
        if structures is not None:
            m.d.comb += structures.sharing.eq(self.sharing)
            for place in range(2):
                filled, evicted = structures.filled[place], structures.evicted[place]
                m.d.comb += _written(events, f"structure_cache_{place + 1}", filled, evicted)
        if reentry is None:
            return
        m.d.comb += [reentry.sharing.eq(self.sharing), events.misses_merged.eq(reentry.merged)]
        if self.cfg.prefetch_streams:
            m.d.comb += [
                events.prefetches.eq(reentry.began),
                events.prefetches_cached.eq(reentry.vanished),
                events.prefetches_dropped.eq(reentry.dropped),
            ]

    def _find_configuration(self, m, lookup, spaces, contexts) -> dict[str, Signal]:
        """Put what the configuration caches find into ``lookup``; the values, one cycle later, say which of it is."""
        space = Signal(AddressSpace(self.cfg))
        m.d.comb += Value.cast(space).eq(select(spaces.way_hit, [entry.space for entry in spaces.way_entry]))
        found = {"space_hit": Signal()}
        m.d.sync += found["space_hit"].eq(spaces.way_hit.any())
        bits = Value.cast(space)
        if contexts is not None:
            hits = contexts.way_hit & (~spaces.way_hit.any()).replicate(len(contexts.way_hit))
            bits = bits | select(hits, [entry.fields for entry in contexts.way_entry])
            found["context_hit"] = Signal()
            m.d.sync += found["context_hit"].eq(contexts.way_hit.any())
        m.d.comb += Value.cast(lookup.configuration).eq(bits)
        self._space = space
        return found

    def _find_structure(self, m, lookup, structures):
        """Put the table to begin at into ``lookup``, and tell one cycle later for which address space it must be."""
        space = self._space
        first = (space.mode == TranslationMode.FIRST_STAGE) | (space.mode == TranslationMode.NESTED)
        tags = Signal(SpaceTags(self.cfg), reset_less=True)
        m.d.sync += [
            tags.domain_id.eq(space.domain_id),
            tags.pasid.eq(space.pasid),
            tags.first_stage.eq(first),
        ]
        m.d.comb += [lookup.hint.eq(structures.hint), structures.space.eq(tags)]

    def _distribute(self, m, reentry, misses, missed, before_last, last):
        """Send what missed to the miss queue, or have it wait aside: in order, but for who has waited already."""
        lookup, request = misses.lookup.payload, before_last.request
        spills, spilled = Signal(), reentry.spilled.payload
        m.d.comb += [
            lookup.signature.eq(fold(Cat(*_tags(request), page_of(request.address)), SIGNATURE_BITS)),
            lookup.mergeable.eq(~before_last.must_walk & ~before_last.merged),
            spills.eq(missed & ~last.again & ((misses.level >= self.FULL) | reentry.precedes)),
            misses.missed.eq(missed & ~spills),
            reentry.spilled.valid.eq(spills),
            spilled.request.eq(last.request),
            reentry.status.eq(self.status),
        ]
        if self.cfg.prefetch_streams:
            m.d.comb += lookup.prefetch.eq(before_last.prefetch)
            m.d.comb += lookup.mergeable.eq(~before_last.must_walk & ~before_last.merged & ~before_last.prefetch)
        wiring.connect(m, misses.o, reentry.miss)
        wiring.connect(m, reentry.walk, wiring.flipped(self.miss))

    def _watch(self, m, reentry, valid, missed, vanished, request):
        """Show requests to the prefetcher."""
        access = reentry.access
        source_id, pasid_valid, pasid = _tags(request)
        m.d.comb += [
            reentry.valid.eq(valid),
            reentry.missed.eq(missed),
            reentry.vanished.eq(vanished),
            access.source_id.eq(source_id),
            access.pasid_valid.eq(pasid_valid),
            access.pasid.eq(pasid),
            access.privileged.eq(request.privileged),
            access.page.eq(page_of(request.address)),
        ]

    def _elaborate_entry(self, m, misses, hits, reentry):
        """What enters in this cycle, one after it was taken: the rows of the caches are a long way off."""
        taken, again, request = self._take(m, misses, hits, reentry)
        entered, accepted, held = Signal(), Signal(_Flight(self.cfg)), Signal(_Flight(self.cfg), reset_less=True)
        m.d.sync += [entered.eq(taken), held.request.eq(request)]
        if reentry is not None:
            other = reentry.o.payload
            m.d.sync += [held.again.eq(again), held.merged.eq(again & other.merged)]
            if self.cfg.prefetch_streams:
                m.d.sync += held.prefetch.eq(again & other.prefetch)
            if self.cfg.page_requests:
                m.d.sync += held.page_request.eq(again & is_page_request(self.cfg, other.request))
        request = held.request
        irregular = request.address[57:].any() & ~request.address[57:].all()
        interrupt = ~request.pasid_valid & (request.address[20:] == INTERRUPT_RANGE)
        m.d.comb += [
            accepted.eq(held),
            accepted.root_pointer.eq(self.root_pointer),
            accepted.generation.eq(self._generations.current),
            accepted.must_walk.eq(
                irregular
                | interrupt
                | (request.execute & request.pasid_valid)
                | (request.address_type != AddressType.UNTRANSLATED)
            ),
        ]
        return entered, accepted

    def _take(self, m, misses, hits, reentry):
        """Take a request, or, while ``request.ready`` is low, what enters again in its place."""
        most = self.DEPTH - self.LATENCY - 2
        room = hits.level <= most
        request, offered = Signal(TranslationRequest(self.cfg)), self.request.payload
        accepted = self.request.valid & self.request.ready
        # From here on a PASID is 0 without ``pasid_valid``; of what enters again it is so already.
        pasid = offered.pasid & offered.pasid_valid.replicate(len(offered.pasid))
        if reentry is None:
            m.d.sync += self.request.ready.eq(room & (misses.level <= most))
            m.d.comb += [request.eq(offered), request.pasid.eq(pasid)]
            return accepted, C(0), request
        turn, other = Signal(), reentry.o.payload.request
        wanted = reentry.o.valid & ~turn
        m.d.sync += [
            turn.eq(room & wanted),
            # Those in the miss queue may have to wait aside too.
            self.request.ready.eq(room & ~wanted & (reentry.level <= self.cfg.waiting_misses - 2 * self.DEPTH)),
        ]
        m.d.comb += [
            reentry.room.eq(misses.level <= self.LOW),
            reentry.o.ready.eq(turn),
            request.eq(Mux(turn, other.as_value(), offered.as_value())),
            request.pasid.eq(Mux(turn, other.pasid, pasid)),
        ]
        return turn | accepted, turn, request

    def _answer(self, m, hits, valid, last, bypass):
        """Answer at once when nothing waits, else in the order of the queue."""
        request, iotlb = last.request, self._iotlb
        now = Signal(_Answer(self.cfg))
        page = Mux(bypass, request.address[12 : self.cfg.haw], iotlb.host_page)
        m.d.comb += [
            now.generation.eq(last.generation),
            now.response.tag.eq(request.tag),
            now.response.granted.eq(1),
            now.response.address.eq(Cat(request.address[:12], page)),
            now.response.page_size.eq(Mux(bypass, PageSize.SIZE_4K.value, iotlb.size)),
        ]
        leaving = hits.o.payload
        m.d.comb += [
            hits.i.valid.eq(valid),
            hits.i.payload.eq(now),
            self.response.valid.eq(hits.o.valid),
            self.response.payload.eq(leaving.response),
            hits.o.ready.eq(self.response.ready),
            self._generations.leave[1].valid.eq(self.response.valid & self.response.ready),
            self._generations.leave[1].generation.eq(leaving.generation),
        ]


def _written(events: data.View, name: str, filled: Value, evicted: Value) -> list:
    """Assign the pulses of a cache that is written."""
    return [events[f"{name}_fills"].eq(filled), events[f"{name}_evictions"].eq(evicted)]


def _tags(request: data.View) -> tuple[Value, Value, Value]:
    """Source id, whether a PASID counts, and the PASID."""
    return request.source_id, request.pasid_valid, request.pasid


class _Answer(data.StructLayout):
    """A response and the generation of its request."""

    def __init__(self, cfg: IommuConfig):
        super().__init__({"generation": 1, "response": TranslationResponse(cfg)})
