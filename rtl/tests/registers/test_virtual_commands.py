"""Virtual commands through the register file, as a guest's driver gives them (§1.18)."""

import pytest

from nestwalk.config import PRESETS
from nestwalk.registers.file import RegisterFile
from nestwalk.registers.table import REGISTERS
from rtl.tests.registers.csr import access_write, read, write
from rtl.tests.simulation import simulate

ALLOCATE, FREE = 1, 2
UNDEFINED, REFUSED = 1, 16
WORD = 32
VCMD = REGISTERS["VCMD"].offset


def unit(pasids: int) -> RegisterFile:
    return RegisterFile(PRESETS["TINY"].replace(virtual_command_pasids=pasids))


async def finished(ctx, dut) -> dict[str, int]:
    """The response, once the command is over."""
    while (response := await read(ctx, dut.csr, "VCRSP"))["IP"]:
        assert response["SC"] == response["RSLT"] == 0
    return response


async def command(ctx, dut, number: int, pasid: int = 0, junk: int = 0) -> tuple[int, int]:
    """Give a command; its status and its result."""
    await write(ctx, dut.csr, "VCMD", CMD=number, OA=pasid | junk << 20)
    response = await finished(ctx, dut)
    return response["SC"], response["RSLT"]


@pytest.mark.parametrize("pasids", [64, 256])
def test_random_commands(pasids: int, rng):
    """What is given out is free, what is taken back was given out, and all but PASID 0 can be had at once."""
    dut = unit(pasids)
    out: set[int] = set()
    counts = {"allocated": 0, "freed": 0, "none left": 0, "invalid": 0, "undefined": 0}

    async def testbench(ctx):
        eager = 0.9
        for _ in range(12 * pasids):
            if rng.random() < 0.02:
                eager = rng.choice((0.1, 0.5, 0.9))
            if rng.random() < 0.05:
                number = rng.choice((0, *range(3, 256)))
                assert await command(ctx, dut, number, rng.getrandbits(20)) == (UNDEFINED, 0)
                counts["undefined"] += 1
            elif rng.random() < eager:
                status, pasid = await command(ctx, dut, ALLOCATE, rng.getrandbits(20))
                assert status == (REFUSED if len(out) == pasids - 1 else 0)
                assert (status == 0) == (0 < pasid < pasids and pasid not in out)
                counts["none left" if status else "allocated"] += 1
                out.update({pasid} - {0})
            else:
                anything = rng.choice((0, pasids, rng.getrandbits(20), rng.randrange(pasids)))
                pasid = rng.choice(sorted(out)) if out and rng.random() < 0.7 else anything
                status, result = await command(ctx, dut, FREE, pasid, rng.getrandbits(28))
                assert (status, result) == (0 if pasid in out else REFUSED, 0)
                counts["invalid" if status else "freed"] += 1
                out.discard(pasid)

    simulate(dut, testbench, limit=3_000_000)
    assert min(counts.values()) > 10, counts


def test_an_allocation_takes_bounded_time():
    """The worst case: all but one are out, and it is in the word before the one to begin with."""
    pasids = 256
    dut = unit(pasids)
    taken = []

    async def testbench(ctx):
        for pasid in range(1, pasids):
            assert await command(ctx, dut, ALLOCATE) == (0, pasid)
        await write(ctx, dut.csr, "VCMD", CMD=FREE, OA=pasids - 1 - WORD)
        await finished(ctx, dut)
        await write(ctx, dut.csr, "VCMD", CMD=ALLOCATE)
        await ctx.tick().repeat(3 * pasids // WORD + 6)
        taken.append(await read(ctx, dut.csr, "VCRSP"))

    simulate(dut, testbench)
    assert taken == [{"IP": 0, "SC": 0, "RSLT": pasids - 1 - WORD}]


def test_writes_while_a_command_is_in_progress_are_dropped():
    dut = unit(1 << 12)
    seen = []

    async def testbench(ctx):
        await write(ctx, dut.csr, "VCMD", CMD=ALLOCATE, OA=7)  # waits until the bitmap is cleared
        await write(ctx, dut.csr, "VCMD", CMD=FREE, OA=1)
        await write(ctx, dut.csr, "VCMD_EO", OB=5)
        seen.append(await read(ctx, dut.csr, "VCMD"))
        seen.append(await read(ctx, dut.csr, "VCRSP"))
        seen.append(await finished(ctx, dut))
        await write(ctx, dut.csr, "VCMD_EO", OB=5)
        seen.append(await read(ctx, dut.csr, "VCMD_EO"))

    simulate(dut, testbench)
    response = {"SC": 0, "RSLT": 0}
    assert seen == [{"CMD": ALLOCATE, "OA": 7}, response | {"IP": 1}, {"IP": 0, "SC": 0, "RSLT": 1}, {"OB": 5}]


def test_the_upper_half_may_be_written_first_and_starts_nothing():
    dut = unit(64)
    seen = []

    async def testbench(ctx):
        for _ in range(5):
            await command(ctx, dut, ALLOCATE)
        before = await read(ctx, dut.csr, "VCRSP")
        await access_write(ctx, dut.csr, VCMD, 0xABCD_0000 << 32, 0xF0)
        assert await read(ctx, dut.csr, "VCRSP") == before
        await access_write(ctx, dut.csr, VCMD, 3 << 16 | FREE, 0x0F)
        seen.append(await finished(ctx, dut))
        await access_write(ctx, dut.csr, VCMD, 0, 0xF0)
        await access_write(ctx, dut.csr, VCMD, 3 << 16 | FREE, 0x0F)
        seen.append(await finished(ctx, dut))

    simulate(dut, testbench)
    assert [response["SC"] for response in seen] == [0, REFUSED], "bits above 35 mean nothing"


def test_capabilities_follow_the_configuration():
    seen = []

    for pasids in (0, 64):
        dut = unit(pasids)

        async def testbench(ctx, dut=dut):
            seen.append(await read(ctx, dut.csr, "VCCAP"))
            seen.append((await read(ctx, dut.csr, "ECAP"))["VCS"])

        simulate(dut, testbench)
    assert seen == [{"FPS": 0, "PAS": 0, "NS": 0}, 0, {"FPS": 1, "PAS": 1, "NS": 0}, 1]
    with pytest.raises(ValueError, match="power of two of at least 64, not 100"):
        unit(100)
    with pytest.raises(ValueError, match="do not fit 20 pasid_bits"):
        unit(1 << 21)
