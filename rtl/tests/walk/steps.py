"""Walks through `StructureReader`, `TableStep` and `PageStep` alone: the test plays slot, memory and bit updates."""

from dataclasses import dataclass

from amaranth.hdl import Module, Value
from amaranth.lib import data

from nestwalk.bus.axi import AxiResponse
from nestwalk.bus.translation import Access, AddressType, PageSize
from nestwalk.config import IommuConfig
from nestwalk.walk.pages import PageStep
from nestwalk.walk.state import Action, Phase, StructureKind
from nestwalk.walk.structures import STRUCTURE_SIZES, StructureReader
from nestwalk.walk.tables import TableStep
from nestwalk_sim.memory import AccessError, Memory
from nestwalk_sim.model import AccessKind, MemoryAccess, PageRequest, Request, Result, UnitState

__all__ = [
    "PAGE_SIZES",
    "Outcome",
    "Steps",
    "accesses_of",
    "compare_outcome",
    "hardware_request",
    "page_walk_request",
    "root_pointer",
]

PAGE_SIZES = {PageSize.SIZE_4K: 1 << 12, PageSize.SIZE_2M: 1 << 21, PageSize.SIZE_1G: 1 << 30}


def hardware_request(request: Request, tag: int = 0) -> dict:
    """Fields of a `TranslationRequest`."""
    return {
        "tag": tag,
        "source_id": request.source_id,
        "pasid_valid": request.pasid is not None,
        "pasid": request.pasid or 0,
        "address": request.address,
        "access": request.access.value,
        "address_type": request.address_type.value,
        "privileged": request.privileged,
        "execute": request.execute,
        "one_dword": request.one_dword,
    }


def page_walk_request(request: PageRequest) -> dict:
    """Fields of the `TranslationRequest` that takes a page request through the tables."""
    return {
        "source_id": request.source_id,
        "pasid_valid": request.pasid is not None,
        "pasid": request.pasid or 0,
        "address": request.address,
        "access": Access.WRITE if request.write and not request.read else Access.READ,
        "address_type": AddressType.PAGE_REQUEST,
        "privileged": request.privileged,
        "execute": request.execute,
    }


def root_pointer(state: UnitState) -> dict:
    """Fields of a `RootPointer`."""
    return {"enabled": state.translation_enabled, "mode": state.ttm, "root_table": state.root_table >> 12}


@dataclass
class Outcome:
    """How a walk ended, and (kind, address, size) of its accesses in order."""

    granted: bool
    fault: int
    address: int
    size: PageSize
    recorded: bool
    permissions: int
    cached: bool
    accesses: list[tuple[AccessKind, int, int]]


def accesses_of(accesses: list[MemoryAccess]) -> list[tuple[AccessKind, int, int]]:
    return [(access.kind, access.address, access.size) for access in accesses]


def compare_outcome(outcome: Outcome, result: Result):
    """The hardware did what the model did."""
    assert outcome.accesses == accesses_of(result.accesses)
    assert outcome.granted == result.granted
    if result.granted:
        assert outcome.address == result.address
        if result.page_size:
            assert PAGE_SIZES[outcome.size] == result.page_size
    else:
        assert outcome.fault == result.fault, result.fault_condition
        assert outcome.recorded == result.recorded


class Steps:
    """The blocks, and one walk after the other.

    Parameters
    ----------
    cfg : IommuConfig
    """

    def __init__(self, cfg: IommuConfig):
        self.reader = StructureReader(cfg)
        self.tables = TableStep(cfg)
        self.pages = PageStep(cfg)
        self.module = Module()
        self.module.submodules += [self.reader, self.tables, self.pages]

    async def walk(self, ctx, memory: Memory, state: UnitState, request: Request | PageRequest) -> Outcome:
        """Walk for one request; accessed and dirty bits are set in ``memory``."""
        tables, pages = self.tables, self.pages
        fields = page_walk_request(request) if isinstance(request, PageRequest) else hardware_request(request)
        accesses: list[tuple[AccessKind, int, int]] = []
        for step in (tables, pages):
            ctx.set(step.request, fields)
            ctx.set(step.valid, 1)
        ctx.set(Value.cast(tables.beginning), 0)
        ctx.set(tables.beginning.kind, StructureKind.START)
        ctx.set(tables.beginning.root_pointer, root_pointer(state))
        ctx.set(tables.begins, 1)
        ctx.set(Value.cast(tables.identity), 0)
        step = tables
        while True:
            await ctx.tick()
            decision = ctx.get(step.decision)
            self._remember(ctx, step, decision)
            match decision.action:
                case Action.READ_STRUCTURE:
                    step = tables
                    size = 1 << STRUCTURE_SIZES[ctx.get(tables.kind)]
                    accesses.append((AccessKind.READ, decision.address, size))
                    await self._read_structure(ctx, memory, decision.address, ctx.get(tables.kind), request)
                case Action.READ_ENTRY | Action.LOOKUP_GUEST:  # nothing is known of guest-physical addresses here
                    step = pages
                    accesses.append((AccessKind.READ, decision.address, 8))
                    self._read_entry(ctx, memory, decision.address)
                case Action.UPDATE:
                    accesses.append((AccessKind.UPDATE, decision.address, 8))
                    self._update(ctx, memory, decision)
                case Action.GRANT | Action.FAULT:
                    return Outcome(
                        granted=decision.action is Action.GRANT,
                        fault=decision.fault.value,
                        address=decision.address,
                        size=decision.size,
                        recorded=bool(decision.recorded),
                        permissions=raw(decision.permissions),
                        cached=bool(decision.cached),
                        accesses=accesses,
                    )
                case _:
                    raise AssertionError(f"{decision.action} although nobody else writes to memory")

    def _remember(self, ctx, step, decision):
        """The slot's new state."""
        tables, pages = self.tables, self.pages
        ctx.set(Value.cast(pages.progress), raw(decision.progress))
        if step is tables:
            ctx.set(tables.begins, 0)
            ctx.set(Value.cast(tables.beginning), 0)  # means nothing from here on
            ctx.set(Value.cast(tables.identity), raw(ctx.get(tables.next_identity)))
            ctx.set(Value.cast(pages.space), raw(ctx.get(tables.space)))
            ctx.set(pages.address, ctx.get(tables.input_address))
        else:
            if ctx.get(pages.sets_address):
                ctx.set(pages.address, ctx.get(pages.next_address))
            if ctx.get(pages.sets_leaf):
                ctx.set(pages.leaf, ctx.get(pages.expected))
        reads_entry = decision.action in (Action.READ_ENTRY, Action.LOOKUP_GUEST)
        if reads_entry and decision.progress.phase is Phase.FIRST_STAGE:
            ctx.set(pages.entry, decision.address >> 3)

    async def _read_structure(
        self, ctx, memory: Memory, address: int, kind: StructureKind, request: Request | PageRequest
    ):
        """Through the reader, piece by piece; its event, of the cycle after the last, is the table step's."""
        reader = self.reader
        size = 1 << STRUCTURE_SIZES[kind]
        upper = address >> 3 & 1 if kind is StructureKind.DIRECTORY else request.source_id >> 7 & 1
        ctx.set(reader.expected.payload, {"slot": 1, "kind": kind, "upper": upper})
        ctx.set(reader.expected.valid, 1)
        await ctx.tick()
        ctx.set(reader.expected.valid, 0)
        start, pieces = address & ~0xF, max(1, size // 16)
        for number in range(pieces):
            piece = {"last": number == pieces - 1, "response": AxiResponse.OKAY}
            try:
                content = memory.read_integer(start + 16 * number, 16)
                if size < 16:
                    memory.read_integer(address, size)
            except AccessError:
                content, piece["response"] = 0, AxiResponse.SLVERR
            ctx.set(reader.data.payload, piece | {"data": content})
            ctx.set(reader.data.valid, 1)
            _clk, _rst, complete, slot = await ctx.tick().sample(reader.complete, reader.slot)
            assert complete == piece["last"]
        ctx.set(reader.data.valid, 0)
        assert slot == 1
        ctx.set(Value.cast(self.tables.event), raw(ctx.get(reader.event)))

    def _read_entry(self, ctx, memory: Memory, address: int):
        try:
            value, error = memory.read64(address), 0
        except AccessError:
            value, error = 0, 1
        ctx.set(self.pages.value, value)
        ctx.set(self.pages.error, error)
        ctx.set(self.pages.update_failed, 0)

    def _update(self, ctx, memory: Memory, decision):
        """As `EntryUpdate` does it."""
        expected = ctx.get(self.pages.expected)
        value, failed = expected | ctx.get(self.pages.mask), 0
        try:
            assert memory.update64(decision.address, expected, value)
        except AccessError:
            failed = 1
        ctx.set(self.pages.value, value)
        ctx.set(self.pages.error, 0)
        ctx.set(self.pages.update_failed, failed)


def raw(value: data.Const) -> int:
    return value.as_bits()
