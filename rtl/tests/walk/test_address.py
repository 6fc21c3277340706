"""Indices, leaf sizes and addresses within leaves (§2.9)."""

from amaranth.hdl import Cat, Module, Signal

from nestwalk.bus.translation import PageSize
from nestwalk.walk.address import index, leaf_size, page_address
from rtl.tests.simulation import simulate

SIZES = {1: PageSize.SIZE_4K, 2: PageSize.SIZE_2M, 3: PageSize.SIZE_1G}


def test_against_arithmetic(rng):
    address, page, level = Signal(57), Signal(40), Signal(3)
    found_index, found_size, found_address = Signal(9), Signal(2), Signal(52)
    module = Module()
    module.d.comb += [
        found_index.eq(index(address, level)),
        found_size.eq(leaf_size(level)),
        found_address.eq(page_address(page, address, level)),
    ]

    async def testbench(ctx):
        for _ in range(300):
            a, p = rng.getrandbits(57), rng.getrandbits(40)
            ctx.set(Cat(address, page), a | p << 57)
            for n in range(1, 6):
                ctx.set(level, n)
                shift = 3 + 9 * n
                assert ctx.get(found_index) == (a >> shift) % 512
                if n in SIZES:
                    assert ctx.get(found_size) == SIZES[n].value
                    assert ctx.get(found_address) == (p << 12 >> shift << shift) + a % (1 << shift)

    simulate(module, testbench)
