"""The IOTLB: translations of pages by requester, PASID and address (§8.1)."""

from amaranth.hdl import Array, C, Cat, Module, Mux, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..bus.fork import Fork
from ..bus.sharing import sharing_port
from ..bus.translation import Access, PageSize
from ..config import IommuConfig
from ..invalidation.command import Invalidation
from .block_cache import BlockCache
from .register_cache import RegisterCache
from .requester_format import RequesterFormat, RequesterKey

__all__ = ["Iotlb", "IotlbFill", "IotlbKey", "PageFormat", "Permissions"]


class Permissions(data.Struct):
    """What an entry allows without another look at the tables.

    A write is allowed only once the dirty bits that it needs are set.
    """

    user_read: 1
    user_write: 1
    privileged_read: 1
    privileged_write: 1

    def allows(self, access: Value, privileged: Value) -> Value:
        """Whether ``access`` is allowed (§3.5; a zero-length read needs either permission)."""
        read = Mux(privileged, self.privileged_read, self.user_read)
        write = Mux(privileged, self.privileged_write, self.user_write)
        return Array([read, write, read & write, read | write])[Value.cast(access)]


class IotlbKey(RequesterKey):
    """What a request is looked up by; ``page`` in units of the page size."""

    def __init__(self, page_shift: int):
        super().__init__(page_shift, {"access": Access, "privileged": 1})


class PageFormat(RequesterFormat):
    """IOTLB entries for pages of 2^(12 + ``page_shift``) bytes; ``size`` is what the walk found, which may be more."""

    def __init__(self, cfg: IommuConfig, page_shift: int):
        fields = {"permissions": Permissions, "size": PageSize, "host_page": cfg.page_bits - page_shift}
        super().__init__(cfg, page_shift, fields, IotlbKey(page_shift))

    def grant_terms(self, entry, key):
        return [entry.permissions.allows(key.access, key.privileged)]


class IotlbFill(data.StructLayout):
    """An entry to store: 4 KiB fields plus the size class to store it under, and whether nobody has asked for it yet.

    Without prefetching somebody always has.
    """

    def __init__(self, cfg: IommuConfig):
        fields = {"entry": PageFormat(cfg, 0).entry, "class_size": PageSize}
        super().__init__(fields | ({"prefetched": 1} if cfg.prefetch_streams else {}))


class Iotlb(wiring.Component):
    """Three caches side by side, one per page size: 4 KiB and 2 MiB in block RAM, 1 GiB in registers.

    The larger ones may be left out; a page is then kept in pieces of the next smaller size. What was prefetched takes
    the place of other entries in one way of the block RAMs only, so that a stream leaves the rest of the cache alone.

    ::

                  ┌> BlockCache 4 KiB ──┐
        key ──────┼> BlockCache 2 MiB ──┼─> hit, host_page, size     (`LATENCY` cycles)
                  └> RegisterCache 1 GiB┘

    Parameters
    ----------
    cfg : IommuConfig
        Sizes of the three parts.

    Attributes
    ----------
    key : In(IotlbKey)
        4 KiB key, every cycle.
    address_page : In
        The same key's page number, `LATENCY` - 1 cycles later, for the page offset of large pages.
    hit : Out(1)
        `LATENCY` cycles after ``key``: an entry answers and allows the access.
    host_page, size : Out
        The 4 KiB page of the answer and the size that the walk found.
    fill : In(stream)
        Entry to store under its size class.
    invalidations : In(stream)
        Applied to all three; the transfer is its completion.
    sharing : In(Sharing)
    size_hit, filled, evicted : Out(3)
        For counters, a bit for each part from 4 KiB on: ``hit`` by the part that answers; pulses of each.
    """

    LATENCY = BlockCache.LATENCY + 1
    SHIFTS = {PageSize.SIZE_4K: 0, PageSize.SIZE_2M: 9, PageSize.SIZE_1G: 18}

    def __init__(self, cfg: IommuConfig):
        self.cfg = cfg
        super().__init__(
            {
                "key": In(IotlbKey(0)),
                "address_page": In(18),
                "hit": Out(1),
                "host_page": Out(cfg.page_bits),
                "size": Out(PageSize),
                "fill": In(stream.Signature(IotlbFill(cfg))),
                "invalidations": In(stream.Signature(Invalidation)),
                "sharing": sharing_port(),
                "size_hit": Out(3),
                "filled": Out(3),
                "evicted": Out(3),
            }
        )

    def elaborate(self, platform):
        m = Module()
        cfg = self.cfg
        formats = {size: PageFormat(cfg, shift) for size, shift in self.SHIFTS.items()}
        confines = bool(cfg.prefetch_streams)
        options = {"confines": confines, "partitioned": cfg.partitioning}
        parts = {PageSize.SIZE_4K: BlockCache(formats[PageSize.SIZE_4K], cfg.iotlb_4k, **options)}
        if cfg.iotlb_2m:
            parts[PageSize.SIZE_2M] = BlockCache(formats[PageSize.SIZE_2M], cfg.iotlb_2m, **options)
        if cfg.iotlb_1g_entries:
            parts[PageSize.SIZE_1G] = RegisterCache(
                formats[PageSize.SIZE_1G], cfg.iotlb_1g_entries, partitioned=cfg.partitioning
            )
        for size, part in parts.items():
            m.submodules[size.name.lower()] = part
        m.submodules.invalidations = fork = Fork(Invalidation, len(parts))
        wiring.connect(m, wiring.flipped(self.invalidations), fork.i)
        for out, part in zip(fork.o, parts.values(), strict=True):
            wiring.connect(m, out, part.invalidations)

        hits, pages, sizes = [], [], []
        for size, part in parts.items():
            shift = self.SHIFTS[size]
            # Pages without a part of their own are kept as pages of the next smaller size.
            larger = [other for other in parts if self.SHIFTS[other] > shift]
            limit = min((self.SHIFTS[other] for other in larger), default=19)
            classes = [other for other, other_shift in self.SHIFTS.items() if shift <= other_shift < limit]
            self._connect_fill(m, part, classes, shift)
            for name in ("source_id", "pasid_valid", "pasid", "access", "privileged"):
                m.d.comb += part.key[name].eq(self.key[name])
            m.d.comb += part.key.page.eq(self.key.page[shift:])
            m.d.sync += self.size_hit[size.value].eq(part.way_hit.any())
            m.d.comb += [self.filled[size.value].eq(part.filled), self.evicted[size.value].eq(part.evicted)]
            if cfg.partitioning:
                m.d.comb += part.partitions.eq(self.sharing.ways)
            for way, entry in enumerate(part.way_entry):
                hits.append(part.way_hit[way])
                pages.append(Cat(self.address_page[:shift], entry.host_page))
                sizes.append(Value.cast(entry.size))

        # One-hot AND-OR instead of a priority select: at most one entry answers unless software mapped an address
        # twice.
        def select(values, width):
            chosen = C(0, width)
            for hit, value in zip(hits, values, strict=True):
                chosen = chosen | (value & hit.replicate(width))
            return chosen

        m.d.sync += self.host_page.eq(select(pages, cfg.page_bits))
        m.d.sync += Value.cast(self.size).eq(select(sizes, 2))
        m.d.sync += self.hit.eq(Cat(hits).any())
        return m

    def _connect_fill(self, m, part, classes, shift):
        chosen = Cat(self.fill.payload.class_size == size for size in classes).any()
        entry = self.fill.payload.entry
        m.d.comb += part.fill.valid.eq(self.fill.valid & chosen)
        if "confined" in part.signature.members:
            m.d.comb += part.confined.eq(self.fill.payload.prefetched)
        with m.If(chosen):
            m.d.comb += self.fill.ready.eq(part.fill.ready)
        for name in ("source_id", "pasid_valid", "pasid", "domain_id", "first_stage", "permissions", "size"):
            m.d.comb += part.fill.payload[name].eq(entry[name])
        m.d.comb += [
            part.fill.payload.valid.eq(1),
            part.fill.payload.page.eq(entry.page[shift:]),
            part.fill.payload.host_page.eq(entry.host_page[shift:]),
        ]
