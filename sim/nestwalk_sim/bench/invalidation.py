"""What software costs: `invalidate_under_load` and `bind_churn`."""

from dataclasses import dataclass
from typing import ClassVar

import cocotb
import numpy as np
from cocotb.task import Task

from ..host.device import Device
from ..host.guest import Process
from ..host.transport import Transport
from ..host.vmm import VirtualMachine
from ..host.vtd.descriptors import PasidIotlbInvalidate
from ..host.vtd.unit import Iommu
from ..memory import PAGE_SIZE
from ..model import Access
from ..rtl.driver import Queue
from ..rtl.memory import MemoryTiming
from ..rtl.records import REQUEST
from ..rtl.transport import BenchTransport
from .platform import GIB, MIB, Requests, Tenant
from .session import Outcome, Session, Workload
from .stream import sequential

__all__ = ["BindChurn", "InvalidateUnderLoad"]


@dataclass(frozen=True)
class InvalidateUnderLoad(Workload):
    """A page-selective PASID-based invalidation and a wait every 64 requests amid hits.

    Software unmaps a page that the unit has cached, queues the descriptors and goes on: the next invalidation does
    not wait for the one before. In the end every page unmapped must be blocked.
    """

    name: ClassVar[str] = "invalidate_under_load"
    working_set: int = 512
    rounds: int = 512
    period: int = 64
    latencies: tuple[int, ...] = (100, 30)

    async def run(self, session: Session) -> Outcome:
        """The figures without a latency in their name are those of the first."""
        outcome = Outcome()
        platform = session.platform()
        tenant = platform.add_tenant()
        pages = tenant.map_scattered(GIB, self.working_set)
        doomed = [tenant.map_scattered(GIB, self.rounds) for _ in self.latencies]
        queue = None
        for latency, victims in zip(self.latencies, doomed, strict=True):
            if queue is None:
                await session.start(platform, latency)
                queue = await session.start_queue(platform)
            session.bench.memory.timing = MemoryTiming(latency=latency)
            await session.warm_up(Requests.gather([pages, victims]))
            rate, waits = await self._measure(session, queue, tenant, pages, victims)
            await session.check_blocked(victims)
            suffix = "" if latency == self.latencies[0] else f"_L{latency}"
            outcome.figures[f"requests_per_cycle{suffix}"] = round(rate, 4)
            outcome.figures[f"wait_cycles{suffix}"] = round(float(np.mean(waits)), 1)
            outcome.figures[f"wait_cycles_worst{suffix}"] = float(max(waits))
            outcome.count(f"wait{suffix}", waits)
            alone = await self._invalidate(session, queue, tenant, int(victims.records["address"][0]))
            outcome.figures[f"wait_cycles_alone{suffix}"] = float(alone)
        return outcome

    async def _measure(
        self, session: Session, queue: Queue, tenant: Tenant, pages: Requests, victims: Requests
    ) -> tuple[float, list[int]]:
        """Requests per cycle and the time of each wait."""
        parts = [pages.take(session.rng.integers(len(pages), size=self.period)) for _ in range(self.rounds)]
        batches = [session.submit(part) for part in parts]
        waits: list[Task] = []
        timings = []
        for number, (batch, part) in enumerate(zip(batches, parts, strict=True)):
            timings.append(await session.finish(batch, part))
            if number >= queue.room:
                await waits[number - queue.room]
            address = int(victims.records["address"][number])
            session.bench.memory.write64(tenant.first.path(address)[-1].host, 0)
            waits.append(cocotb.start_soon(self._invalidate(session, queue, tenant, address)))
        first = min(int(timing.accepted.min()) for timing in timings)
        last = max(int(timing.answered.max()) for timing in timings)
        return self.period * self.rounds / (last - first + 1), [await wait for wait in waits]

    async def _invalidate(self, session: Session, queue: Queue, tenant: Tenant, address: int) -> int:
        """Cycles from the write of the tail register to the visible status."""
        start = session.bench.now()
        return await queue.submit([PasidIotlbInvalidate(tenant.domain_id, tenant.pasid, address)]) - start


@dataclass(frozen=True)
class BindChurn(Workload):
    """A guest's PASID bound to a device and unbound again and again (R2, R3) while another guest's device streams.

    The host stack does all of it; its own instructions take no time, its register accesses and waits do.
    """

    name: ClassVar[str] = "bind_churn"
    rounds: int = 128
    buffer: int = 128
    """Pages that the other device streams through, over and over."""
    latency: int = 100

    async def run(self, session: Session) -> Outcome:
        """Binds per million cycles, and the streaming tenant's requests per cycle meanwhile."""
        bench, rng = session.bench, session.rng
        bench.memory.timing = MemoryTiming(latency=self.latency)
        transport: Transport = BenchTransport(bench, 8 * MIB)
        iommu = await Iommu.create(transport, MIB, 7 * MIB)
        await iommu.enable()
        numbers = rng.choice(1 << 16, size=2, replace=False).tolist()
        streaming, churning = (
            Device(number, name) for number, name in zip(numbers, ("streams", "churns"), strict=True)
        )
        await iommu.add_device(streaming)
        await iommu.add_device(churning)
        tenant = await VirtualMachine.create(iommu, "tenant", 4 * GIB, self.buffer + 16)
        other = await VirtualMachine.create(iommu, "other", 4 * GIB, 16)
        pages = await self._buffer(session, tenant, streaming)
        process = await other.guest.spawn(int(rng.integers(1, 1 << 20)))
        await process.map(int(rng.integers(1, 1 << 35)) * PAGE_SIZE)

        lines = sequential(pages)
        await session.warm_up(lines)
        requests = lines.take(np.tile(np.arange(len(lines)), 1 + self.rounds * 8192 // len(lines)))
        batch = session.submit(requests)
        start = bench.now()
        for _ in range(self.rounds):
            await other.bind(churning, process)
            await other.unbind(churning, process.pasid)
        cycles = bench.now() - start
        batch.cancel()
        timing = await session.finish(batch, requests)
        if len(timing.accepted) == len(requests):
            raise ValueError("the stream ended before the last unbind")
        return Outcome(
            {
                "binds_per_mcycle": round(1e6 * self.rounds / cycles, 2),
                "tenant_requests_per_cycle": round(timing.rate, 4),
            }
        )

    async def _buffer(self, session: Session, machine: VirtualMachine, device: Device) -> Requests:
        """Bind a process with a buffer of consecutive pages; a read of each page."""
        process: Process = await machine.guest.spawn(int(session.rng.integers(1, 1 << 20)))
        start = int(session.rng.integers(1, 1 << 34)) * PAGE_SIZE
        records = np.zeros(self.buffer, REQUEST)
        hosts = np.zeros(self.buffer, np.uint64)
        for page in range(self.buffer):
            guest_page = await process.map(start + page * PAGE_SIZE)
            records["address"][page], hosts[page] = start + page * PAGE_SIZE, machine.guest.memory.frames[guest_page]
        records["source_id"], records["pasid_valid"] = device.source_id, 1
        records["pasid"] = await machine.bind(device, process)
        records["access"] = Access.READ
        return Requests(records, hosts)
