"""`StructureReader`: pieces of several structures, with pauses, become events in the order of the reads."""

from nestwalk.bus.axi import AxiResponse
from nestwalk.config import preset
from nestwalk.walk.state import StructureKind
from nestwalk.walk.structures import STRUCTURE_SIZES, StructureReader
from nestwalk_sim.builders import encode
from nestwalk_sim.model import Structure, model_preset
from nestwalk_sim.model import structures as model
from nestwalk_sim.model.fault_conditions import TranslationFault
from rtl.tests.simulation import simulate

CFG = preset("DEFAULT").replace(walk_slots=4)
MODEL = model_preset("DEFAULT")
SANE = {
    StructureKind.ROOT: encode(Structure.SCALABLE_ROOT, LP=1, UP=1, LCTP=0x1000, UCTP=0x2000),
    StructureKind.LEGACY_ROOT: encode(Structure.LEGACY_ROOT, P=1, CTP=0x3000),
    StructureKind.CONTEXT: encode(Structure.SCALABLE_CONTEXT, P=1, PASIDDIRPTR=0x4000, PDTS=2, RID_PASID=9, PASIDE=1),
    StructureKind.LEGACY_CONTEXT: encode(Structure.LEGACY_CONTEXT, P=1, TT=0, AW=2, SSPTPTR=0x5000, DID=7),
    StructureKind.DIRECTORY: encode(Structure.PASID_DIRECTORY, P=1, SMPTBLPTR=0x6000),
    StructureKind.PASID: encode(Structure.PASID_TABLE, P=1, PGTT=3, AW=2, SSPTPTR=0x7000, FSPTPTR=0x8000, DID=7),
}

INVALID = {StructureKind.CONTEXT: 4, StructureKind.LEGACY_CONTEXT: 65, StructureKind.PASID: 8}
"""A bit whose inversion is invalid programming: PRE without DTE, AW, PGTT."""


def verdict(kind: StructureKind, entry: int, upper: int) -> str:
    """What the model says of an entry: "fine" or the number of the condition (2 not present, 3 reserved, 4 invalid)."""
    decoders = {
        StructureKind.ROOT: lambda: model.scalable_root(entry >> 64 * upper & (1 << 64) - 1, MODEL),
        StructureKind.LEGACY_ROOT: lambda: model.legacy_root(entry, MODEL),
        StructureKind.CONTEXT: lambda: model.scalable_context(entry, MODEL),
        StructureKind.LEGACY_CONTEXT: lambda: model.legacy_context(entry, MODEL),
        StructureKind.DIRECTORY: lambda: model.pasid_directory(entry, MODEL),
        StructureKind.PASID: lambda: model.pasid_entry(entry, MODEL),
    }
    try:
        decoders[kind]()
    except TranslationFault as fault:
        return fault.condition.split(".")[1]
    return "fine"


def event_verdict(table) -> str:
    """The same from an event, in the order in which the table step looks at it."""
    if table.error:
        return "1"
    if not table.present:
        return "2"
    if table.reserved:
        return "3"
    return "4" if table.invalid else "fine"


class Reads:
    """Random structures, asked for in order, their pieces and what must come of them."""

    def __init__(self, rng, count: int):
        self.rng = rng
        self.expected: list[dict] = []
        self.pieces: list[dict] = []
        self.results: list[tuple[dict, str, int]] = []
        for _ in range(count):
            self.add()

    def add(self):
        rng = self.rng
        kind = rng.choice(list(SANE))
        bits = 8 << STRUCTURE_SIZES[kind]
        entry = SANE[kind]
        upper = rng.getrandbits(1)
        present = 64 * upper if kind is StructureKind.ROOT else 0
        for _ in range(rng.choice([0, 0, 1, 1, 2])):
            entry ^= 1 << rng.choice([rng.randrange(bits), rng.randrange(16), present, INVALID.get(kind, present)])
        item = {"slot": rng.randrange(4), "kind": kind, "upper": upper}
        # A directory entry lies in one half of its piece; what is in the other must not matter.
        image = entry if bits > 64 else rng.getrandbits(64) << 64 * (1 - upper) | entry << 64 * upper
        count = max(1, bits // 128)
        broken = rng.randrange(count) if rng.random() < 0.15 else None
        for number in range(count):
            response = rng.choice([AxiResponse.SLVERR, AxiResponse.DECERR]) if number == broken else AxiResponse.OKAY
            data = image >> 128 * number & (1 << 128) - 1
            self.pieces.append({"data": data, "response": response, "last": number == count - 1})
        self.expected.append(item)
        self.results.append((item, "1" if broken is not None else verdict(kind, entry, upper), entry))


def check_fields(table, kind: StructureKind, entry: int, upper: int):
    """What a sane entry says, decoded by the model."""
    if kind is StructureKind.ROOT:
        assert table.page << 12 == model.scalable_root(entry >> 64 * upper & (1 << 64) - 1, MODEL)
    elif kind is StructureKind.LEGACY_ROOT:
        assert table.page << 12 == model.legacy_root(entry, MODEL)
    elif kind is StructureKind.DIRECTORY:
        assert table.page << 12 == model.pasid_directory(entry, MODEL)
    elif kind is StructureKind.CONTEXT:
        context = model.scalable_context(entry, MODEL)
        found = table.context
        assert (found.paside, found.directory << 12) == (context.pasid_enabled, context.pasid_directory)
        assert (1 << found.pdts + 13, found.rid_pasid) == (context.pasid_limit, context.rid_pasid)
    elif kind is StructureKind.LEGACY_CONTEXT:
        context = model.legacy_context(entry, MODEL)
        if not context.pass_through:
            assert (table.space.second_root << 12, table.space.second_levels + 2) == (context.table, context.levels)
        assert (table.space.legacy, table.space.domain_id) == (1, entry >> 72 & 0xFFFF)
    else:
        space, found = model.pasid_entry(entry, MODEL), table.space
        assert (found.mode.value, found.domain_id, found.legacy) == (space.translation_type, space.domain, 0)
        assert (found.first_root << 12, found.second_root << 12) == (space.first_stage_table, space.second_stage_table)
        assert (found.sre, found.wpe, found.pwsnp) == (space.supervisor, space.write_protect, space.snooped)
        if space.translation_type in (model.SECOND_STAGE, model.NESTED):
            assert found.second_levels + 2 == space.second_stage_levels
    if kind not in (StructureKind.ROOT, StructureKind.LEGACY_ROOT):
        assert table.fpd == entry >> 1 & 1


def test_random_structures(rng):
    dut = StructureReader(CFG)
    reads = Reads(rng, 600)
    outcomes = set()

    async def testbench(ctx):
        asked = delivered = taken = 0
        ends = [number for number, piece in enumerate(reads.pieces) if piece["last"]]
        while taken < len(reads.results):
            # A slot waits for one structure at most, so as many as there are slots are under way.
            asks = asked < len(reads.expected) and asked - taken < 4 and rng.random() < 0.6
            awaited = asked and delivered <= ends[asked - 1]
            delivers = awaited and rng.random() < 0.7
            ctx.set(dut.expected.valid, asks)
            if asks:
                ctx.set(dut.expected.payload, reads.expected[asked])
            ctx.set(dut.data.valid, bool(delivers))
            ctx.set(dut.data.payload, reads.pieces[delivered] if delivers else {"data": rng.getrandbits(128)})
            _clk, _rst, accepted, complete, slot = await ctx.tick().sample(dut.expected.ready, dut.complete, dut.slot)
            table = ctx.get(dut.event)
            assert accepted or not asks
            asked += asks
            delivered += bool(delivers)
            if complete:
                item, expected, entry = reads.results[taken]
                assert (slot, table.kind) == (item["slot"], item["kind"])
                assert event_verdict(table) == expected, (item, hex(entry))
                if expected == "fine":
                    check_fields(table, item["kind"], entry, item["upper"])
                outcomes.add((item["kind"], expected))
                taken += 1

    simulate(dut, testbench)
    for kind in SANE:
        assert {"1", "2", "3", "fine"} <= {outcome for of, outcome in outcomes if of is kind}
    for kind in (StructureKind.CONTEXT, StructureKind.LEGACY_CONTEXT, StructureKind.PASID):
        assert (kind, "4") in outcomes
