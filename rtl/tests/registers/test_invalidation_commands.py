"""Register-based invalidation through the register file, as a driver in legacy mode asks for it (§1.7)."""

import pytest

from nestwalk.config import PRESETS, IommuConfig
from nestwalk.invalidation.command import Scope
from nestwalk.registers.file import RegisterFile
from rtl.tests.registers.csr import read, write
from rtl.tests.simulation import simulate

CFG = PRESETS["DEFAULT"].replace(domain_bits=12)
GLOBAL, DOMAIN, NARROW = 1, 2, 3
LEGACY = 0


class Caches:
    """Takes invalidations, one after the other, and tells when what was in flight has left.

    ``taken`` are their payloads.
    """

    def __init__(self, dut: RegisterFile, rng):
        self.dut, self.rng = dut, rng
        self.taken = []

    async def run(self, ctx):
        port = self.dut.invalidations
        ctx.set(self.dut.drained, 1)
        while True:
            while not ctx.get(port.valid):
                await ctx.tick()
            payload = ctx.get(port.payload)
            await ctx.tick().repeat(self.rng.randrange(1, 20))
            ctx.set(port.ready, 1)
            await ctx.tick()
            ctx.set(port.ready, 0)
            ctx.set(self.dut.drained, 0)
            self.taken.append(payload)
            await ctx.tick().repeat(self.rng.randrange(1, 20))
            ctx.set(self.dut.drained, 1)
            await ctx.tick()


def wanted_context(command: dict[str, int]) -> dict[str, int]:
    """What CCMD asks the caches for."""
    scopes = {GLOBAL: Scope.GLOBAL, DOMAIN: Scope.DOMAIN, NARROW: Scope.DEVICE}
    wanted = {"context": 1, "pasid_cache": 0, "iotlb": 0, "scope": scopes[command["CIRG"]]}
    if command["CIRG"] != GLOBAL:
        wanted["domain_id"] = command["DID"] & 0xFFF
    if command["CIRG"] == NARROW:
        wanted |= {"source_id": command["SID"], "function_mask": command["FM"]}
    return wanted


def wanted_iotlb(command: dict[str, int], address: dict[str, int]) -> dict[str, int]:
    """What IOTLB and IVA ask the caches for."""
    scopes = {GLOBAL: Scope.GLOBAL, DOMAIN: Scope.DOMAIN, NARROW: Scope.PAGE_IN_DOMAIN}
    wanted = {"context": 0, "pasid_cache": 0, "iotlb": 1, "scope": scopes[command["IIRG"]]}
    if command["IIRG"] != GLOBAL:
        wanted["domain_id"] = command["DID"] & 0xFFF
    if command["IIRG"] == NARROW:
        page = address["ADDR"] & (1 << CFG.mgaw - 12) - 1
        wanted |= {"page": page, "address_mask": address["AM"], "hint": address["IH"]}
    return wanted


class Driver:
    """Gives random commands and waits for each."""

    def __init__(self, dut: RegisterFile, rng, caches: Caches):
        self.dut, self.rng, self.caches = dut, rng, caches
        self.granularities: set[tuple[str, int]] = set()

    async def set_mode(self, ctx, mode: int):
        await write(ctx, self.dut.csr, "RTADDR", TTM=mode)
        await write(ctx, self.dut.csr, "GCMD", SRTP=1)
        while not (await read(ctx, self.dut.csr, "GSTS"))["RTPS"]:
            pass
        await ctx.tick().repeat(30)

    async def context(self, ctx) -> tuple[int, dict[str, int]]:
        """A context command; its granularity as done, and what it asks for."""
        rng = self.rng
        command = {"CIRG": rng.randrange(4), "FM": rng.randrange(4)}
        command |= {"SID": rng.getrandbits(16), "DID": rng.getrandbits(16)}
        await write(ctx, self.dut.csr, "CCMD", ICC=1, **command)
        status = {"ICC": 1}
        while status["ICC"]:
            status = await read(ctx, self.dut.csr, "CCMD")
            assert (status["CIRG"], status["DID"], status["SID"]) == (command["CIRG"], command["DID"], 0)
        self.granularities.add(("CCMD", status["CAIG"]))
        return status["CAIG"], command

    async def iotlb(self, ctx) -> tuple[int, dict[str, int], dict[str, int]]:
        """An IOTLB command likewise, and its address."""
        rng = self.rng
        address = {"ADDR": rng.getrandbits(52), "IH": rng.randrange(2), "AM": rng.randrange(24)}
        command = {"IIRG": rng.randrange(4), "DID": rng.getrandbits(16), "DR": rng.randrange(2), "DW": rng.randrange(2)}
        await write(ctx, self.dut.csr, "IVA", **address)
        await write(ctx, self.dut.csr, "IOTLB", IVT=1, **command)
        status = {"IVT": 1}
        while status["IVT"]:
            status = await read(ctx, self.dut.csr, "IOTLB")
        assert {name: status[name] for name in command} == command
        self.granularities.add(("IOTLB", status["IAIG"]))
        return status["IAIG"], command, address


def run(cfg: IommuConfig, rng, story) -> Driver:
    dut = RegisterFile(cfg)
    driver = Driver(dut, rng, Caches(dut, rng))

    async def testbench(ctx):
        await story(ctx, driver)

    simulate(dut, testbench, background=(driver.caches.run,), limit=400_000)
    return driver


def test_random_commands_in_legacy_mode(rng):
    """Each ends when it is done and drained, in the granularity asked for, or at once with none."""

    async def story(ctx, driver: Driver):
        for _ in range(200):
            driver.caches.taken.clear()
            if rng.random() < 0.5:
                done, command = await driver.context(ctx)
                legal = command["CIRG"] != 0
                wanted = wanted_context(command) if legal else {}
                asked = command["CIRG"]
            else:
                done, command, address = await driver.iotlb(ctx)
                legal = command["IIRG"] != 0 and (command["IIRG"] != NARROW or address["AM"] <= CFG.max_address_mask)
                wanted = wanted_iotlb(command, address) if legal else {}
                asked = command["IIRG"]
            assert ctx.get(driver.dut.drained)
            assert done == (asked if legal else 0)
            assert len(driver.caches.taken) == legal
            assert {name: getattr(driver.caches.taken[0], name) for name in wanted} == wanted

    driver = run(CFG, rng, story)
    assert driver.granularities == {(name, done) for name in ("CCMD", "IOTLB") for done in range(4)}


@pytest.mark.parametrize("mode", [1, 2, 3])
def test_only_legacy_mode_has_it(mode: int, rng):
    async def story(ctx, driver: Driver):
        await driver.set_mode(ctx, mode)
        driver.caches.taken.clear()
        for _ in range(10):
            assert (await driver.context(ctx))[0] == 0
            assert (await driver.iotlb(ctx))[0] == 0
        assert driver.caches.taken == []
        await driver.set_mode(ctx, LEGACY)
        assert {(await driver.context(ctx))[0] for _ in range(20)} > {0}

    run(CFG, rng, story)


def test_later_versions_do_not_have_it(rng):
    async def story(ctx, driver: Driver):
        for _ in range(10):
            assert (await driver.context(ctx))[0] == 0
            assert (await driver.iotlb(ctx))[0] == 0
        assert driver.caches.taken == []
        await driver.set_mode(ctx, LEGACY)
        assert len(driver.caches.taken) == 1, "what SRTP does"

    run(CFG.replace(version_major=6), rng, story)


def test_both_commands_and_a_global_one_at_once(rng):
    """Software may not, and nothing gets lost."""

    async def story(ctx, driver: Driver):
        csr = driver.dut.csr
        await write(ctx, csr, "IOTLB", IVT=1, IIRG=GLOBAL)
        await write(ctx, csr, "CCMD", ICC=1, CIRG=GLOBAL)
        await write(ctx, csr, "GCMD", SRTP=1)
        while (await read(ctx, csr, "CCMD"))["ICC"] or (await read(ctx, csr, "IOTLB"))["IVT"]:
            pass
        while not (await read(ctx, csr, "GSTS"))["RTPS"]:
            pass
        assert sorted((taken.context, taken.iotlb) for taken in driver.caches.taken) == [(0, 1), (1, 0), (1, 1)]

    run(CFG, rng, story)
