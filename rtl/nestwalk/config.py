"""Configuration of the unit: what it announces, how wide its ports are and how large its caches are."""

from dataclasses import dataclass, fields, replace
from typing import Self

__all__ = ["PRESETS", "CacheShape", "IommuConfig", "preset"]

AGAW = {3: 39, 4: 48, 5: 57}
"""Adjusted guest address width in bits for each number of page-table levels (§2.9)."""


def _is_power_of_two(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


@dataclass(frozen=True)
class CacheShape:
    """Shape of a set-associative cache.

    Parameters
    ----------
    sets : int
        Rows of each way, a power of two of at least 2.
    ways : int
        Entries that one look-up compares, a power of two.
    """

    sets: int
    ways: int

    def __post_init__(self):
        if not _is_power_of_two(self.sets) or self.sets < 2:
            raise ValueError(f"a cache has a power of two of at least 2 sets, not {self.sets}")
        if not _is_power_of_two(self.ways):
            raise ValueError(f"a cache has a power of two of ways, not {self.ways}")

    @property
    def entries(self) -> int:
        return self.sets * self.ways


@dataclass(frozen=True, kw_only=True)
class IommuConfig:
    """Everything that is fixed when the unit is built. Values are validated on construction.

    Parameters
    ----------
    haw : int
        Host address width in bits, at most 52 (§0.5).
    mgaw : int
        Maximum guest address width in bits, at least ``haw`` (CAP.MGAW + 1).
    scalable_mode, first_stage, second_stage, nested, pass_through : bool
        ECAP.SMTS, FSTS, SSTS, NEST and PT.
    second_stage_levels : frozenset of int
        Page-table levels that CAP.SAGAW announces, of 3, 4 and 5.
    first_stage_5_level, first_stage_1g : bool
        CAP.FS5LP and CAP.FS1GP.
    second_stage_2m, second_stage_1g : bool
        CAP.SSLPS.
    snoop_control, supervisor_requests, page_walk_snoop, rid_pasid : bool
        ECAP.SC, SRS, SMPWCS and RPS.
    extended_accessed, second_stage_accessed_dirty : bool
        ECAP.EAFS and SSADS.
    zero_length_read : bool
        CAP.ZLR.
    pasid_bits, domain_bits : int
        Widths of PASID (ECAP.PSS + 1) and domain identifier (2 * CAP.ND + 4), in bits.
    max_address_mask : int
        CAP.MAMV, the largest address mask of an IOTLB invalidation.
    device_tlb, page_requests : bool
        ECAP.DT and PRS (with PDS).
    counters : bool
        Whether event counters are built.
    performance_monitoring : bool
        ECAP.PMS and CAP.ECMDS: two of the counters count what software chooses.
    performance_counter_bits : int
        Width of these, at most 48.
    virtual_command_pasids : int
        PASIDs that virtual commands give out (ECAP.VCS), one more than the largest: a power of two of at least 64; 0
        for no virtual commands, which the specification leaves to emulators.
    fault_records : int
        Number of fault recording registers (CAP.NFR + 1).
    version_major : int
        VER.MAX, which selects the behaviours of §0.4; below 6, registers can command invalidations in legacy mode.
    mem_data_width : int
        Data width of the ``mem`` port in bits: 128, 256 or 512.
    data_width, id_width, user_width : int
        Widths of the ``dma`` and ``out`` ports in bits; ``id_width`` is also that of ``mem``.
    tag_width : int
        Width of the tag that names a request at the core port, in bits.
    dma_translations : int
        Bursts of each direction that the ``dma`` port has in translation at once, a power of two; hits need 8.
    dma_outstanding : int
        Bursts of each direction that are outstanding on ``out`` at once.
    walk_slots : int
        Page walks in flight at once.
    waiting_misses : int
        Requests in block RAM that wait for a walk slot or for the walk of an equal request, a power of two of at least
        64; with one for each tag, misses never hold up hits. 0: every miss waits in line and walks for itself.
    walk_slot_limit : bool
        Whether software can limit the walks of one requester in flight at once (IMPCTL.WSL).
    partitioning : bool
        Whether software can keep domains from replacing each other's entries in caches of several ways (CPW).
    prefetch_streams : int
        Streams of accesses to consecutive pages that are noticed, a power of two of 2 to 16; 0 leaves prefetching out.
    prefetch_pages : int
        Pages that are translated ahead of such a stream, 1 to 15; a page lasts 64 cycles at a request of 64 bytes each.
    iotlb_4k : CacheShape
        Block-RAM part of the IOTLB for 4 KiB pages, and for those that have no part of their own.
    iotlb_2m : CacheShape or None
        Block-RAM part of the IOTLB for 2 MiB pages.
    iotlb_1g_entries : int
        Fully associative part of the IOTLB for 1 GiB pages; 0 leaves it out.
    context_cache : CacheShape or None
        Cache of context entries. This one and those below are left out where None.
    pasid_cache : CacheShape
        Cache of PASID-table entries and legacy context entries.
    structure_cache_1, structure_cache_2 : CacheShape or None
        Paging-structure caches: tables of level 1 and level 2 by input address.
    nested_tlb, second_stage_cache_1, second_stage_cache_2 : CacheShape or None
        Of guest-physical addresses: host pages, and second-stage tables of level 1 and level 2.
    line_buffer_lines : int
        Lines of 64 bytes that paging entries of level 1 are read with and kept in, half of them for each stage; a power
        of two of at least 2, or 0 for none.

    Raises
    ------
    ValueError
        For a combination that §1.3 and §1.4 forbid or a width out of range.
    """

    haw: int = 52
    mgaw: int = 57
    scalable_mode: bool = True
    first_stage: bool = True
    second_stage: bool = True
    nested: bool = True
    pass_through: bool = True
    second_stage_levels: frozenset[int] = frozenset({3, 4, 5})
    first_stage_5_level: bool = True
    first_stage_1g: bool = True
    second_stage_2m: bool = True
    second_stage_1g: bool = True
    snoop_control: bool = True
    supervisor_requests: bool = True
    page_walk_snoop: bool = True
    rid_pasid: bool = True
    extended_accessed: bool = False
    second_stage_accessed_dirty: bool = False
    zero_length_read: bool = True
    pasid_bits: int = 20
    domain_bits: int = 16
    max_address_mask: int = 18
    device_tlb: bool = True
    page_requests: bool = True
    counters: bool = True
    performance_monitoring: bool = True
    performance_counter_bits: int = 48
    virtual_command_pasids: int = 0
    fault_records: int = 8
    version_major: int = 5
    mem_data_width: int = 128
    data_width: int = 128
    id_width: int = 6
    user_width: int = 8
    tag_width: int = 8
    dma_translations: int = 16
    dma_outstanding: int = 32
    walk_slots: int = 16
    waiting_misses: int = 256
    walk_slot_limit: bool = True
    partitioning: bool = True
    prefetch_streams: int = 8
    prefetch_pages: int = 8
    iotlb_4k: CacheShape = CacheShape(sets=1024, ways=4)
    iotlb_2m: CacheShape | None = CacheShape(sets=512, ways=2)
    iotlb_1g_entries: int = 4
    context_cache: CacheShape | None = CacheShape(sets=256, ways=2)
    pasid_cache: CacheShape = CacheShape(sets=1024, ways=2)
    structure_cache_1: CacheShape | None = CacheShape(sets=1024, ways=1)
    structure_cache_2: CacheShape | None = CacheShape(sets=512, ways=1)
    nested_tlb: CacheShape | None = CacheShape(sets=1024, ways=1)
    second_stage_cache_1: CacheShape | None = CacheShape(sets=1024, ways=1)
    second_stage_cache_2: CacheShape | None = CacheShape(sets=512, ways=1)
    line_buffer_lines: int = 64

    def __post_init__(self):
        self._check_widths()
        self._check_capabilities()

    def _check_widths(self):
        def require(condition: bool, message: str):
            if not condition:
                raise ValueError(message)

        require(32 <= self.haw <= 52, f"haw is 32 to 52 bits, not {self.haw}")
        require(self.haw <= self.mgaw <= 57, f"mgaw is haw ({self.haw}) to 57 bits, not {self.mgaw}")
        require(1 <= self.pasid_bits <= 20, f"pasid_bits is 1 to 20, not {self.pasid_bits}")
        require(
            4 <= self.domain_bits <= 16 and self.domain_bits % 2 == 0,
            f"domain_bits is an even number from 4 to 16, not {self.domain_bits}",
        )
        require(0 <= self.max_address_mask <= 52, f"max_address_mask is 0 to 52, not {self.max_address_mask}")
        require(1 <= self.fault_records <= 256, f"fault_records is 1 to 256, not {self.fault_records}")
        require(
            self.virtual_command_pasids == 0
            or (_is_power_of_two(self.virtual_command_pasids) and self.virtual_command_pasids >= 64),
            f"virtual_command_pasids is 0 or a power of two of at least 64, not {self.virtual_command_pasids}",
        )
        require(
            self.virtual_command_pasids <= 1 << self.pasid_bits,
            f"virtual_command_pasids {self.virtual_command_pasids} do not fit {self.pasid_bits} pasid_bits",
        )
        require(
            1 <= self.performance_counter_bits <= 48,
            f"performance_counter_bits is 1 to 48, not {self.performance_counter_bits}",
        )
        require(1 <= self.version_major <= 15, f"version_major is 1 to 15, not {self.version_major}")
        require(self.mem_data_width in (128, 256, 512), f"mem_data_width is 128, 256 or 512, not {self.mem_data_width}")
        require(
            self.data_width in (32, 64, 128, 256, 512), f"data_width is 32, 64, 128, 256 or 512, not {self.data_width}"
        )
        require(2 <= self.walk_slots <= 32, f"walk_slots is 2 to 32, not {self.walk_slots}")
        require(
            1 << self.id_width >= self.walk_slots + 4,
            f"id_width {self.id_width} cannot name {self.walk_slots} walk slots and 4 queues",
        )
        require(
            self.waiting_misses == 0 or (_is_power_of_two(self.waiting_misses) and self.waiting_misses >= 64),
            f"waiting_misses is 0 or a power of two of at least 64, not {self.waiting_misses}",
        )
        require(
            self.prefetch_streams in (0, 2, 4, 8, 16),
            f"prefetch_streams is 0 or a power of two of 2 to 16, not {self.prefetch_streams}",
        )
        require(1 <= self.prefetch_pages <= 15, f"prefetch_pages is 1 to 15, not {self.prefetch_pages}")
        require(1 <= self.tag_width <= 16, f"tag_width is 1 to 16, not {self.tag_width}")
        require(
            _is_power_of_two(self.dma_translations) and self.dma_translations >= 2,
            f"dma_translations is a power of two of at least 2, not {self.dma_translations}",
        )
        require(
            1 << self.tag_width >= 2 * self.dma_translations,
            f"tag_width {self.tag_width} cannot name {self.dma_translations} reads and writes",
        )
        require(self.dma_outstanding >= 2, f"dma_outstanding is at least 2, not {self.dma_outstanding}")
        for name in ("iotlb_4k", "pasid_cache"):
            require(isinstance(getattr(self, name), CacheShape), f"{name} cannot be left out")
        require(self.iotlb_1g_entries >= 0, f"iotlb_1g_entries is at least 0, not {self.iotlb_1g_entries}")
        lines = self.line_buffer_lines
        require(
            lines == 0 or (_is_power_of_two(lines) and 2 <= lines <= 1024),
            f"line_buffer_lines is 0 or a power of two from 2 to 1024, not {lines}",
        )

    def _check_capabilities(self):
        def implies(feature: str, needed: str):
            if getattr(self, feature) and not getattr(self, needed):
                raise ValueError(f"{feature} needs {needed}")

        for feature in ("first_stage", "nested", "page_walk_snoop", "supervisor_requests", "rid_pasid"):
            implies(feature, "scalable_mode")
        for feature in ("first_stage_5_level", "first_stage_1g", "nested", "extended_accessed"):
            implies(feature, "first_stage")
        for feature in ("nested", "second_stage_2m", "second_stage_accessed_dirty"):
            implies(feature, "second_stage")
        implies("second_stage_1g", "second_stage_2m")
        implies("extended_accessed", "page_walk_snoop")
        implies("second_stage_accessed_dirty", "page_walk_snoop")
        implies("page_requests", "device_tlb")
        implies("prefetch_streams", "waiting_misses")
        implies("walk_slot_limit", "waiting_misses")
        implies("page_requests", "scalable_mode")
        implies("virtual_command_pasids", "scalable_mode")
        implies("performance_monitoring", "counters")
        implies("page_requests", "waiting_misses")
        if not (self.first_stage or self.second_stage):
            raise ValueError("at least one of first_stage and second_stage is needed")
        levels = self.second_stage_levels
        if not levels <= AGAW.keys() or bool(levels) != self.second_stage:
            some = "of 3, 4 and 5" if self.second_stage else "none without second_stage"
            raise ValueError(f"second_stage_levels are {some}, not {sorted(levels)}")

    def replace(self, **changes) -> Self:
        """A copy with some fields changed, validated again."""
        return replace(self, **changes)

    def as_dict(self) -> dict[str, object]:
        """All parameters in plain JSON types."""

        def plain(value: object) -> object:
            if isinstance(value, CacheShape):
                return {"sets": value.sets, "ways": value.ways}
            return sorted(value) if isinstance(value, frozenset) else value

        return {field.name: plain(getattr(self, field.name)) for field in fields(self)}

    @property
    def page_bits(self) -> int:
        """Width of a host page number (4 KiB pages) in bits."""
        return self.haw - 12

    @property
    def sagaw(self) -> int:
        """CAP.SAGAW (5 bits, §1.3)."""
        return sum(1 << (levels - 2) for levels in self.second_stage_levels)

    def second_stage_width(self, levels: int) -> int:
        """Bits of a second-stage input address: min(MGAW, AGAW) (§2.9)."""
        return min(self.mgaw, AGAW[levels])


PRESETS: dict[str, IommuConfig] = {
    "DEFAULT": IommuConfig(),
    "FULL": IommuConfig(
        virtual_command_pasids=1 << 14,
        mem_data_width=512,
        iotlb_4k=CacheShape(sets=2048, ways=4),
        iotlb_2m=CacheShape(sets=1024, ways=4),
        iotlb_1g_entries=16,
        context_cache=CacheShape(sets=256, ways=4),
        pasid_cache=CacheShape(sets=1024, ways=4),
        structure_cache_1=CacheShape(sets=1024, ways=4),
        structure_cache_2=CacheShape(sets=512, ways=2),
        nested_tlb=CacheShape(sets=512, ways=2),
        second_stage_cache_1=CacheShape(sets=1024, ways=4),
        second_stage_cache_2=CacheShape(sets=512, ways=2),
        line_buffer_lines=256,
    ),
    "TINY": IommuConfig(
        device_tlb=False,
        page_requests=False,
        counters=False,
        performance_monitoring=False,
        fault_records=1,
        version_major=6,
        dma_translations=8,
        dma_outstanding=16,
        walk_slots=2,
        waiting_misses=0,
        walk_slot_limit=False,
        partitioning=False,
        prefetch_streams=0,
        iotlb_4k=CacheShape(sets=512, ways=1),
        iotlb_2m=None,
        iotlb_1g_entries=0,
        context_cache=None,
        pasid_cache=CacheShape(sets=512, ways=1),
        structure_cache_1=None,
        structure_cache_2=None,
        nested_tlb=None,
        second_stage_cache_1=None,
        second_stage_cache_2=None,
        line_buffer_lines=0,
    ),
    "FORMAL": IommuConfig(
        haw=32,
        mgaw=39,
        second_stage_levels=frozenset({3}),
        first_stage_5_level=False,
        first_stage_1g=False,
        second_stage_1g=False,
        pasid_bits=8,
        domain_bits=4,
        device_tlb=False,
        page_requests=False,
        counters=False,
        performance_monitoring=False,
        fault_records=1,
        version_major=6,
        tag_width=2,
        dma_translations=2,
        dma_outstanding=2,
        walk_slots=2,
        waiting_misses=0,
        walk_slot_limit=False,
        partitioning=False,
        prefetch_streams=0,
        iotlb_4k=CacheShape(sets=2, ways=2),
        iotlb_2m=CacheShape(sets=2, ways=1),
        iotlb_1g_entries=1,
        context_cache=CacheShape(sets=2, ways=1),
        pasid_cache=CacheShape(sets=2, ways=1),
        structure_cache_1=CacheShape(sets=2, ways=1),
        structure_cache_2=CacheShape(sets=2, ways=1),
        nested_tlb=CacheShape(sets=2, ways=1),
        second_stage_cache_1=CacheShape(sets=2, ways=1),
        second_stage_cache_2=CacheShape(sets=2, ways=1),
        line_buffer_lines=0,
    ),
}
"""The presets of the design contract, by name."""


def preset(name: str) -> IommuConfig:
    """Look up a preset by name (any case).

    Raises
    ------
    ValueError
        When there is no such preset; the message lists those that exist.
    """
    try:
        return PRESETS[name.upper()]
    except KeyError:
        raise ValueError(f"unknown preset {name!r}: choose one of {', '.join(PRESETS)}") from None
