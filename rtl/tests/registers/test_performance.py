"""Performance monitoring through the register file: what is counted, and the commands that say what (§1.15, §1.16)."""

from nestwalk.config import PRESETS
from nestwalk.registers.file import RegisterFile
from nestwalk.registers.table import REGISTERS
from rtl.tests.registers.csr import access_read, access_write, read, write
from rtl.tests.simulation import simulate

CFG = PRESETS["DEFAULT"].replace(performance_counter_bits=10)
ENABLE, DISABLE, FREEZE, UNFREEZE = 240, 241, 244, 245
UNDEFINED, ABORTED, REFUSED = 1, 2, 16
PLACES = {"requested": (0, 1), "memory_read": (1, 0), "page_requests": (1, 6), "lookups": (3, 0), "hits": (3, 1)}
MESSAGE, DATA = 0xFEE0_4000, 0x44


class World:
    """Lets things happen at random, and counts them as two counters would.

    ``selected`` are the events that each counter counts now, ``totals`` what it has counted.
    """

    def __init__(self, dut: RegisterFile, rng):
        self.dut, self.rng = dut, rng
        self.rate = 0.5
        self.selected: list[set[tuple[int, int]]] = [set(), set()]
        self.totals = [0, 0]
        self.messages: list[tuple[int, int]] = []

    def signals(self) -> dict[str, object]:
        dut = self.dut
        counted = {"lookups": dut.counted.iotlb_lookups, "hits": dut.counted.iotlb_2m_hits}
        return {
            "requested": dut.requested,
            "memory_read": dut.memory_read,
            "page_requests": dut.page_requests.queued,
        } | counted

    async def run(self, ctx):
        while True:
            for name, signal in self.signals().items():
                happens = self.rng.random() < self.rate
                ctx.set(signal, happens)
                for counter, places in enumerate(self.selected):
                    self.totals[counter] += happens and PLACES[name] in places
            for counter, places in enumerate(self.selected):
                self.totals[counter] += (0, 0) in places
            await ctx.tick()

    async def memory(self, ctx):
        request, done = self.dut.event_write.request, self.dut.event_write.done
        while True:
            while not ctx.get(request.valid):
                await ctx.tick()
            payload = ctx.get(request.payload)
            self.messages.append((payload.address, payload.data & 0xFFFF_FFFF))
            ctx.set(request.ready, 1)
            await ctx.tick()
            ctx.set(request.ready, 0)
            ctx.set(done.valid, 1)
            await ctx.tick()
            ctx.set(done.valid, 0)


async def command(ctx, dut, number: int, operand: int = 0) -> int:
    """Give an enhanced command; its status."""
    await write(ctx, dut.csr, "ECMD", CMD=number, OA=operand)
    while (response := await read(ctx, dut.csr, "ECRSP"))["IP"]:
        assert response["SC"] == 0
    return response["SC"]


async def configure(ctx, dut, counter: int, group: int, events: int, *, interrupt: bool = False) -> int:
    await write(ctx, dut.csr, f"CNTRCFG{counter}", ES=events, EGI=group, IO=interrupt)
    return await command(ctx, dut, ENABLE, counter)


async def value(ctx, dut, counter: int) -> int:
    return await access_read(ctx, dut.csr, REGISTERS["CNTR"].place(counter))


def run(rng, story, cfg=CFG) -> World:
    dut = RegisterFile(cfg)
    world = World(dut, rng)

    async def testbench(ctx):
        await story(ctx, dut, world)

    simulate(dut, testbench, background=(world.run, world.memory), limit=400_000)
    return world


def test_counters_count_what_is_selected(rng):
    """Nothing of the time before and after, and both of two events in one cycle; without clocks, which always pass."""

    async def story(ctx, dut, world):
        world.rate = 0.0
        before = [0, 0]
        for _ in range(25):
            chosen = []
            for counter in range(2):
                group, events = rng.choice(((0, 2), (1, 1), (1, 1 << 6), (1, 1 | 1 << 6), (3, 1), (3, 2), (3, 3)))
                assert await configure(ctx, dut, counter, group, events) == 0
                chosen.append({(group, bit) for bit in range(28) if events >> bit & 1})
            world.totals[:] = [0, 0]
            # Nothing happens around the moment in which they begin to count, and in which they end.
            world.selected[:] = chosen
            world.rate = rng.choice((0.1, 0.5, 1.0))
            await ctx.tick().repeat(rng.randrange(1, 200))
            world.rate = 0.0
            await ctx.tick().repeat(4)
            world.selected[:] = [set(), set()]
            if rng.random() < 0.5:
                assert await command(ctx, dut, FREEZE) == 0
                assert (await read(ctx, dut.csr, "FRZSTS"))["FRZ"] == 3
                world.rate = 1.0
                await ctx.tick().repeat(20)
                world.rate = 0.0
                await ctx.tick().repeat(4)
                assert [await command(ctx, dut, DISABLE, counter) for counter in range(2)] == [0, 0]
                assert await command(ctx, dut, UNFREEZE) == 0
            else:
                assert [await command(ctx, dut, DISABLE, counter) for counter in range(2)] == [0, 0]
            now = [await value(ctx, dut, counter) for counter in range(2)]
            assert now == [(old + total) % 1024 for old, total in zip(before, world.totals, strict=True)]
            before = now

    run(rng, story)


def test_clocks_are_counted_while_enabled(rng):
    async def story(ctx, dut, world):
        world.rate = 0.0
        assert await configure(ctx, dut, 1, 0, 1) == 0
        values = []
        for _ in range(5):
            assert await command(ctx, dut, FREEZE) == 0
            values.append(await value(ctx, dut, 1))
            assert await value(ctx, dut, 1) == values[-1]
            assert await command(ctx, dut, UNFREEZE) == 0
            await ctx.tick().repeat(100)
        steps = [after - before for before, after in zip(values, values[1:], strict=False)]
        assert max(steps) - min(steps) <= 64, "a command ends with a turn of the counters"
        assert min(steps) >= 100
        assert await value(ctx, dut, 0) == 0

    run(rng, story, CFG.replace(performance_counter_bits=48))


def test_what_cannot_be_is_refused(rng):
    possible = {0: 3, 1: 1 | 1 << 6, 3: 3}
    seen = {0: 0, REFUSED: 0}

    async def story(ctx, dut, world):
        for _ in range(80):
            counter, group = rng.randrange(2), rng.randrange(16) if rng.random() < 0.3 else rng.randrange(4)
            events = rng.choice((0, 1, 2, 3, 64, 65, 66, 1 << rng.randrange(28)))
            freezing = rng.random() < 0.1
            configuration = {"ES": events, "EGI": group, "GFO": freezing, "IO": 0}
            await write(ctx, dut.csr, f"CNTRCFG{counter}", **configuration)
            good = group in possible and not events & ~possible[group] and not freezing
            operand = counter if rng.random() < 0.9 else rng.choice((2, 3, 1 << 15, rng.randrange(2, 1 << 16)))
            status = await command(ctx, dut, ENABLE, operand)
            assert status == (0 if good and operand == counter else REFUSED)
            seen[status] += 1
            # While it is enabled, its configuration is locked.
            await write(ctx, dut.csr, f"CNTRCFG{counter}", ES=7, EGI=7, IO=1)
            held = configuration if status == 0 else {"ES": 7, "EGI": 7, "GFO": 0, "IO": 1}
            assert await read(ctx, dut.csr, f"CNTRCFG{counter}") == held | {"EN": status == 0}
            assert await command(ctx, dut, DISABLE, counter) == 0
        assert await command(ctx, dut, DISABLE, 2) == REFUSED
        for number in (0, 1, 239, 242, 243, 246, 255):
            assert await command(ctx, dut, number) == UNDEFINED

    run(rng, story)
    assert min(seen.values()) > 10


def test_a_global_command_under_way_aborts(rng):
    async def story(ctx, dut, world):
        await write(ctx, dut.csr, "GCMD", SRTP=1)  # nobody takes the invalidation
        assert await command(ctx, dut, FREEZE) == ABORTED
        ctx.set(dut.invalidations.ready, 1)
        await ctx.tick().repeat(5)
        assert await command(ctx, dut, FREEZE) == 0
        await write(ctx, dut.csr, "GCMD", QIE=1)  # nobody follows
        assert await command(ctx, dut, UNFREEZE) == ABORTED
        assert (await read(ctx, dut.csr, "FRZSTS"))["FRZ"] == 3
        ctx.set(dut.queue.enabled, 1)
        assert await command(ctx, dut, UNFREEZE) == 0

    run(rng, story)


def test_writes_while_a_command_is_in_progress_are_dropped(rng):
    async def story(ctx, dut, world):
        await write(ctx, dut.csr, "ECMD", CMD=FREEZE)
        await write(ctx, dut.csr, "ECMD", CMD=0)
        while (response := await read(ctx, dut.csr, "ECRSP"))["IP"]:
            pass
        assert response["SC"] == 0
        # The upper half starts nothing.
        await access_write(ctx, dut.csr, REGISTERS["ECMD"].offset, 0, 0xF0)
        assert await read(ctx, dut.csr, "ECRSP") == {"IP": 0, "SC": 0}
        await access_write(ctx, dut.csr, REGISTERS["ECMD"].offset, 7 << 16 | ENABLE, 0x0F)
        assert (await read(ctx, dut.csr, "ECRSP"))["SC"] in (0, REFUSED)
        assert await command(ctx, dut, ENABLE, 7) == REFUSED

    run(rng, story)


def test_overflow_interrupts_once_until_it_is_served(rng):
    async def story(ctx, dut, world):
        world.rate = 0.0
        await write(ctx, dut.csr, "PERFINTRADDR", MA=MESSAGE >> 2)
        await write(ctx, dut.csr, "PERFINTRDATA", IMD=DATA)
        assert await read(ctx, dut.csr, "PERFINTRCTL") == {"IM": 1, "IP": 0}
        await write(ctx, dut.csr, "PERFINTRCTL", IM=0)
        assert await configure(ctx, dut, 0, 0, 2, interrupt=True) == 0
        assert await configure(ctx, dut, 1, 0, 2) == 0
        for round_ in range(3):
            world.rate = 1.0
            await ctx.tick().repeat(1024)
            world.rate = 0.0
            await ctx.tick().repeat(200)
            assert await read(ctx, dut.csr, "OVFSTS") == {"OVF0": 1, "OVF1": 1}
            assert (await read(ctx, dut.csr, "PERFINTRSTS"))["PIS"] == 1
            assert world.messages == [(MESSAGE, DATA)] * (round_ + 1)
            world.rate = 1.0
            await ctx.tick().repeat(1024)
            world.rate = 0.0
            await ctx.tick().repeat(200)
            assert len(world.messages) == round_ + 1, "PIS has not been cleared"
            await write(ctx, dut.csr, "OVFSTS", OVF0=1)
            assert await read(ctx, dut.csr, "OVFSTS") == {"OVF0": 0, "OVF1": 1}
            await write(ctx, dut.csr, "OVFSTS", OVF1=1)
            await write(ctx, dut.csr, "PERFINTRSTS", PIS=1)
            assert (await read(ctx, dut.csr, "PERFINTRSTS"))["PIS"] == 0
        # The other counter does not ask for an interrupt.
        assert await command(ctx, dut, DISABLE, 0) == 0
        world.rate = 1.0
        await ctx.tick().repeat(1100)
        assert await read(ctx, dut.csr, "OVFSTS") == {"OVF0": 0, "OVF1": 1}
        assert (await read(ctx, dut.csr, "PERFINTRSTS"))["PIS"] == 0

    world = run(rng, story)
    assert len(world.messages) == 3
