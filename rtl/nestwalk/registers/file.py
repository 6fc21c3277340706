"""The register file: the programming model's registers, and what they command and report."""

from amaranth.hdl import C, Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..bus.axi import Axi4LiteSignature
from ..bus.memory import MemoryWriteSignature
from ..bus.sharing import Sharing
from ..bus.translation import RootPointer
from ..config import IommuConfig
from ..counters.counters import MONITORS, Counters
from ..counters.events import EVENTS, Events
from ..events.fault_log import FaultLog
from ..events.interrupt import EventMessages
from ..formats.fault import FaultEvent
from ..invalidation.command import Invalidation
from .bank import ADDRESS_BITS, RegisterBank
from .capability import constants, is_announced
from .global_commands import GlobalCommands
from .invalidation_commands import InvalidationCommands
from .performance import PerformanceMonitor
from .signatures import PageRequestControlSignature, QueueControlSignature
from .table import REGISTERS
from .virtual_commands import VirtualCommands

__all__ = ["RegisterFile"]

EVENT_REGISTERS = ("ctl", "data", "addr", "uaddr")
"""Of each kind of event, behind the letters of the kind."""


class RegisterFile(wiring.Component):
    """Registers of §1 with their handshakes, the fault log and the event messages.

    ::

        csr <--> bank <--> global commands ---------> root pointer
                                | everything
                                v
                      <--> invalidation commands ---> invalidations
                      <--> queue (IQH, IQT, IQA, IQE, IWC)
                      <--> page_requests (PQH, PQT, PQA, PPR, PRO)
                      <--> fault log <-- faults
                      <--> event messages --> event_write, irq_…
                      <--> counters <-- counted <--> performance monitor; sharing
                      <--> virtual commands

    Reads wait for event messages that are due or on their way, so that software that sees a status also finds its
    message in memory (§1.8.2).

    Parameters
    ----------
    cfg : IommuConfig

    Members
    -------
    csr : `Axi4LiteSignature`, in
        12 address and 64 data bits; 32- and 64-bit accesses.
    root_pointer : Out(`RootPointer`)
        As of `GlobalCommands`.
    invalidations, drained : stream of `Invalidation`, out, In(1)
        As of `InvalidationCommands`.
    queue : `QueueControlSignature`, out
    page_requests : `PageRequestControlSignature`, out
        With ``cfg.page_requests``.
    faults : stream of `FaultEvent`, in
        Taken every other cycle at least.
    event_write : `MemoryWriteSignature`, out
    sharing : Out(Sharing)
    counted : In(Events)
        Pulses; nothing listens without ``cfg.counters``.
    requested, memory_read : In(1), In(1)
        Pulses for performance monitoring: the unit accepts a request of a device, memory accepts a read of the unit.
    irq_fault, irq_invalidation, irq_page_request : Out(1)
        High while a status that raises the interrupt is set (PPF, IQE, ICE or ITE; IWC; PPR or PRO) and IM=0.
    """

    def __init__(self, cfg: IommuConfig):
        self._cfg = cfg
        super().__init__(
            {
                "csr": In(Axi4LiteSignature(address_width=ADDRESS_BITS, data_width=64)),
                "root_pointer": Out(RootPointer(cfg)),
                "invalidations": Out(stream.Signature(Invalidation)),
                "drained": In(1),
                "queue": Out(QueueControlSignature(cfg)),
                **({"page_requests": Out(PageRequestControlSignature(cfg))} if cfg.page_requests else {}),
                "faults": In(stream.Signature(FaultEvent)),
                "event_write": Out(MemoryWriteSignature(cfg)),
                "sharing": Out(Sharing),
                "counted": In(Events()),
                "requested": In(1),
                "memory_read": In(1),
                "irq_fault": Out(1),
                "irq_invalidation": Out(1),
                "irq_page_request": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.bank = bank = RegisterBank(self._cfg)
        connect(m, flipped(self.csr), bank.csr)
        for name, value in constants(self._cfg).items():
            register, description = getattr(bank, name.lower()), REGISTERS[name]
            for field in description.fields:
                if is_announced(self._cfg, field):
                    m.d.comb += getattr(register, field.name.lower()).eq(field.extract(value))
        commands = self._global_commands(m, bank)
        self._invalidation_commands(m, bank, commands)
        self._queue(m, bank)
        if self._cfg.page_requests:
            self._page_requests(m, bank)
        log = self._fault_log(m, bank)
        self._events(m, bank, log)
        self._implementation(m, bank)
        if self._cfg.virtual_command_pasids:
            self._virtual_commands(m, bank)
        return m

    def _global_commands(self, m: Module, bank: RegisterBank) -> GlobalCommands:
        m.submodules.commands = commands = GlobalCommands(self._cfg)
        m.d.comb += [
            commands.set_root_pointer.eq(bank.gcmd.srtp),
            bank.gcmd.srtp_done.eq(commands.set_root_pointer_done),
            commands.translation_enable.eq(bank.gcmd.te),
            commands.mode.eq(bank.rtaddr.ttm),
            commands.root_table.eq(bank.rtaddr.rta),
            commands.drained.eq(self.drained),
            self.root_pointer.eq(commands.root_pointer),
            bank.gsts.tes.eq(commands.tes),
            bank.gsts.rtps.eq(commands.rtps & ~bank.gcmd.srtp),
            bank.gsts.qies.eq(self.queue.enabled),
        ]
        return commands

    def _invalidation_commands(self, m: Module, bank: RegisterBank, commands: GlobalCommands):
        m.submodules.invalidation = invalidation = InvalidationCommands(self._cfg)
        connect(m, invalidation.invalidations, flipped(self.invalidations))
        m.d.comb += [
            invalidation.everything.eq(commands.global_invalidate),
            commands.global_invalidate_done.eq(invalidation.everything_done),
            invalidation.mode.eq(self.root_pointer.mode),
            invalidation.drained.eq(self.drained),
            invalidation.icc.eq(bank.ccmd.icc),
            bank.ccmd.icc_done.eq(invalidation.icc_done),
            bank.ccmd.caig.eq(invalidation.caig),
            invalidation.ivt.eq(bank.iotlb.ivt),
            bank.iotlb.ivt_done.eq(invalidation.ivt_done),
            bank.iotlb.iaig.eq(invalidation.iaig),
            *(
                getattr(invalidation.context, name).eq(getattr(bank.ccmd, name))
                for name in ("cirg", "fm", "sid", "did")
            ),
            *(getattr(invalidation.iotlb, name).eq(getattr(bank.iotlb, name)) for name in ("iirg", "did")),
            *(getattr(invalidation.iotlb, name).eq(getattr(bank.iva, name)) for name in ("addr", "ih", "am")),
        ]

    def _queue(self, m: Module, bank: RegisterBank):
        queue = self.queue
        stops = [bank.fsts.iqe] + ([bank.fsts.ite] if self._cfg.device_tlb else [])
        m.d.comb += [
            queue.enable.eq(bank.gcmd.qie),
            queue.base.eq(bank.iqa.iqa),
            queue.size.eq(bank.iqa.qs),
            queue.wide.eq(bank.iqa.dw),
            queue.tail.eq(bank.iqt.qt),
            queue.mode.eq(self.root_pointer.mode),
            queue.stopped.eq(Cat(stops).any()),
            bank.iqh.qh.eq(queue.head),
            bank.fsts.iqe_set.eq(queue.error),
            bank.ics.iwc_set.eq(queue.wait_complete),
        ]
        with m.If(queue.error):
            m.d.sync += bank.iqercd.iqei.eq(queue.error_code)

    def _page_requests(self, m: Module, bank: RegisterBank):
        queue = self.page_requests
        m.d.comb += [
            queue.base.eq(bank.pqa.pqa),
            queue.size.eq(bank.pqa.pqs),
            queue.head.eq(bank.pqh.pqh),
            queue.tail.eq(bank.pqt.pqt),
            queue.overflow.eq(bank.prs.pro),
            queue.hold.eq(bank.writing),
            bank.pqt.pqt_change.eq(queue.queued),
            bank.pqt.pqt_next.eq(queue.next_tail),
            bank.prs.ppr_set.eq(queue.queued),
            bank.prs.pro_set.eq(queue.overflows),
        ]

    def _fault_log(self, m: Module, bank: RegisterBank) -> FaultLog:
        m.submodules.log = log = FaultLog(self._cfg)
        connect(m, flipped(self.faults), log.faults)
        m.d.comb += [
            log.overflow.eq(bank.fsts.pfo),
            log.rewind.eq(~bank.gsts.tes),
            log.index.eq(bank.frcd.index),
            log.clear.eq(bank.frcd.clear),
            bank.fsts.pfo_set.eq(log.overflow_set),
            bank.fsts.ppf.eq(log.pending),
            bank.fsts.fri.eq(log.first),
            bank.frcd.value.eq(log.record),
        ]
        return log

    def _events(self, m: Module, bank: RegisterBank, log: FaultLog):
        """Interrupts: PFO does not raise the fault event, but keeps other conditions from raising it."""
        fault = [log.pending, bank.fsts.iqe] + ([bank.fsts.ice, bank.fsts.ite] if self._cfg.device_tlb else [])
        kinds = [
            ("fe", Cat(fault).any(), bank.fsts.pfo, self.irq_fault),
            ("ie", bank.ics.iwc, C(0), self.irq_invalidation),
        ]
        if self._cfg.page_requests:
            kinds.append(("pe", bank.prs.ppr | bank.prs.pro, C(0), self.irq_page_request))
        if self._cfg.performance_monitoring:
            no_wire = Signal(name="irq_performance")
            kinds.append(("perfintr", bank.perfintrsts.pis, C(0), no_wire))
        m.submodules.messages = messages = EventMessages(self._cfg, len(kinds))
        connect(m, messages.write, flipped(self.event_write))
        m.d.comb += bank.hold.eq(messages.busy)
        if self._cfg.page_requests:
            queue = self.page_requests
            m.d.comb += [messages.claimed.eq(queue.claims), queue.granted.eq(queue.claims & messages.idle)]
        for event, (kind, condition, silent, irq) in zip(messages.events, kinds, strict=True):
            control, data, low, high = (getattr(bank, f"{kind}{register}") for register in EVENT_REGISTERS)
            m.d.comb += [
                event.condition.eq(condition),
                event.status.eq(event.condition | silent),
                event.mask.eq(control.im),
                event.address.eq(Cat(C(0, 2), low.ma, high.mua)),
                event.data.eq(data.imd),
                control.ip.eq(event.pending),
                irq.eq(event.irq),
            ]

    def _implementation(self, m: Module, bank: RegisterBank):
        cfg, sharing = self._cfg, self.sharing
        if cfg.prefetch_streams:
            m.d.comb += sharing.prefetch.eq(bank.impctl.pfe)
        if cfg.walk_slot_limit:
            m.d.comb += sharing.walk_limit.eq(bank.impctl.wl)
        if cfg.partitioning:
            m.d.comb += [ways.eq(getattr(bank.cpw, f"w{number}")) for number, ways in enumerate(sharing.ways)]
        if cfg.counters:
            monitor_bits = cfg.performance_counter_bits if cfg.performance_monitoring else 0
            m.submodules.counters = counters = Counters(monitor_bits)
            m.d.comb += [
                counters.events.eq(self.counted),
                counters.index.eq(bank.evcnt.index),
                counters.read.eq(bank.evcnt.read),
                bank.evcnt.busy.eq(counters.busy),
                bank.evcnt.value.eq(counters.value),
            ]
            if cfg.performance_monitoring:
                self._performance(m, bank, counters)

    def _performance(self, m: Module, bank: RegisterBank, counters: Counters):
        m.submodules.monitor = monitor = PerformanceMonitor(self._cfg)
        of_monitor = Signal()  # the last counter that was read
        commands, configurations = bank.gcmd, [getattr(bank, f"cntrcfg{counter}") for counter in range(MONITORS)]
        with m.If(bank.cntr.read | bank.evcnt.read):
            m.d.sync += of_monitor.eq(bank.cntr.read)
        with m.If(of_monitor):
            m.d.comb += counters.index.eq(len(EVENTS) + bank.cntr.index)
        m.d.comb += [
            counters.read.eq(bank.evcnt.read | bank.cntr.read),
            bank.cntr.busy.eq(counters.busy),
            bank.cntr.value.eq(counters.value),
            monitor.start.eq(bank.ecmd.cmd_written),
            monitor.command.eq(bank.ecmd.cmd),
            monitor.operand.eq(bank.ecmd.oa),
            monitor.global_command.eq(commands.srtp | (commands.te ^ bank.gsts.tes) | (commands.qie ^ bank.gsts.qies)),
            bank.ecmd.locked.eq(monitor.in_progress),
            bank.ecrsp.ip.eq(monitor.in_progress),
            bank.ecrsp.sc.eq(monitor.status),
            bank.frzsts.frz.eq(monitor.frozen.replicate(MONITORS)),
            monitor.turned.eq(counters.turned),
            *(mine.eq(its) for mine, its in zip(counters.increments, monitor.increments, strict=True)),
        ]
        for number, (its, configuration) in enumerate(zip(monitor.configurations, configurations, strict=True)):
            m.d.comb += [
                its.es.eq(configuration.es),
                its.egi.eq(configuration.egi),
                its.gfo.eq(configuration.gfo),
                configuration.en.eq(monitor.enabled[number]),
                configuration.locked.eq(monitor.enabled[number]),
                getattr(bank.ovfsts, f"ovf{number}_set").eq(counters.overflows[number]),
            ]
        interrupting = Cat(configuration.io for configuration in configurations)
        m.d.comb += bank.perfintrsts.pis_set.eq((counters.overflows & interrupting).any())
        events, counted = monitor.events, self.counted
        m.d.comb += [
            events.requests.eq(self.requested),
            events.memory_reads.eq(self.memory_read),
            events.iotlb_lookups.eq(counted.iotlb_lookups),
            events.iotlb_hits.eq(counted.iotlb_4k_hits | counted.iotlb_2m_hits | counted.iotlb_1g_hits),
        ]
        if self._cfg.page_requests:
            m.d.comb += events.page_requests.eq(self.page_requests.queued)

    def _virtual_commands(self, m: Module, bank: RegisterBank):
        m.submodules.virtual_commands = commands = VirtualCommands(self._cfg)
        m.d.comb += [
            commands.start.eq(bank.vcmd.cmd_written),
            commands.command.eq(bank.vcmd.cmd),
            commands.pasid.eq(bank.vcmd.oa),
            bank.vcmd.locked.eq(commands.in_progress),
            bank.vcmd_eo.locked.eq(commands.in_progress),
            bank.vcrsp.ip.eq(commands.in_progress),
            bank.vcrsp.sc.eq(commands.status),
            bank.vcrsp.rslt.eq(commands.result),
        ]
