"""The translation core on a simulated memory port, with tables made by the builders."""

from collections import deque
from random import Random

from amaranth.hdl import Module, Value
from amaranth.lib import wiring

from nestwalk.bus.axi import AxiResponse
from nestwalk.bus.mem_port import MemPort
from nestwalk.bus.memory import MemoryIds
from nestwalk.config import CacheShape, IommuConfig
from nestwalk.walk.translator import Translator
from nestwalk_sim.memory import AccessError, ErrorKind, Memory
from nestwalk_sim.model import Request, UnitState
from rtl.tests.axi_memory import AxiMemory
from rtl.tests.simulation import simulate
from rtl.tests.walk.steps import hardware_request, root_pointer

__all__ = ["SMALL_CACHES", "TableMemory", "TranslatorBench"]

SMALL_CACHES = dict.fromkeys(
    (
        "context_cache",
        "structure_cache_1",
        "structure_cache_2",
        "nested_tlb",
        "second_stage_cache_1",
        "second_stage_cache_2",
    ),
    CacheShape(sets=16, ways=1),
)
"""What TINY leaves out."""


class TableMemory(AxiMemory):
    """An `AxiMemory` in front of the builders' memory; what does not exist there, or is to fail, answers SLVERR."""

    def __init__(self, bus, rng: Random, tables: Memory, **options):
        super().__init__(bus, rng, **options)
        self.tables = tables
        self.respond = self._respond

    def _respond(self, kind: str, address: int) -> AxiResponse | None:
        for error in self.tables.errors:
            if error.kind is ErrorKind.UPDATE and error.hits(address, 8):
                return AxiResponse.OKAY  # even to exclusive accesses
        try:
            self.tables.read(address, 8)
        except AccessError:
            return AxiResponse.SLVERR
        return None

    def read(self, address: int, size: int) -> int:
        try:
            return self.tables.read_integer(address, size)
        except AccessError:
            return self.rng.getrandbits(8 * size)

    def write(self, address: int, value: int, size: int):
        super().write(address, value, size)
        self.tables.write_integer(address, value, size)


class TranslatorBench:
    """A `Translator` behind a `MemPort`.

    Attributes
    ----------
    now : int
        Cycles since the start.
    faults : list
        Events taken, in order.
    answers : dict
        Responses by tag, with the cycle of their transfer.
    """

    def __init__(self, cfg: IommuConfig, tables: Memory, rng: Random, **timing):
        self.cfg, self.rng = cfg, rng
        ids = MemoryIds(cfg)
        update = range(ids.update, ids.update + 1)
        self.dut = Translator(cfg)
        port = MemPort(cfg, readers=[range(ids.structures + 1), update], writers=[update])
        self.module = Module()
        self.module.submodules += [self.dut, port]
        wiring.connect(self.module, self.dut.read, port.readers[0])
        wiring.connect(self.module, self.dut.update_read, port.readers[1])
        wiring.connect(self.module, self.dut.update_write, port.writers[0])
        self.memory = TableMemory(port.mem, rng, tables, **timing)
        self.now = 0
        self.stall = 0.0  # of responses and faults
        self.state = UnitState(False, 0, 0)
        self.faults: list = []
        self.accepted: dict[int, int] = {}
        self.answers: dict[int, tuple] = {}
        self._waiting: deque[tuple[int, Request]] = deque()
        self._tags = 0
        self._offered: tuple[int, Request] | None = None
        self._invalidations: deque[tuple[int, dict]] = deque()
        self._invalidating: int | None = None
        self._numbers = 0
        self.invalidated: dict[int, int] = {}  # cycle of the transfer by number

    def run(self, testbench, limit: int = 1_000_000):
        simulate(self.module, testbench, background=(self.memory.run,), limit=limit)

    def request(self, request: Request) -> int:
        """Queue a request; the value is its tag."""
        tag, self._tags = self._tags, self._tags + 1
        assert tag < 1 << self.cfg.tag_width, "every tag once"
        self._waiting.append((tag, request))
        return tag

    def invalidate(self, fields: dict) -> int:
        """Queue an invalidation; the value is its number."""
        number, self._numbers = self._numbers, self._numbers + 1
        self._invalidations.append((number, fields))
        return number

    async def cycle(self, ctx):
        """One cycle of all streams."""
        dut, rng = self.dut, self.rng
        if self._offered is None and self._waiting:
            self._offered = self._waiting.popleft()
            tag, request = self._offered
            ctx.set(dut.request.payload, hardware_request(request, tag))
        if self._invalidating is None and self._invalidations:
            self._invalidating, fields = self._invalidations.popleft()
            ctx.set(Value.cast(dut.invalidations.payload), 0)
            for name, value in fields.items():
                ctx.set(getattr(dut.invalidations.payload, name), value)
        ctx.set(dut.root_pointer, root_pointer(self.state))
        ctx.set(dut.request.valid, self._offered is not None)
        ctx.set(dut.invalidations.valid, self._invalidating is not None)
        ctx.set(dut.response.ready, rng.random() >= self.stall)
        ctx.set(dut.faults.ready, rng.random() >= self.stall)
        streams = (dut.request, dut.invalidations, dut.response, dut.faults)
        _clk, _rst, *values = await ctx.tick().sample(
            *(signal for port in streams for signal in (port.valid, port.ready)),
            dut.response.payload,
            dut.faults.payload,
            dut.drained,
        )
        moved = [bool(values[2 * n] and values[2 * n + 1]) for n in range(4)]
        response, fault, self.drained = values[8:]
        if moved[0]:
            assert self._offered
            self.accepted[self._offered[0]] = self.now
            self._offered = None
        if moved[1]:
            assert self._invalidating is not None
            self.invalidated[self._invalidating] = self.now
            self._invalidating = None
        if moved[2]:
            assert response.tag in self.accepted, "an answer to no request"
            assert response.tag not in self.answers, "two answers"
            self.answers[response.tag] = (self.now, response)
        if moved[3]:
            self.faults.append(fault)
        self.now += 1

    async def cycles(self, ctx, count: int):
        for _ in range(count):
            await self.cycle(ctx)

    async def finish(self, ctx, limit: int = 5000):
        """Until everything that was queued is answered and done."""
        for _ in range(limit):
            if len(self.answers) == self._tags and len(self.invalidated) == self._numbers:
                return
            await self.cycle(ctx)
        missing = sorted(set(range(self._tags)) - self.answers.keys())
        raise AssertionError(f"no answer for tags {missing}, {len(self.invalidated)} of {self._numbers} invalidations")

    async def translate(self, ctx, request: Request):
        """One request, all by itself: its response."""
        tag = self.request(request)
        await self.finish(ctx)
        return self.answers[tag][1]
