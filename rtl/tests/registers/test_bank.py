# amaranth: UnusedElaboratable=no
"""Random accesses to the register bank against registers kept in Python."""

import pytest

from nestwalk.config import PRESETS
from nestwalk.registers.bank import RegisterBank
from nestwalk.registers.capability import is_announced
from nestwalk.registers.description import Attribute
from nestwalk.registers.table import FAULT_RECORD_OFFSET, REGISTERS
from rtl.tests.registers.csr import access_read, access_write
from rtl.tests.simulation import simulate


class Reference:
    """Every announced field's value by (register, field), and what accesses do to them."""

    def __init__(self, cfg):
        self.fields = {
            (register.name, field.name): field
            for register in REGISTERS.values()
            for field in register.fields
            if not register.array and is_announced(cfg, field)
        }
        self.values = {place: field.reset for place, field in self.fields.items()}
        self.lockable = sorted({name for name, _ in self.fields if REGISTERS[name].lockable})
        self.locked = set()
        self.started = 0

    def _shift(self, place):
        return 8 * (REGISTERS[place[0]].offset % 8) + self.fields[place].low

    def in_word(self, word):
        return [place for place in self.fields if REGISTERS[place[0]].offset // 8 == word]

    def read(self, word) -> int:
        readable = [place for place in self.in_word(word) if self.fields[place].attribute is not Attribute.WO]
        return sum(self.values[place] << self._shift(place) for place in readable)

    def write(self, word, data, strobe):
        mask = sum(0xFF << 8 * byte for byte in range(8) if strobe >> byte & 1)
        for place in self.in_word(word):
            if place[0] in self.locked:
                continue
            field = self.fields[place]
            self.started += field.starts and strobe >> self._shift(place) // 8 & 1
            ones = (1 << field.width) - 1
            new, enabled = data >> self._shift(place) & ones, mask >> self._shift(place) & ones
            if field.attribute in (Attribute.RW1C, Attribute.RW1CS):
                self.values[place] &= ~(new & enabled)
            elif field.self_clearing:
                self.values[place] |= new & enabled
            elif field.attribute in (Attribute.RW, Attribute.WO):
                self.values[place] = self.values[place] & ~enabled | new & enabled


def port(dut, place, suffix=""):
    return getattr(getattr(dut, place[0].lower()), place[1].lower() + suffix)


@pytest.mark.parametrize("preset", ["DEFAULT", "FULL", "TINY"])
def test_random_accesses(preset, rng):
    cfg = PRESETS[preset]
    dut = RegisterBank(cfg)
    reference = Reference(cfg)
    words = sorted({REGISTERS[name].offset // 8 for name, _ in reference.fields})
    starting = [port(dut, place, "_written") for place, field in reference.fields.items() if field.starts]
    started = [0]
    finished = []

    async def hardware_event(ctx):
        """The hardware sets a status, ends a command, shows another value, or locks or unlocks a register."""
        if reference.lockable and rng.random() < 0.2:
            name = rng.choice(reference.lockable)
            reference.locked ^= {name}
            ctx.set(getattr(dut, name.lower()).locked, name in reference.locked)
        place = rng.choice(list(reference.fields))
        field = reference.fields[place]
        if field.attribute in (Attribute.RO, Attribute.ROS):
            reference.values[place] = rng.getrandbits(field.width)
            ctx.set(port(dut, place), reference.values[place])
        elif field.hardware:
            reference.values[place] = rng.getrandbits(field.width)
            ctx.set(port(dut, place, "_next"), reference.values[place])
            ctx.set(port(dut, place, "_change"), 1)
            await ctx.tick()
            ctx.set(port(dut, place, "_change"), 0)
        elif field.self_clearing or field.attribute is Attribute.RW1CS:
            trigger = port(dut, place, "_done" if field.self_clearing else "_set")
            ctx.set(trigger, 1)
            await ctx.tick()
            ctx.set(trigger, 0)
            reference.values[place] = 0 if field.self_clearing else 1

    async def count_starts(ctx):
        while starting:
            for signal in starting:
                started[0] += ctx.get(signal)
            await ctx.tick()

    async def testbench(ctx):
        for _ in range(2500):
            word = rng.choice(words) if rng.randrange(8) else rng.randrange(FAULT_RECORD_OFFSET // 8)
            match rng.randrange(3):
                case 0:
                    await hardware_event(ctx)
                case 1:
                    data, strobe = rng.getrandbits(64), rng.choice([0xFF, 0x0F, 0xF0, rng.randrange(256)])
                    await access_write(ctx, dut.csr, 8 * word, data, strobe)
                    reference.write(word, data, strobe)
                case 2:
                    assert await access_read(ctx, dut.csr, 8 * word) == reference.read(word), hex(8 * word)
            for place, field in reference.fields.items():
                if field.attribute.stored:
                    assert ctx.get(port(dut, place)) == reference.values[place], place
        finished.append(True)

    simulate(dut, testbench, background=(count_starts,))
    assert finished
    assert started[0] == reference.started
    assert (reference.started > 0) == bool(starting)


def test_setting_wins_over_clearing_and_a_new_command_over_the_end_of_the_old():
    """The hardware's pulse comes in the one cycle in which the write takes effect."""
    dut = RegisterBank(PRESETS["TINY"])
    seen = []

    async def write_with_pulse(ctx, place, pulse):
        register = REGISTERS[place[0]]
        shift = 8 * (register.offset % 8)
        csr = dut.csr
        ctx.set(csr.awaddr, register.offset)
        ctx.set(csr.wdata, register.pack({place[1]: 1}) << shift)
        ctx.set(csr.wstrb, 0xF << shift // 8)
        ctx.set(csr.bready, 1)
        ctx.set(csr.awvalid, 1)
        ctx.set(csr.wvalid, 1)
        await ctx.tick().until(csr.awready)
        ctx.set(csr.awvalid, 0)
        ctx.set(csr.wvalid, 0)
        ctx.set(pulse, 1)
        await ctx.tick()
        ctx.set(pulse, 0)
        await ctx.tick().until(csr.bvalid)
        seen.append(ctx.get(port(dut, place)))

    async def testbench(ctx):
        for place, suffix in ((("FSTS", "IQE"), "_set"), (("GCMD", "SRTP"), "_done")):
            for _ in range(2):
                await write_with_pulse(ctx, place, port(dut, place, suffix))

    simulate(dut, testbench)
    assert seen == [1, 1, 1, 1]


def test_reads_and_writes_take_turns():
    """Neither a stream of writes nor one of reads keeps the other waiting."""
    dut = RegisterBank(PRESETS["TINY"])
    counts = {"read": 0, "write": 0}

    async def testbench(ctx):
        csr = dut.csr
        for signal in (csr.arvalid, csr.awvalid, csr.wvalid, csr.rready, csr.bready):
            ctx.set(signal, 1)
        for _ in range(200):
            _, _, read, written = await ctx.tick().sample(csr.rvalid, csr.bvalid)
            counts["read"] += read
            counts["write"] += written

    simulate(dut, testbench)
    assert counts["read"] >= 25
    assert abs(counts["read"] - counts["write"]) <= 1


@pytest.mark.parametrize(("preset", "most"), [("DEFAULT", 48), ("TINY", 112)])
def test_fault_records_end_before_the_registers_behind_them(preset, most):
    cfg = PRESETS[preset]
    assert RegisterBank(cfg.replace(fault_records=most))
    with pytest.raises(ValueError, match=f"{most + 1} fault records do not fit"):
        RegisterBank(cfg.replace(fault_records=most + 1))
