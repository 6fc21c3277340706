"""`Overtake`: every walk that may have read what an invalidation covers, and few others."""

from amaranth.hdl import Value

from nestwalk.config import preset
from nestwalk.formats.pasid import TranslationMode
from nestwalk.invalidation.command import Scope
from nestwalk.walk.overtake import Overtake
from rtl.tests.simulation import simulate

CFG = preset("FORMAL")
SOURCE_IDS = [0x100, 0x101, 0x107, 0x1100]
PAGES = [0, 1, 0x3FFFF, 0x40000, 0xF_FFFF_FFFF_FFFF, 0xF_FFFF_FFFB_FFFF]
FIRST = (TranslationMode.FIRST_STAGE, TranslationMode.NESTED)


def covers(invalidation: dict, request: dict, space: dict | None) -> bool:
    """Whether the walk may have read, or be about to grant, what the invalidation covers (§5.3).

    Any leaf that the walk meets lies within 1 GiB of its page, so that is how near an invalidated page may be.
    """
    scope = invalidation["scope"]
    if invalidation.get("context"):
        ignored = {0: 0, 1: 4, 2: 6, 3: 7}[invalidation["function_mask"]]
        return scope is not Scope.DEVICE or not (request["source_id"] ^ invalidation["source_id"]) & ~ignored
    if space is None or scope is Scope.GLOBAL:
        return True
    if space["domain_id"] != invalidation["domain_id"] % 16:
        return False
    if scope is Scope.PASID:
        return space["pasid"] == invalidation["pasid"]
    if scope is Scope.DOMAIN or (scope is Scope.PAGE_IN_DOMAIN and space["mode"] in FIRST):
        return True
    if scope is Scope.PAGE_IN_PASID and space["pasid"] != invalidation["pasid"]:
        return False
    size = 1 << max(18, invalidation["address_mask"])
    # Addresses are 57 bits wide and sign-extended: bits 62:57 tell nothing.
    pages = [(page % (1 << 45) | page >> 51 << 45) // size for page in (request["address"] >> 12, invalidation["page"])]
    return pages[0] == pages[1]


def test_against_the_rules(rng):
    dut = Overtake(CFG)
    seen = {True: 0, False: 0}

    async def testbench(ctx):
        for _ in range(4000):
            cache, scope = rng.choice(
                [("context", scope) for scope in (Scope.GLOBAL, Scope.DOMAIN, Scope.DEVICE)]
                + [("pasid_cache", scope) for scope in (Scope.GLOBAL, Scope.DOMAIN, Scope.PASID)]
                + [("iotlb", scope) for scope in Scope if scope is not Scope.DEVICE] * 2
            )
            fields = {
                cache: 1,
                "scope": scope,
                "domain_id": rng.choice([1, 2, 0x11]),
                "source_id": rng.choice(SOURCE_IDS),
                "function_mask": rng.randrange(4),
                "pasid": rng.choice([0, 7]),
                "page": rng.choice(PAGES),
                "address_mask": rng.choice([0, 9, 18, 19, 40, 52, 63]),
            }
            walk = {"source_id": rng.choice(SOURCE_IDS), "address": rng.choice(PAGES) << 12 | rng.getrandbits(12)}
            where = {
                "domain_id": rng.choice([1, 2]),
                "pasid": rng.choice([0, 7]),
                "mode": rng.choice([*TranslationMode]),
            }
            is_known = rng.random() < 0.8
            for signal, value in ((dut.invalidation, fields), (dut.request, walk), (dut.space, where)):
                ctx.set(Value.cast(signal), signal.shape().const(value).as_bits())
            ctx.set(dut.known, is_known)
            await ctx.tick().repeat(2)
            expected = covers(fields, walk, where if is_known else None)
            assert ctx.get(dut.covered) == expected, (fields, walk, where if is_known else None)
            seen[expected] += 1

    simulate(dut, testbench)
    assert min(seen.values()) > 500
