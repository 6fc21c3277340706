"""What entries, keys and invalidations of the caches mean (§5.3, §8.1), in Python, and random ones from small pools."""

from abc import ABC, abstractmethod
from collections.abc import Hashable
from random import Random

from nestwalk.bus.translation import Access, PageSize
from nestwalk.config import IommuConfig
from nestwalk.formats.pasid import TranslationMode
from nestwalk.invalidation.command import Invalidation, Scope
from nestwalk.lookup.configuration import ContextFormat, PasidFormat
from nestwalk.lookup.guest_caches import GuestFormat
from nestwalk.lookup.iotlb import PageFormat
from nestwalk.lookup.structure_caches import StructureFormat

__all__ = [
    "EVERYTHING",
    "SOURCE_IDS",
    "CacheRules",
    "ContextRules",
    "IotlbRules",
    "PageRules",
    "PasidRules",
    "random_invalidation",
]

SOURCE_IDS = [0x0100, 0x0101, 0x0102, 0x0106, 0x8100]
PASIDS = [0, 1, 0xFFFFF]
DOMAINS = [1, 2]
PAGES = [0x0, 0x4_0000, 0x3FFF_FFF8_0000, 0x1234_5000_0000]
"""Input pages of 46 bits, the highest of which stands for all address bits from 57 up; neighbours are used too."""

SIGN = 1 << 45

EVERYTHING = {"user_read": 1, "user_write": 1, "privileged_read": 1, "privileged_write": 1}
"""Permissions for any access."""


def random_page(rng: Random, shift: int) -> int:
    """An input page in units of 2^``shift`` pages."""
    return (rng.choice(PAGES) + (rng.randrange(8) << shift) & 2 * SIGN - 1) >> shift


def invalidation_page(page: int) -> int:
    """The 52-bit page number of an input page."""
    return page | (0x3F << 46 if page & SIGN else 0)


def random_invalidation(rng: Random, scopes: list[tuple[str, Scope]], shift: int = 0) -> dict:
    """One of ``scopes``, each a cache and a granularity; fields that it does not use are noise."""
    cache, scope = rng.choice(scopes)
    page = random_page(rng, shift) << shift | rng.getrandbits(shift)
    return {
        cache: 1,
        "scope": scope,
        "domain_id": rng.choice(DOMAINS) | rng.getrandbits(12) << 4,
        "source_id": rng.choice(SOURCE_IDS),
        "function_mask": rng.randrange(4),
        "pasid": rng.choice(PASIDS),
        "page": invalidation_page(page),
        "address_mask": rng.choice([*range(shift, shift + 4), *range(shift, shift + 2), 0, 9, 20, 45, 52]),
        "hint": rng.getrandbits(1),
    }


def same_function(left: int, right: int, function_mask: int) -> bool:
    """FM: 0 no mask, 1 masks bit 2, 2 bits 2:1, 3 bits 2:0."""
    ignored = {0: 0, 1: 4, 2: 6, 3: 7}[function_mask]
    return left & ~ignored == right & ~ignored


def reach(invalidation: dict) -> int:
    """log2 of the pages that a page-selective invalidation removes: beyond CAP.MAMV the caches drop all."""
    mask = invalidation["address_mask"]
    return mask if mask <= IommuConfig().max_address_mask else 64


class CacheRules(ABC):
    """Entries and keys are dictionaries of their fields; those of 4 domain bits."""

    @abstractmethod
    def random_entry(self, rng: Random) -> dict: ...

    @abstractmethod
    def random_key(self, rng: Random) -> dict: ...

    @abstractmethod
    def random_invalidation(self, rng: Random) -> dict: ...

    @abstractmethod
    def tag(self, item: dict) -> Hashable:
        """Of an entry or a key: what a fill replaces and a look-up finds."""

    @abstractmethod
    def covers(self, entry: dict, invalidation: dict) -> bool: ...

    @abstractmethod
    def reaches(self, invalidation: dict) -> bool: ...

    def allows(self, entry: dict, key: dict) -> bool:
        """The entry, found, answers the key."""
        return True

    @abstractmethod
    def key_for(self, entry: dict) -> dict | None:
        """A key that the entry answers, None when there is none."""

    def aim(self, invalidation: dict, entry: dict) -> dict:
        """The invalidation with the tags of an entry."""
        tags = {name: entry[name] for name in ("source_id", "domain_id", "pasid") if name in entry}
        return invalidation | tags


class PageRules(CacheRules):
    """`PageFormat`."""

    SCOPES = [
        *([("iotlb", Scope.PAGE_IN_PASID)] * 6),
        *([("iotlb", Scope.PAGE_IN_DOMAIN)] * 2),
        ("iotlb", Scope.PASID),
        ("iotlb", Scope.DOMAIN),
        ("iotlb", Scope.GLOBAL),
        ("context", Scope.GLOBAL),
        ("pasid_cache", Scope.PASID),
    ]

    def __init__(self, cfg: IommuConfig, shift: int):
        self.shift = shift
        self.format = PageFormat(cfg, shift)
        self._host_bits = cfg.page_bits - shift

    def random_entry(self, rng):
        tags = self._tag_fields(rng)
        usual = rng.random() < 0.8  # the same domain and mode for all entries of a PASID
        return {
            **tags,
            "domain_id": DOMAINS[0] if usual else rng.choice(DOMAINS),
            "first_stage": int(tags["pasid"] != 0) if usual else rng.getrandbits(1),
            "permissions": {name: rng.getrandbits(1) for name in EVERYTHING},
            "size": rng.choice(list(PageSize)),
            "host_page": rng.getrandbits(self._host_bits),
        }

    def random_key(self, rng):
        return self._tag_fields(rng) | {"access": rng.choice(list(Access)), "privileged": rng.getrandbits(1)}

    def _tag_fields(self, rng):
        return {
            "source_id": rng.choice(SOURCE_IDS[:3]),
            "pasid_valid": rng.getrandbits(1),
            "pasid": rng.choice(PASIDS),
            "page": random_page(rng, self.shift),
        }

    def random_invalidation(self, rng):
        return random_invalidation(rng, self.SCOPES, self.shift)

    def tag(self, item):
        return item["source_id"], item["pasid_valid"] and 1 + item["pasid"], item["page"]

    def reaches(self, invalidation):
        return "iotlb" in invalidation

    def covers(self, entry, invalidation):
        if not self.reaches(invalidation):
            return False
        scope = invalidation["scope"]
        if scope is Scope.GLOBAL:
            return True
        if entry["domain_id"] != invalidation["domain_id"] % 16:
            return False
        if scope in (Scope.PASID, Scope.PAGE_IN_PASID) and entry["pasid"] != invalidation["pasid"]:
            return False
        if scope in (Scope.DOMAIN, Scope.PASID):
            return True
        if bool(entry["first_stage"]) != (scope is Scope.PAGE_IN_PASID):
            return scope is Scope.PAGE_IN_DOMAIN
        first, pages = self.span(entry)
        length = 1 << reach(invalidation)
        low = invalidation["page"] % (1 << 46) // length * length
        return first < low + length and low < first + pages

    def span(self, entry: dict) -> tuple[int, int]:
        """First input page of an entry and how many there are."""
        return entry["page"] << self.shift, 1 << self.shift

    def allows(self, entry, key):
        who = "privileged" if key["privileged"] else "user"
        read, write = entry["permissions"][f"{who}_read"], entry["permissions"][f"{who}_write"]
        return bool(
            {
                Access.READ: read,
                Access.WRITE: write,
                Access.ATOMIC: read and write,
                Access.ZERO_LENGTH_READ: read or write,
            }[key["access"]]
        )

    def key_for(self, entry):
        tag = {name: entry[name] for name in ("source_id", "pasid_valid", "pasid", "page")}
        keys = (tag | {"access": access, "privileged": privileged} for access in Access for privileged in (0, 1))
        return next((key for key in keys if self.allows(entry, key)), None)

    def aim(self, invalidation, entry):
        below = invalidation["page"] % (1 << self.shift)
        return super().aim(invalidation, entry) | {"page": invalidation_page(entry["page"] << self.shift | below)}


class IotlbRules(PageRules):
    """`Iotlb`: pages in units of 4 KiB, each region of 4 GiB in pages of one size, as tables map it."""

    REGIONS = {0x0: 0, 0x10_0000: 9, 0x1234_5000_0000: 0, 0x2345_6000_0000: 9, 0x3FFF_FFF0_0000: 18}
    CLASSES = {0: PageSize.SIZE_4K, 9: PageSize.SIZE_2M, 18: PageSize.SIZE_1G}

    def __init__(self, cfg: IommuConfig):
        super().__init__(cfg, 0)

    def _tag_fields(self, rng):
        base, shift = rng.choice(list(self.REGIONS.items()))
        page = base + (rng.randrange(4) << shift) + rng.getrandbits(shift)
        return super()._tag_fields(rng) | {"page": page}

    def shift_of(self, item: dict) -> int:
        """log2 of the pages that are mapped together with the one of an entry or a key."""
        return self.REGIONS[item["page"] & ~0xF_FFFF]

    def tag(self, item):
        source_id, space, page = super().tag(item)
        return source_id, space, page >> self.shift_of(item)

    def span(self, entry):
        shift = self.shift_of(entry)
        return entry["page"] >> shift << shift, 1 << shift

    def random_invalidation(self, rng):
        page = invalidation_page(self._tag_fields(rng)["page"])
        return super().random_invalidation(rng) | {"page": page, "address_mask": rng.choice([0, 1, 3, 9, 11, 18, 30])}


class StructureRules(PageRules):
    """`StructureFormat`: tables, which page-selective invalidations with IH set leave alone."""

    def __init__(self, cfg: IommuConfig, level: int):
        super().__init__(cfg, 9 * level)
        self.format = StructureFormat(cfg, level)
        self._page_bits = cfg.page_bits

    def random_entry(self, rng):
        entry = super().random_entry(rng)
        tags = ("source_id", "pasid_valid", "pasid", "page", "domain_id", "first_stage")
        return {name: entry[name] for name in tags} | {"table": rng.getrandbits(self._page_bits)}

    def random_key(self, rng):
        return self._tag_fields(rng)

    def allows(self, entry, key):
        return True

    def key_for(self, entry):
        return {name: entry[name] for name in ("source_id", "pasid_valid", "pasid", "page")}

    def covers(self, entry, invalidation):
        by_page = invalidation["scope"] in (Scope.PAGE_IN_PASID, Scope.PAGE_IN_DOMAIN)
        # A page of a domain takes all first-stage entries of the domain, tables too (§5.3).
        whole_domain = invalidation["scope"] is Scope.PAGE_IN_DOMAIN and entry["first_stage"]
        if by_page and invalidation["hint"] and not whole_domain:
            return False
        return super().covers(entry, invalidation)


class GuestRules(CacheRules):
    """`GuestFormat`: what a domain's second stage says of guest-physical pages, or where its tables are."""

    SCOPES = [
        *([("iotlb", Scope.PAGE_IN_DOMAIN)] * 6),
        ("iotlb", Scope.DOMAIN),
        ("iotlb", Scope.GLOBAL),
        ("iotlb", Scope.PASID),
        ("iotlb", Scope.PAGE_IN_PASID),
        ("context", Scope.GLOBAL),
        ("pasid_cache", Scope.DOMAIN),
    ]

    def __init__(self, cfg: IommuConfig, shift: int):
        self.shift = shift
        self.format = GuestFormat(cfg, shift)
        self._page_bits = cfg.page_bits

    def random_key(self, rng):
        base = rng.choice([0, 1 << self._page_bits - 1])
        return {"domain_id": rng.choice(DOMAINS), "page": base + (rng.randrange(16) << self.shift) >> self.shift}

    def random_entry(self, rng):
        leaf = {"read": rng.getrandbits(1), "write": rng.getrandbits(1), "size": rng.choice(list(PageSize))}
        target = {"target": rng.getrandbits(self._page_bits)}
        return self.random_key(rng) | target | ({} if self.shift else leaf)

    def random_invalidation(self, rng):
        page = self.random_key(rng)["page"] << self.shift
        return random_invalidation(rng, self.SCOPES, self.shift) | {"page": page}

    def tag(self, item):
        return item["domain_id"], item["page"]

    def reaches(self, invalidation):
        # Invalidations by PASID are of first-stage entries (§5.3): the second stage's stay.
        by_domain = (Scope.GLOBAL, Scope.DOMAIN, Scope.PAGE_IN_DOMAIN)
        return "iotlb" in invalidation and invalidation["scope"] in by_domain

    def covers(self, entry, invalidation):
        scope = invalidation["scope"]
        if not self.reaches(invalidation) or scope is Scope.GLOBAL:
            return self.reaches(invalidation)
        if entry["domain_id"] != invalidation["domain_id"] % 16:
            return False
        if scope is Scope.DOMAIN or (self.shift and invalidation["hint"]):
            return scope is Scope.DOMAIN
        size = 1 << max(self.shift, reach(invalidation))
        return (entry["page"] << self.shift) // size == invalidation["page"] // size

    def key_for(self, entry):
        return {name: entry[name] for name in ("domain_id", "page")}

    def aim(self, invalidation, entry):
        return super().aim(invalidation, entry) | {"page": entry["page"] << self.shift}


class ContextRules(CacheRules):
    """`ContextFormat`."""

    SCOPES = [
        *([("context", Scope.DEVICE)] * 4),
        ("context", Scope.GLOBAL),
        ("context", Scope.DOMAIN),
        ("pasid_cache", Scope.GLOBAL),
        ("iotlb", Scope.DOMAIN),
    ]

    def __init__(self, cfg: IommuConfig):
        self.format = ContextFormat(cfg)
        self._page_bits = cfg.page_bits

    def random_entry(self, rng):
        fields = {"pdts": rng.randrange(8), "rid_pasid": rng.getrandbits(20), "paside": rng.getrandbits(1)}
        return {**self.random_key(rng), "fields": fields | {"directory": rng.getrandbits(self._page_bits)}}

    def random_key(self, rng):
        return {"source_id": rng.choice(SOURCE_IDS) ^ rng.choice([0, 0x1000])}

    def random_invalidation(self, rng):
        return random_invalidation(rng, self.SCOPES)

    def tag(self, item):
        return item["source_id"]

    def reaches(self, invalidation):
        return "context" in invalidation

    def covers(self, entry, invalidation):
        if not self.reaches(invalidation):
            return False
        if invalidation["scope"] is not Scope.DEVICE:
            return True
        return same_function(entry["source_id"], invalidation["source_id"], invalidation["function_mask"])

    def key_for(self, entry):
        return {"source_id": entry["source_id"]}


class PasidRules(CacheRules):
    """`PasidFormat`: PASID-table entries and legacy context entries."""

    SCOPES = [
        *([("context", Scope.DEVICE)] * 3),
        *([("context", Scope.DOMAIN)] * 2),
        *([("pasid_cache", Scope.PASID)] * 3),
        ("context", Scope.GLOBAL),
        ("pasid_cache", Scope.DOMAIN),
        ("pasid_cache", Scope.GLOBAL),
        ("iotlb", Scope.GLOBAL),
    ]

    def __init__(self, cfg: IommuConfig):
        self.format = PasidFormat(cfg)
        self._page_bits = cfg.page_bits

    def random_entry(self, rng):
        legacy = rng.random() < 0.3
        space = {
            "legacy": legacy,
            "pasid": 0 if legacy else rng.choice(PASIDS),
            "domain_id": rng.choice(DOMAINS),
            "mode": TranslationMode.SECOND_STAGE if legacy else rng.choice(list(TranslationMode)),
            "second_root": rng.getrandbits(self._page_bits),
            "first_root": rng.getrandbits(self._page_bits),
            "sre": rng.getrandbits(1),
        }
        pasid_valid = 0 if legacy else rng.getrandbits(1)
        return {"source_id": rng.choice(SOURCE_IDS), "pasid_valid": pasid_valid, "space": space}

    def random_key(self, rng):
        return {"source_id": rng.choice(SOURCE_IDS), "pasid_valid": rng.getrandbits(1), "pasid": rng.choice(PASIDS)}

    def random_invalidation(self, rng):
        return random_invalidation(rng, self.SCOPES)

    def tag(self, item):
        pasid = item["space"]["pasid"] if "space" in item else item["pasid"]
        return item["source_id"], item["pasid_valid"] and 1 + pasid

    def reaches(self, invalidation):
        return "context" in invalidation or "pasid_cache" in invalidation

    def covers(self, entry, invalidation):
        if not self.reaches(invalidation):
            return False
        scope, space = invalidation["scope"], entry["space"]
        in_domain = space["domain_id"] == invalidation["domain_id"] % 16
        if "context" in invalidation:
            if scope is Scope.DEVICE:
                return same_function(entry["source_id"], invalidation["source_id"], invalidation["function_mask"])
            # Only legacy context entries have a domain (§5.3, §8.1).
            return scope is Scope.GLOBAL or not space["legacy"] or in_domain
        by_pasid = scope is not Scope.PASID or space["pasid"] == invalidation["pasid"]
        return scope is Scope.GLOBAL or (in_domain and by_pasid)

    def key_for(self, entry):
        return {name: entry[name] for name in ("source_id", "pasid_valid")} | {"pasid": entry["space"]["pasid"]}

    def aim(self, invalidation, entry):
        return super().aim(invalidation, entry | {name: entry["space"][name] for name in ("domain_id", "pasid")})


assert set(Invalidation.as_shape().members) >= set(random_invalidation(Random(0), PageRules.SCOPES))
