"""`LineWorth`: lines are brought while they are of use, and tried now and then when they are not."""

from nestwalk.walk.line_worth import LineWorth
from rtl.tests.simulation import simulate


def test_lines_are_brought_while_they_are_of_use():
    dut = LineWorth()

    async def look_up(ctx, times: int, *, useful: bool) -> int:
        """How many of the look-ups bring a line; each line is hit once, if ``useful``."""
        brought = 0
        for _ in range(times):
            ctx.set(dut.looked_up, 1)
            brings = ctx.get(dut.brings)
            brought += brings
            await ctx.tick()
            ctx.set(dut.looked_up, 0)
            ctx.set(dut.brought, brings)
            await ctx.tick()
            ctx.set(dut.brought, 0)
            ctx.set(dut.found, useful and brings)
            await ctx.tick()
            ctx.set(dut.found, 0)
        return brought

    async def testbench(ctx):
        assert await look_up(ctx, 160, useful=False) == 10
        assert await look_up(ctx, 160, useful=True) >= 144
        assert await look_up(ctx, 160, useful=False) <= 32 + 10

    simulate(dut, testbench)
