"""What a step has found that the caches of tables and configurations may keep."""

from amaranth.hdl import Module, Mux
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import IommuConfig
from ..formats.pasid import TranslationMode
from ..lookup.configuration import AddressSpace, ContextFields, ContextFormat, PasidFormat
from ..lookup.fill_queue import FillQueue
from ..lookup.guest_caches import GuestFill, guest_shapes
from .guests import guest_fill
from .slot_memory import SlotState
from .state import Action, Decision, Phase, does, is_at

__all__ = ["WalkFindings"]


class WalkFindings(wiring.Component):
    """Looks at a step's decision for what may be cached; what finds its queue full is not.

    ::

        table step: context entry ──────────> FillQueue ──> context_fill
                    PASID entry ────────────> FillQueue ──> pasid_fill
        page step:  second-stage entry ─────> guest_fill
                    table of level 1 or 2 ──> finds, table_level (`WalkResults` hands it on)

    Parameters
    ----------
    cfg : IommuConfig

    Attributes
    ----------
    late, drop : In(1)
        An invalidation has overtaken the walk; one is at work now (of the `FillQueue`).
    before : In(SlotState)
        The slot's state before the step.
    is_context, context : In(1), In(ContextFields)
        A context entry has said this.
    is_space, space : In(1), In(AddressSpace)
        A PASID-table entry, or legacy context entry, has.
    page : In(Decision)
        The page step's, without action if it has no event.
    from_guest, is_foreign : In(1)
        The entry is the guest caches' own; the walk must leave them alone.
    pasid_fill, context_fill : Out(stream)
        The latter with a context cache.
    guest_fill : Out(stream of GuestFill)
        With guest caches.
    finds, table_level : Out(1), Out(2)
        The table of this level that is read next may be kept, since everything is allowed down to it.
    """

    def __init__(self, cfg: IommuConfig):
        self.cfg = cfg
        context_fill = {"context_fill": Out(stream.Signature(ContextFormat(cfg).entry))}
        super().__init__(
            {
                "late": In(1),
                "drop": In(1),
                "before": In(SlotState(cfg)),
                "is_context": In(1),
                "context": In(ContextFields(cfg)),
                "is_space": In(1),
                "space": In(AddressSpace(cfg)),
                "page": In(Decision(cfg)),
                "from_guest": In(1),
                "is_foreign": In(1),
                "pasid_fill": Out(stream.Signature(PasidFormat(cfg).entry)),
                **(context_fill if cfg.context_cache is not None else {}),
                **({"guest_fill": Out(stream.Signature(GuestFill(cfg)))} if guest_shapes(cfg) else {}),
                "finds": Out(1),
                "table_level": Out(2),
            }
        )

    def elaborate(self, platform):
        m = Module()
        request = self.before.request
        pasid = self._queue(m, self.pasid_fill, self.is_space & ~self.late)
        m.d.comb += [
            pasid.source_id.eq(request.source_id),
            pasid.pasid_valid.eq(request.pasid_valid),
            pasid.space.eq(self.space),
        ]
        if self.cfg.context_cache is not None:
            context = self._queue(m, self.context_fill, self.is_context & ~self.late)
            m.d.comb += [context.source_id.eq(request.source_id), context.fields.eq(self.context)]
        reads_page = does(self.page, Action.READ_ENTRY)
        if guest_shapes(self.cfg):
            fill = self.guest_fill
            found = guest_fill(m, fill.payload, self.before, self.page)
            allowed = ~self.late & ~self.is_foreign & ~self.from_guest
            m.d.comb += fill.valid.eq(reads_page & found & allowed)
        self._find_table(m, reads_page)
        return m

    def _queue(self, m, fill, is_there):
        """A queue of one before ``fill``; the value is what enters it."""
        queue = FillQueue(fill.payload.shape(), 1)
        m.submodules += queue
        m.d.comb += [queue.drop.eq(self.drop), queue.i.valid.eq(is_there)]
        wiring.connect(m, queue.o, wiring.flipped(fill))
        return queue.i.payload

    def _find_table(self, m, reads_page):
        progress = self.page.progress
        first, final = is_at(progress, Phase.FIRST_STAGE), is_at(progress, Phase.SECOND_STAGE_FINAL)
        second = final & (self.before.space.mode == TranslationMode.SECOND_STAGE)
        level = Mux(first, progress.first_level, progress.second_level)
        first_open = progress.first_write & progress.first_user & progress.table_write
        all_open = Mux(first, first_open, progress.second_read & progress.second_write)
        m.d.comb += [
            self.finds.eq(reads_page & (first | second) & all_open & ((level == 1) | (level == 2))),
            self.table_level.eq(level),
        ]
