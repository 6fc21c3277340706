"""The whole unit as its neighbours see it: a device on `dma`, memories on `out` and `mem`, a driver on `csr`."""

from nestwalk.bus.axi import AxiResponse
from nestwalk.config import preset
from nestwalk.formats.fault import FaultReason, FaultRecord
from nestwalk.registers.table import REGISTERS
from nestwalk.unit import Unit
from nestwalk_sim.builders import (
    FirstStageTables,
    HostSpace,
    ScalableTables,
    SecondStageTables,
    first_stage_fields,
    second_stage_fields,
)
from nestwalk_sim.memory import Memory
from rtl.tests.axi_memory import AxiMemory
from rtl.tests.invalidation.reference import wait_descriptor
from rtl.tests.registers.csr import access_read, read, write
from rtl.tests.simulation import simulate
from rtl.tests.walk.bench import TableMemory

CFG = preset("TINY")
DEVICE, PASID, DOMAIN = 0x0310, 5, 9
IOVA, VIRTUAL = 0x1234_5000, 0x7FFF_0000_3000
QUEUE, STATUS = 0x10_0000, 0x10_2000
PAGE = 4096


def page_invalidation(address: int) -> int:
    """iotlb_inv_dsc of one page of the domain (§5.2)."""
    return 2 | 3 << 4 | DOMAIN << 16 | address >> 12 << 76


def pasid_page_invalidation(address: int) -> int:
    """p_iotlb_inv_dsc of one page of the PASID (§5.2)."""
    return 6 | 3 << 4 | DOMAIN << 16 | PASID << 32 | address >> 12 << 76


class Driver:
    """Programs the unit over ``csr`` and plays the device on ``dma``."""

    def __init__(self, dut: Unit, tables: Memory):
        self.dut, self.tables = dut, tables
        self.enabled: dict[str, int] = {}
        self.submitted = 0

    async def command(self, ctx, status: str, **fields: int):
        await write(ctx, self.dut.csr, "GCMD", **(self.enabled | fields))
        self.enabled |= {name: value for name, value in fields.items() if name != "SRTP"}
        (wanted,) = fields.values()
        while (await read(ctx, self.dut.csr, "GSTS"))[status] != wanted:
            pass

    async def start(self, ctx, root: int):
        csr = self.dut.csr
        await write(ctx, csr, "RTADDR", RTA=root >> 12, TTM=1)
        await self.command(ctx, "RTPS", SRTP=1)
        self.tables.add_pages((QUEUE, QUEUE + PAGE, STATUS))
        await write(ctx, csr, "IQA", IQA=QUEUE >> 12, DW=1, QS=1)
        await self.command(ctx, "QIES", QIE=1)
        await self.command(ctx, "TES", TE=1)

    async def invalidate(self, ctx, descriptor: int):
        """One descriptor and a wait for it."""
        ticket = self.submitted + 1
        for item in (descriptor, wait_descriptor(address=STATUS, data=ticket)):
            self.tables.write_integer(QUEUE + 32 * self.submitted, item, 32)
            self.submitted += 1
        await write(ctx, self.dut.csr, "IQT", QT=2 * self.submitted)
        for _ in range(2000):
            if self.tables.read_integer(STATUS, 4) == ticket:
                return
            await ctx.tick()
        raise AssertionError("the wait descriptor never completed")

    def ask(self, ctx, channel: str, address: int, pasid: int | None):
        """Drive an address channel of ``dma``."""
        fields = {"addr": address, "id": 1, "len": 0, "size": 4, "burst": 1, "prot": 0, "valid": 1}
        fields |= {"mmusid": DEVICE, "mmussid": pasid or 0, "mmussidv": pasid is not None, "mmuatst": 0}
        for name, value in fields.items():
            ctx.set(getattr(self.dut.dma, channel + name), value)

    async def read(self, ctx, address: int, pasid: int | None = None) -> tuple[AxiResponse, int]:
        dma = self.dut.dma
        self.ask(ctx, "ar", address, pasid)
        await ctx.tick().until(dma.arready)
        ctx.set(dma.arvalid, 0)
        ctx.set(dma.rready, 1)
        response, data, last = await ctx.tick().sample(dma.rresp, dma.rdata, dma.rlast).until(dma.rvalid)
        ctx.set(dma.rready, 0)
        assert last
        return AxiResponse(response), data

    async def write(self, ctx, address: int, data: int, pasid: int | None = None) -> AxiResponse:
        dma = self.dut.dma
        self.ask(ctx, "aw", address, pasid)
        for name, value in {"data": data, "strb": 0xFFFF, "last": 1, "valid": 1}.items():
            ctx.set(getattr(dma, f"w{name}"), value)
        waiting = {"aw", "w"}
        while waiting:
            _clk, _rst, *ready = await ctx.tick().sample(dma.awready, dma.wready)
            for channel, taken in zip(("aw", "w"), ready, strict=True):
                if taken and channel in waiting:
                    waiting.remove(channel)
                    ctx.set(getattr(dma, f"{channel}valid"), 0)
        ctx.set(dma.bready, 1)
        (response,) = await ctx.tick().sample(dma.bresp).until(dma.bvalid)
        ctx.set(dma.bready, 0)
        return AxiResponse(response)

    async def fault_record(self, ctx):
        """The first fault record; clears it."""
        place = REGISTERS["FRCD"].offset
        low, high = await access_read(ctx, self.dut.csr, place), await access_read(ctx, self.dut.csr, place + 8)
        return FaultRecord.from_bits(low | high << 64)


def test_a_driver_and_a_device(rng):
    tables_memory = Memory()
    space = HostSpace(tables_memory, 40)
    tables = ScalableTables(space)
    second, first = SecondStageTables(space, 4), FirstStageTables(space, 4)
    host = [0x80_0000_0000 + PAGE * number for number in range(4)]
    second.map(IOVA, host[0])
    first.map(VIRTUAL, host[1])
    tables.add_device(DEVICE, PASIDE=1)
    tables.add_pasid(DEVICE, 0, DID=DOMAIN, **second_stage_fields(second))
    tables.add_pasid(DEVICE, PASID, DID=DOMAIN, **first_stage_fields(first))
    dut = Unit(CFG)
    driver = Driver(dut, tables_memory)
    mem = TableMemory(dut.mem, rng, tables_memory, latency=range(1, 8), stall=0.1)
    out = AxiMemory(dut.out, rng, latency=range(1, 8), stall=0.1)
    content = {page: rng.getrandbits(128) for page in (*host, IOVA)}
    for page, value in content.items():
        out.write(page, value, 16)
    good = AxiResponse.OKAY

    async def story(ctx):
        # Out of reset nothing is translated.
        assert await driver.read(ctx, IOVA) == (good, content[IOVA])
        await driver.start(ctx, tables.root)
        for _ in range(2):  # walk, then hit
            assert await driver.read(ctx, IOVA) == (good, content[host[0]])
            assert await driver.read(ctx, VIRTUAL, PASID) == (good, content[host[1]])
        assert await driver.write(ctx, VIRTUAL + 16, 77, PASID) is good
        assert out.read(host[1] + 16, 16) == 77

        # Both pages move.
        second.set_fields(second.path(IOVA)[-1], ADDR=host[2])
        first.set_fields(first.path(VIRTUAL)[-1], ADDR=host[3])
        await driver.invalidate(ctx, page_invalidation(IOVA))
        assert await driver.read(ctx, IOVA) == (good, content[host[2]])
        await driver.invalidate(ctx, pasid_page_invalidation(VIRTUAL))
        assert await driver.read(ctx, VIRTUAL, PASID) == (good, content[host[3]])

        # One is taken away: the write never reaches memory, and leaves a record.
        reached = len(out.log)
        second.set_fields(second.path(IOVA)[-1], W=0)
        await driver.invalidate(ctx, page_invalidation(IOVA))
        assert await driver.write(ctx, IOVA, 78) not in (good, AxiResponse.EXOKAY)
        assert len(out.log) == reached
        assert out.read(host[2], 16) == content[host[2]]
        status = await read(ctx, dut.csr, "FSTS")
        assert (status["PPF"], status["PFO"]) == (1, 0)
        record = await driver.fault_record(ctx)
        assert (record.sid, record.fr, record.fi) == (DEVICE, FaultReason.SGN_6, IOVA >> 12)
        assert not ctx.get(dut.irq_fault)
        await write(ctx, dut.csr, "FECTL", IM=0)
        await ctx.tick().repeat(2)
        assert ctx.get(dut.irq_fault)
        assert await driver.read(ctx, IOVA) == (good, content[host[2]]), "reading is still allowed"

        await driver.command(ctx, "TES", TE=0)
        assert await driver.read(ctx, IOVA) == (good, content[IOVA])

    simulate(dut, story, background=(mem.run, out.run), limit=20_000)
    assert driver.submitted == 6  # three invalidations, each with its wait
