"""The fault log against the logging rules of §1.8.1 written in Python."""

from itertools import pairwise

import pytest

from nestwalk.config import PRESETS
from nestwalk.events.fault_log import FaultLog
from nestwalk.formats.fault import FaultReason
from rtl.tests.simulation import simulate

READ, WRITE, ATOMIC, ZERO_LENGTH_READ = range(4)
PAGE_REQUEST = 3
TYPES = {READ: (1, 0), ZERO_LENGTH_READ: (1, 0), WRITE: (0, 0), ATOMIC: (1, 1)}


def random_fault(rng) -> dict:
    return {
        "source_id": rng.getrandbits(16),
        "pasid_valid": rng.randrange(2),
        "pasid": rng.getrandbits(20),
        "privileged": rng.randrange(2),
        "execute": rng.randrange(2),
        "address_type": rng.randrange(4),
        "access": rng.randrange(4),
        "page": rng.getrandbits(52),
        "reason": rng.choice(list(FaultReason)),
    }


def recorded(fault: dict, cfg, address_width: int) -> dict:
    """The record of a fault, its F bit set (§1.8)."""
    pasid = fault["pasid_valid"]
    page_request = fault["address_type"] == PAGE_REQUEST and cfg.page_requests
    t1, t2 = (0, 1) if page_request else TYPES[fault["access"]]
    return {
        "fi": fault["page"] % (1 << address_width - 12),
        "sid": fault["source_id"],
        "t1": t1,
        "t2": t2,
        "at": fault["address_type"] if cfg.device_tlb and not page_request else 0,
        "pp": pasid,
        "pv": fault["pasid"] if pasid else 0,
        "priv": fault["privileged"] & pasid,
        "exe": fault["execute"] & pasid & (fault["access"] in (READ, ZERO_LENGTH_READ)),
        "fr": fault["reason"],
        "f": 1,
        "rsvd0": 0,
        "rsvd1": 0,
    }


class Reference:
    """Ring of records; ``overflow`` is PFO, which software clears."""

    def __init__(self, cfg, address_width):
        self.cfg, self.address_width = cfg, address_width
        self.records: list[dict | None] = [None] * cfg.fault_records
        self.index = self.first = 0
        self.overflow = False

    @property
    def pending(self) -> bool:
        return any(self.records)

    def log(self, fault: dict):
        if self.overflow:
            return
        if self.records[self.index]:
            self.overflow = True
            return
        if not self.pending:
            self.first = self.index
        self.records[self.index] = recorded(fault, self.cfg, self.address_width)
        self.index = (self.index + 1) % len(self.records)


async def log_fault(ctx, dut, fault: dict):
    """Send a fault and play FSTS.PFO, which the register file keeps."""
    ctx.set(dut.faults.payload, fault)
    ctx.set(dut.faults.valid, 1)
    *_, overflow_set = await ctx.tick().sample(dut.overflow_set).until(dut.faults.ready)
    ctx.set(dut.faults.valid, 0)
    if overflow_set:
        ctx.set(dut.overflow, 1)
    await ctx.tick()


async def read_record(ctx, dut, index: int) -> dict:
    ctx.set(dut.index, index)
    await ctx.tick()
    record = ctx.get(dut.record)
    return {name: record[name] for name in ("fi", "sid", "t1", "t2", "at", "pp", "pv", "priv", "exe", "fr", "f")} | {
        "rsvd0": record.rsvd0,
        "rsvd1": record.rsvd1,
    }


@pytest.mark.parametrize(("preset", "address_width"), [("DEFAULT", 57), ("TINY", 57), ("FORMAL", 48)])
def test_random_faults_with_overflow_and_recovery(preset, address_width, rng):
    cfg = PRESETS[preset]
    dut = FaultLog(cfg)
    reference = Reference(cfg, address_width)
    overflows = recoveries = rewinds = 0

    async def clear(ctx, index):
        ctx.set(dut.index, index)
        ctx.set(dut.clear, 1)
        await ctx.tick()
        ctx.set(dut.clear, 0)
        reference.records[index] = None

    async def testbench(ctx):
        nonlocal overflows, recoveries, rewinds
        for _ in range(600):
            match rng.randrange(8):
                case 0 | 1 | 2:
                    fault = random_fault(rng)
                    before = reference.overflow
                    await log_fault(ctx, dut, fault)
                    reference.log(fault)
                    overflows += reference.overflow and not before
                case 3:
                    await clear(ctx, rng.randrange(cfg.fault_records))
                case 4 if not rng.randrange(4):
                    # Software drains from FRI until a record is free, then clears PFO.
                    index = reference.first
                    while reference.records[index]:
                        await clear(ctx, index)
                        index = (index + 1) % cfg.fault_records
                    recoveries += reference.overflow
                    reference.overflow = False
                    ctx.set(dut.overflow, 0)
                case 5 if not rng.randrange(8):
                    ctx.set(dut.rewind, 1)
                    await ctx.tick()
                    ctx.set(dut.rewind, 0)
                    reference.index = 0
                    rewinds += 1
                case _:
                    index = rng.randrange(cfg.fault_records)
                    record = await read_record(ctx, dut, index)
                    if reference.records[index]:
                        assert record == reference.records[index]
                    else:
                        assert record["f"] == 0
            await ctx.tick()
            assert ctx.get(dut.pending) == reference.pending
            assert ctx.get(dut.overflow) == reference.overflow
            if reference.pending:
                assert ctx.get(dut.first) == reference.first

    simulate(dut, testbench)
    assert min(overflows, recoveries, rewinds) > 0


def test_a_storm_of_faults_is_taken_without_software(rng):
    """The log takes a fault at least every other cycle, full or not, and a record is whole when its F bit shows."""
    cfg = PRESETS["DEFAULT"]
    dut = FaultLog(cfg)
    fault = random_fault(rng) | {"page": 0x1234, "source_id": 0xABCD}
    taken = []
    torn = []

    async def source(ctx):
        ctx.set(dut.faults.payload, fault)
        ctx.set(dut.faults.valid, 1)
        for _ in range(60):
            _, _, ready, overflow_set = await ctx.tick().sample(dut.faults.ready, dut.overflow_set)
            taken.append(ready)
            if overflow_set:
                ctx.set(dut.overflow, 1)

    async def reader(ctx):
        for cycle in range(60):
            ctx.set(dut.index, cycle % cfg.fault_records)
            await ctx.tick()
            record = ctx.get(dut.record)
            if record.f and (record.fi, record.sid) != (0x1234, 0xABCD):
                torn.append(cycle)

    simulate(dut, source, reader)
    assert torn == []
    assert all(now or then for now, then in pairwise(taken))
