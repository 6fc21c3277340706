"""`DescriptorDecoder` against masks written from the specification's tables."""

import pytest

from nestwalk.config import PRESETS, IommuConfig
from nestwalk.invalidation.command import Invalidation
from nestwalk.invalidation.decode import Action, DescriptorDecoder
from rtl.tests.invalidation.reference import TYPES, decode, legal_descriptor
from rtl.tests.simulation import simulate

FIELDS = {
    ("context", "DOMAIN"): ("domain_id",),
    ("context", "DEVICE"): ("source_id", "function_mask", "domain_id"),
    ("iotlb", "DOMAIN"): ("domain_id",),
    ("iotlb", "PAGE_IN_DOMAIN"): ("domain_id", "page", "address_mask", "hint"),
    ("iotlb", "PASID"): ("domain_id", "pasid"),
    ("iotlb", "PAGE_IN_PASID"): ("domain_id", "pasid", "page", "address_mask", "hint"),
    ("pasid_cache", "DOMAIN"): ("domain_id",),
    ("pasid_cache", "PASID"): ("domain_id", "pasid"),
}


def as_tuple(invalidation) -> tuple:
    """An `Invalidation` constant in the form of the reference."""
    (cache,) = (name for name in ("context", "pasid_cache", "iotlb") if invalidation[name])
    scope = invalidation.scope.name
    return ("invalidate", cache, scope, *(invalidation[name] for name in FIELDS.get((cache, scope), ())))


def candidate(rng, cfg: IommuConfig, *, scalable: bool) -> int:
    """A descriptor, every other one with something wrong."""
    value = legal_descriptor(rng, cfg, scalable=scalable)
    match rng.randrange(6):
        case 0:
            value ^= 1 << rng.randrange(256)
        case 1:
            value = value & ~0xF | rng.randrange(16)
        case 2:
            value = value & ~0x3F | rng.choice([1, 2, 6, 7]) | rng.randrange(4) << 4
    return value


@pytest.mark.parametrize("preset", ["DEFAULT", "TINY", "FORMAL"])
@pytest.mark.parametrize("scalable", [False, True])
def test_random_descriptors(preset, scalable, rng):
    cfg = PRESETS[preset]
    dut = DescriptorDecoder(cfg)
    seen = set()

    async def testbench(ctx):
        ctx.set(dut.scalable, scalable)
        for _ in range(4000):
            value = candidate(rng, cfg, scalable=scalable)
            ctx.set(dut.descriptor, value % (1 << 128))
            ctx.set(dut.padding_set, bool(value >> 128))
            expected = decode(value, cfg, scalable=scalable)
            error, action = ctx.get(dut.error), ctx.get(dut.action)
            seen.add((value & 0xF, *expected[: 3 if expected[0] == "invalidate" else 1], error.value))
            match expected[0]:
                case "error":
                    assert error.value == expected[1], hex(value)
                    continue
                case "invalidate":
                    got = as_tuple(Invalidation.from_bits(ctx.get(dut.invalidation.as_value())))
                    assert (action, got) == (Action.INVALIDATE, expected), hex(value)
                case "wait":
                    assert action is Action.WAIT, hex(value)
                case "message":
                    assert action is Action.MESSAGE, hex(value)
            assert error.value == 0, hex(value)

    simulate(dut, testbench)
    # Every type was met, right and wrong.
    valid_types = {kind for kind, *_, error in seen if not error}
    assert valid_types == {kind for kind in TYPES if kind not in (4, 0xA)} & supported(cfg, scalable=scalable)
    assert {(kind, 4) for kind in valid_types} <= {(kind, error) for kind, *_, error in seen}
    assert {kind for kind, *_, error in seen if error == 3} >= {0, 4, 0xA, 0xF}
    if scalable:
        assert {entry[2:4] for entry in seen if entry[1] == "invalidate"} >= {
            ("context", "DEVICE"), ("iotlb", "PAGE_IN_DOMAIN"), ("iotlb", "PAGE_IN_PASID"), ("pasid_cache", "PASID")
        }  # fmt: skip


def supported(cfg: IommuConfig, *, scalable: bool) -> set[int]:
    """Types that the unit announces (§5.1)."""
    types = {1, 2, 5} | ({3} if cfg.device_tlb else set())
    if scalable:
        types |= {6, 7} | ({8} if cfg.device_tlb else set()) | ({9} if cfg.page_requests else set())
    return types


def test_reserved_granularity_is_an_invalid_type():
    dut = DescriptorDecoder(PRESETS["DEFAULT"])

    async def testbench(ctx):
        ctx.set(dut.scalable, 1)
        for kind, granularity in [(1, 0), (2, 0), (6, 0), (6, 1), (7, 2)]:
            ctx.set(dut.descriptor, kind | granularity << 4)
            assert ctx.get(dut.error).value == 3, (kind, granularity)

    simulate(dut, testbench)
