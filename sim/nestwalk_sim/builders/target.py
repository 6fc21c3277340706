"""One random device with tables of a wanted shape, sane in every way: what a defect is then planted into."""

from dataclasses import dataclass, field
from random import Random

from ..memory import Memory
from ..model import Access, Mode, ModelConfig, Request
from .paging import FirstStageTables, GuestSpace, HostSpace, PageTables, Place, SecondStageTables
from .shapes import Expectation, Shape
from .structures import (
    LegacyTables,
    ScalableTables,
    first_stage_fields,
    nested_fields,
    pass_through_fields,
    second_stage_fields,
)

__all__ = ["INTERRUPT_RANGE", "Target", "build_target"]

INTERRUPT_RANGE = 0xFEE00000


@dataclass
class Target:
    """A device, its tables and the request to make.

    ``pasid`` is the effective one, whether or not the request carries it. ``request`` holds the keyword arguments
    of the request; ``guest_address`` is what the final second-stage walk translates, ``output`` and ``page_size``
    what a sane walk gives.
    """

    random: Random
    config: ModelConfig
    memory: Memory
    space: HostSpace
    shape: Shape
    scalable: ScalableTables | None
    legacy: LegacyTables | None
    source_id: int
    pasid: int = 0
    rid_pasid: int = 0
    first: FirstStageTables | None = None
    second: SecondStageTables | None = None
    guest_address: int = 0
    output: int = 0
    request: dict = field(default_factory=dict)

    @property
    def page_size(self) -> int:
        return min(filter(None, (self.shape.first_size, self.shape.second_size)), default=0)

    @property
    def with_pasid(self) -> bool:
        return self.request["pasid"] is not None

    @property
    def writes(self) -> bool:
        return self.request["access"] in (Access.WRITE, Access.ATOMIC)

    def first_path(self) -> list[Place]:
        """First-stage entries of the request's walk."""
        assert self.first is not None
        return self.first.path(self.request["address"])

    def second_inputs(self) -> list[int]:
        """Every address that the request's walk gives to the second stage, in order."""
        if self.first is None:
            return [self.request["address"]]
        return [place.address for place in self.first_path()] + [self.guest_address]

    def second_path(self, address: int) -> list[Place]:
        """Second-stage entries that serve an address."""
        assert self.second is not None
        return self.second.path(address)

    def structure_qwords(self) -> list[int]:
        """Host addresses of the qwords of root, context and PASID entries on the request's walk."""
        if self.legacy is not None:
            root = self.legacy.root_entry_address(self.source_id)
            context = self.legacy.context_entry_address(self.source_id)
            return [root, root + 8, context, context + 8]
        assert self.scalable is not None
        root = self.scalable.root_entry_address(self.source_id) + (8 if self.source_id & 0x80 else 0)
        context = self.scalable.context_entry_address(self.source_id)
        directory = self.scalable.directory_entry_address(self.source_id, self.pasid)
        entry = self.scalable.pasid_entry_address(self.source_id, self.pasid)
        return [root, *range(context, context + 32, 8), directory, *range(entry, entry + 64, 8)]

    def expectation(self) -> Expectation:
        """The grant of a sane target."""
        return Expectation(None, self.output, self.page_size)

    def make_request(self) -> Request:
        return Request(source_id=self.source_id, **self.request)


def _harmless(random: Random, address: int) -> bool:
    return address >> 20 != INTERRUPT_RANGE >> 20


def _random_output(random: Random, width: int, size: int, offset: int) -> int:
    """An aligned page of a random address whose byte at ``offset`` is not in the interrupt range."""
    while True:
        page = random.getrandbits(random.choice((32, width))) & ~(size - 1)
        if _harmless(random, page + offset):
            return page


class _Builder:
    """Builds one target; split by stage."""

    def __init__(self, target: Target):
        self.target = target
        self.random = target.random
        self.config = target.config
        self.preset_bits = not target.config.page_walk_snoop or self.chance(0.4)

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def bit(self) -> int:
        return self.random.getrandbits(1)

    def choose_address(self, width: int, canonical: bool) -> int:
        """A random input address of ``width`` bits that is not in the interrupt range."""
        while True:
            address = self.random.getrandbits(self.random.choice((32, width)))
            if canonical and address >> (width - 1):
                address |= (1 << 64) - (1 << width)
            if _harmless(self.random, address):
                return address

    def first_leaf_fields(self) -> dict[str, int]:
        request = self.target.request
        privileged = request["privileged"] and self.target.with_pasid
        writable = 1 if self.target.writes and not privileged else self.bit()
        return {"RW": writable, "US": self.bit() if privileged else 1}

    def second_leaf_fields(self) -> dict[str, int]:
        """Permissions that the access needs, anything beyond them."""
        access = self.target.request["access"]
        if access is Access.ATOMIC:
            return {"R": 1, "W": 1}
        if access is Access.WRITE:
            return {"R": self.bit(), "W": 1}
        if access is Access.ZERO_LENGTH_READ and self.config.zero_length_read and self.chance(0.3):
            return {"R": 0, "W": 1}
        return {"R": 1, "W": self.bit()}

    def first_stage(self, output_width: int) -> None:
        """Map the request's address in first-stage tables, which exist already."""
        target = self.target
        first, size = target.first, target.shape.first_size
        assert first is not None
        address = self.choose_address(9 * first.levels + 12, canonical=True)
        target.request["address"] = address
        offset = address & (size - 1)
        output = _random_output(self.random, output_width, size, offset)
        first.map(address - offset, output, size, **self.first_leaf_fields())
        target.guest_address = target.output = output + offset
        for place in target.first_path():
            if not self.preset_bits:
                first.set_fields(place, A=self.bit(), D=self.bit())
            self.sprinkle(first, place, _FIRST_IGNORED)

    def second_stage(self, address: int) -> None:
        """Map an address in second-stage tables, which exist already."""
        target = self.target
        second, size = target.second, target.shape.second_size
        assert second is not None
        offset = address & (size - 1)
        output = _random_output(self.random, self.config.haw, size, offset)
        second.map(address - offset, output, size, **self.second_leaf_fields())
        target.output = output + offset
        for place in target.second_path(address):
            self.sprinkle(second, place, _SECOND_IGNORED)

    def sprinkle(self, tables: PageTables, place: Place, ignored: int) -> None:
        """Invert ignored bits of some entries."""
        if self.chance(0.3):
            self.target.memory.write64(
                place.host, self.target.memory.read64(place.host) ^ (self.random.getrandbits(64) & ignored)
            )

    def tables(self) -> None:
        """Page tables of the target's shape."""
        target = self.target
        mode = target.shape.mode
        if mode is Mode.FIRST_STAGE:
            target.first = FirstStageTables(target.space, target.shape.first_levels)
            self.first_stage(self.config.haw)
        elif mode is Mode.NESTED:
            self.nested_tables(min(self.config.guest_width(target.shape.second_levels), self.config.haw))
        elif mode is Mode.PASS_THROUGH:
            address = self.choose_address(self.config.haw, canonical=False)
            target.request["address"] = target.output = address
        else:
            target.second = SecondStageTables(target.space, target.shape.second_levels)
            width = self.config.guest_width(target.shape.second_levels)
            target.request["address"] = self.choose_address(width, canonical=False)
            self.second_stage(target.request["address"])

    def nested_tables(self, width: int) -> None:
        """First stage over second stage; again when their guest-physical pages collide."""
        target = self.target
        while True:
            second = target.second = SecondStageTables(target.space, target.shape.second_levels)
            target.first = FirstStageTables(GuestSpace(second, width, self.random), target.shape.first_levels)
            self.first_stage(width)
            try:
                self.second_stage(target.guest_address)
            except ValueError:
                continue
            if target.guest_address >> 12 not in {place.address >> 12 for place in target.first_path()}:
                return

    def pasid_entry(self) -> dict[str, int]:
        """Fields of the PASID table entry, with noise where they are ignored."""
        target, mode = self.target, self.target.shape.mode
        fields = {}
        if mode in (Mode.FIRST_STAGE, Mode.PASS_THROUGH) and self.chance(0.5):
            fields |= {"AW": self.random.getrandbits(3), "SSPTPTR": self.random.getrandbits(self.config.haw) & ~0xFFF}
            fields |= {"SSADE": self.bit(), "EMTE": self.bit()}
        if mode in (Mode.SECOND_STAGE, Mode.PASS_THROUGH) and self.chance(0.5):
            fields |= {"FSPM": self.random.getrandbits(2), "FSPTPTR": self.random.getrandbits(self.config.haw) & ~0xFFF}
            fields |= {"EAFE": self.bit(), "WPE": self.bit()}
        if mode is Mode.FIRST_STAGE and target.first:
            fields |= first_stage_fields(target.first)
        elif mode is Mode.SECOND_STAGE and target.second:
            fields |= second_stage_fields(target.second)
        elif mode is Mode.NESTED and target.first and target.second:
            fields |= nested_fields(target.first, target.second)
        else:
            fields |= pass_through_fields()
        privileged = target.with_pasid and target.request["privileged"]
        fields["DID"] = self.random.getrandbits(self.config.domain_bits)
        fields["PGSNP"] = self.bit() if self.config.snoop_control else 0
        fields["SRE"] = 1 if privileged else (self.bit() if self.config.supervisor_requests else 0)
        fields["PWSNP"] = (self.bit() if self.preset_bits else 1) if self.config.page_walk_snoop else 0
        if fields["PWSNP"] and mode is not Mode.PASS_THROUGH:
            if target.first is not None and self.config.extended_accessed:
                fields["EAFE"] = self.bit()
            if target.second is not None and self.config.second_stage_accessed_dirty:
                fields["SSADE"] = self.bit()
        fields["FPD"] = self.chance(0.1)
        return fields

    def scalable(self, tables: ScalableTables) -> None:
        target = self.target
        size_code = self.random.choice((0, 0, 0, 1, 2, 7))
        limit = min(1 << (size_code + 13), 1 << self.config.pasid_bits)
        target.rid_pasid = self.random.choice((0, self.random.randrange(limit))) if self.config.rid_pasid else 0
        target.pasid = target.rid_pasid
        if target.with_pasid:
            while target.pasid == target.rid_pasid:
                target.pasid = self.random.randrange(limit)
            target.request["pasid"] = target.pasid
        device_tlb = self.bit() if self.config.device_tlb else 0
        tables.add_device(
            target.source_id,
            size_code,
            RID_PASID=target.rid_pasid,
            PASIDE=target.with_pasid or self.bit(),
            DTE=device_tlb,
            PRE=device_tlb and self.config.page_requests and self.bit(),
            FPD=self.chance(0.1),
        )
        tables.add_pasid(target.source_id, target.pasid, **self.pasid_entry())

    def legacy(self, tables: LegacyTables) -> None:
        target = self.target
        noise = {"FPD": self.chance(0.1), "DID": self.random.getrandbits(self.config.domain_bits)}
        if target.shape.mode is Mode.PASS_THROUGH:
            noise["SSPTPTR"] = self.random.getrandbits(self.config.haw) & ~0xFFF
            noise["AW"] = max(self.config.second_stage_levels) - 2
        elif self.config.device_tlb:
            noise["TT"] = self.bit()
        tables.add_device(target.source_id, target.second, **noise)


_FIRST_IGNORED = 0xFFF0_0000_0000_0B18
"""Bits 3, 4, 8, 9, 11 and 63:52 of first-stage entries."""

_SECOND_IGNORED = 0xBFF0_0000_0000_047C
"""Bits 6:2, 10, 61:52 and 63 of second-stage entries."""


def build_target(
    random: Random,
    config: ModelConfig,
    tables: ScalableTables | LegacyTables,
    shape: Shape,
    source_id: int,
    with_pasid: bool,
) -> Target:
    """Build a sane device whose request is granted.

    Parameters
    ----------
    random : Random
        Source of every choice.
    config : ModelConfig
        Announced capabilities.
    tables : ScalableTables or LegacyTables
        Where the device is entered.
    shape : Shape
        Wanted translation.
    source_id : int
        Requester id; no other device of the tables may share its context table if that is to be corrupted.
    with_pasid : bool
        Whether the request carries a PASID (scalable mode only).
    """
    access = random.choices(list(Access), weights=(2, 2, 1, 1))[0]
    scalable = tables if isinstance(tables, ScalableTables) else None
    legacy = tables if isinstance(tables, LegacyTables) else None
    target = Target(random, config, tables.memory, tables.space, shape, scalable, legacy, source_id)
    privileged = random.random() < 0.25 and (config.supervisor_requests or not with_pasid)
    target.request = {
        "pasid": 0 if with_pasid else None,
        "access": access,
        "privileged": privileged,
        # Without PASID the bit means nothing and must do nothing.
        "execute": not with_pasid and access is Access.READ and random.random() < 0.1,
        "one_dword": bool(random.getrandbits(1)),
    }
    builder = _Builder(target)
    builder.tables()
    if scalable is not None:
        builder.scalable(scalable)
    elif legacy is not None:
        builder.legacy(legacy)
    return target
