"""What a descriptor means, decoded with masks written from the tables of §5.1 and §5.2, and random descriptors."""

from random import Random

from nestwalk.config import IommuConfig

__all__ = ["TYPES", "decode", "legal_descriptor", "wait_descriptor"]

TYPES = range(1, 0xB)
SCALABLE_TYPES = range(6, 0xB)


def bits(high: int, low: int) -> int:
    """Mask of bits ``high``:``low``."""
    return (1 << high + 1) - (1 << low)


TYPE_BITS = bits(3, 0) | bits(11, 9)
PASID_BITS = bits(51, 32)
ADDRESS_BITS = bits(127, 76)

DEFINED = {
    1: bits(5, 4) | bits(31, 16) | bits(47, 32) | bits(49, 48),
    2: bits(7, 4) | bits(31, 16) | bits(70, 64) | ADDRESS_BITS,
    3: bits(15, 12) | bits(20, 16) | bits(47, 32) | bits(63, 52) | bits(64, 64) | ADDRESS_BITS,
    4: bits(4, 4) | bits(31, 27) | bits(47, 32),
    5: bits(7, 4) | bits(63, 32) | bits(127, 66),
    6: bits(5, 4) | bits(31, 16) | PASID_BITS | bits(70, 64) | ADDRESS_BITS,
    7: bits(5, 4) | bits(31, 16) | PASID_BITS,
    8: bits(8, 4) | bits(15, 12) | bits(31, 16) | PASID_BITS | bits(64, 52) | bits(75, 75) | ADDRESS_BITS,
    9: bits(4, 4) | bits(15, 12) | bits(31, 16) | PASID_BITS | bits(75, 66),
    0xA: bits(5, 4) | bits(31, 16) | bits(71, 64) | ADDRESS_BITS,
}
GRANULARITIES = {1: (1, 2, 3), 2: (1, 2, 3), 6: (2, 3), 7: (0, 1, 3)}


def field(value: int, high: int, low: int) -> int:
    return value >> low & (1 << high - low + 1) - 1


def error_code(value: int, cfg: IommuConfig, *, scalable: bool) -> int:
    """IQEI of a descriptor (256 bits), 0 when it is valid."""
    kind = field(value, 11, 9) << 4 | field(value, 3, 0)
    announced = {1, 2, 5} | ({3} if cfg.device_tlb else set())
    if scalable:
        announced |= {6, 7} | ({8} if cfg.device_tlb else set()) | ({9} if cfg.page_requests else set())
    if kind not in announced:
        return 3
    if kind in GRANULARITIES and field(value, 5, 4) not in GRANULARITIES[kind]:
        return 3
    if value & ~(DEFINED[kind] | TYPE_BITS):
        return 4
    if kind == 5 and field(value, 7, 7) and not cfg.page_requests:
        return 4
    if kind == 2 and field(value, 5, 4) == 3 and field(value, 69, 64) > cfg.max_address_mask:
        return 4
    return 0


def decode(value: int, cfg: IommuConfig, *, scalable: bool) -> tuple:
    """("error", code), ("message", bits), ("wait", ...) or ("invalidate", cache, scope, fields that count)."""
    code = error_code(value, cfg, scalable=scalable)
    if code:
        return ("error", code)
    kind = field(value, 3, 0)
    granularity = field(value, 5, 4)
    domain = field(value, 31, 16) % (1 << cfg.domain_bits)
    pasid = field(value, 51, 32)
    mask_and_hint = (field(value, 69, 64), field(value, 70, 70))
    page = field(value, 127, 76)
    if kind == 1:
        if granularity == 1 or (granularity == 2 and scalable):
            return ("invalidate", "context", "GLOBAL")
        if granularity == 2:
            return ("invalidate", "context", "DOMAIN", domain)
        return ("invalidate", "context", "DEVICE", field(value, 47, 32), field(value, 49, 48), domain)
    if kind == 2:
        if granularity == 3:
            page %= 1 << cfg.mgaw - 12
            return ("invalidate", "iotlb", "PAGE_IN_DOMAIN", domain, page, *mask_and_hint)
        return ("invalidate", "iotlb", "GLOBAL") if granularity == 1 else ("invalidate", "iotlb", "DOMAIN", domain)
    if kind == 5:
        interrupt, status = field(value, 4, 4), field(value, 5, 5)
        address = field(value, 127, 64) % (1 << cfg.haw)
        return ("wait", interrupt, (address, field(value, 63, 32)) if status else None)
    if kind == 6:
        if granularity == 3:
            return ("invalidate", "iotlb", "PAGE_IN_PASID", domain, pasid, page, *mask_and_hint)
        return ("invalidate", "iotlb", "PASID", domain, pasid)
    if kind == 7:
        scopes = {0: ("DOMAIN", domain), 1: ("PASID", domain, pasid), 3: ("GLOBAL",)}
        return ("invalidate", "pasid_cache", *scopes[granularity])
    return ("message", value)


def wait_descriptor(*, address: int | None = None, data: int = 0, interrupt: bool = False) -> int:
    """inv_wait_dsc with a status write if there is an address."""
    value = 5 | interrupt << 4
    return value if address is None else value | 1 << 5 | data << 32 | address << 64


def legal_descriptor(rng: Random, cfg: IommuConfig, *, scalable: bool) -> int:
    """A valid descriptor of a random type, all its fields random."""
    while True:
        kind = rng.choice(TYPES)
        value = kind | rng.getrandbits(256) & DEFINED[kind]
        if rng.random() < 0.5:  # else most address masks are above CAP.MAMV
            value &= ~bits(69, 68) if kind == 2 else -1
        if not error_code(value, cfg, scalable=scalable):
            return value
