"""More of the stack's everyday life: devices that ask for pages, one that is pulled out, and one that is shared."""

from typing import Protocol

from nestwalk_sim.host.audit import Auditor
from nestwalk_sim.host.aux_domain import AuxDomain
from nestwalk_sim.host.device import Device
from nestwalk_sim.host.domain import PagingDomain
from nestwalk_sim.host.endpoint import Endpoint
from nestwalk_sim.host.guest import READ_WRITE
from nestwalk_sim.host.ioasid import IoasidSet
from nestwalk_sim.host.iopf import IopfGroup
from nestwalk_sim.host.mm import Mm
from nestwalk_sim.host.page_requester import PageRequester
from nestwalk_sim.host.vtd.sva import SvaProcesses, sva_bind_device, sva_unbind_device
from nestwalk_sim.model.page_request import PageRequest
from sim.tests.host.bringup import Platform

__all__ = ["PRINTER", "SHARED", "pages_on_demand", "shared_parent"]

PAGE = 4096
HEAP = 0x7F00_1000_0000
PRINTER = Device(0x0418, "printer", ats=True, page_requests=True)
SHARED = Device(0x0520, "shared", ats=True, aux_domains=True)


class Day(Protocol):
    """What these parts need of the day that they belong to."""

    platform: Platform
    auditor: Auditor
    complaints: list[str]

    async def look(self) -> None:
        """All is quiet now."""
        ...


class _Slow:
    """A handler that sits on its groups."""

    def __init__(self):
        self.groups: list[IopfGroup] = []

    async def handle(self, group: IopfGroup) -> None:
        self.groups.append(group)


def _requester(day: Day, device: Device) -> tuple[Endpoint, PageRequester]:
    platform = day.platform
    requester = PageRequester(device, platform.transport, platform.iommu.page_requests.service)
    tlb = platform.transport.device_tlb(device.source_id)
    return Endpoint(device, platform.transport, platform.iommu.pages.memory, tlb, requester), requester


async def pages_on_demand(day: Day) -> None:
    """A printer faults pages in, ends its use of a PASID with a stop marker, floods the queue, loses its domain with
    requests pending, and is pulled out with one in the queue.
    """
    iommu, transport = day.platform.iommu, day.platform.transport
    await iommu.add_device(PRINTER)
    printer, requester = _requester(day, PRINTER)
    processes, mm = SvaProcesses(iommu), await Mm.create(iommu.pages)
    for number in range(4):
        mm.reserve(HEAP + number * PAGE)
    handle = await sva_bind_device(processes, PRINTER, mm)
    await printer.write(HEAP, b"a line that is printed", handle.pasid)
    await transport.request_page(PageRequest(PRINTER.source_id, handle.pasid, 0, False, False, True, 300))
    await iommu.page_requests.service()
    await day.look()

    domain = await PagingDomain.create(iommu, IoasidSet("printer"))
    slow = domain.fault_handler = _Slow()
    await domain.attach(PRINTER)
    for last in (False, True):
        for pasid, at in ((None, 16), (handle.pasid, 1)):
            page = HEAP + (at + last) * PAGE
            await transport.request_page(PageRequest(PRINTER.source_id, pasid, page, True, False, last, 301))
    await iommu.page_requests.service()
    for group in list(slow.groups):
        if [fault.address for fault in group.faults] != [HEAP + 16 * PAGE, HEAP + 17 * PAGE]:
            day.complaints.append("I5: a group has other pages than its device asked for")
    await requester.send([HEAP], None, write=True)
    await iommu.page_requests.service()
    await domain.detach(PRINTER)
    transport.page_responses(PRINTER.source_id)
    await day.look()

    await transport.request_page(PageRequest(PRINTER.source_id, handle.pasid, HEAP + 99 * PAGE, True, True, False, 302))
    number = 0
    while not await iommu.page_requests.overflowed():
        await transport.request_page(PageRequest(PRINTER.source_id, handle.pasid, HEAP, True, False, True, number))
        number += 1
    await iommu.page_requests.service()
    await transport.request_page(PageRequest(PRINTER.source_id, handle.pasid, HEAP + PAGE, True, False, True, 302))
    await iommu.page_requests.service()
    if [answer.code for answer in transport.page_responses(PRINTER.source_id)] != [0] * (number + 1):
        day.complaints.append("I5: the flood was not answered as it came")
    await day.look()

    await requester.send([HEAP], handle.pasid, write=True)
    state = iommu.contexts.devices.pop(PRINTER.source_id)
    await iommu.page_requests.service()
    iommu.contexts.devices[PRINTER.source_id] = state
    await sva_unbind_device(processes, handle)
    await mm.exit()
    await domain.destroy()
    await day.look()


async def shared_parent(day: Day) -> None:
    """A shared device has an auxiliary domain attached twice and detached as often; meanwhile somebody else takes the
    PASID that became free; then it is attached again.
    """
    iommu = day.platform.iommu
    await iommu.add_device(SHARED)
    domain = await PagingDomain.create(iommu, IoasidSet("mediated"))
    page = await iommu.pages.allocate()
    await domain.map(HEAP, page, PAGE, READ_WRITE)
    aux, (endpoint, _) = AuxDomain(domain), _requester(day, SHARED)
    day.auditor.also.append(aux.problems)
    for _ in range(2):
        await aux.attach(SHARED)
    await endpoint.write(HEAP, b"shared", aux.pasid)
    for _ in range(2):
        await aux.detach(SHARED)
    await day.look()
    thief = IoasidSet("thief")
    stolen = iommu.ioasids.allocate(thief)
    await aux.attach(SHARED)
    await endpoint.write(HEAP, b"shared", aux.pasid)
    await day.look()
    await aux.detach(SHARED)
    iommu.ioasids.free(thief, stolen)
    await domain.destroy()
    await day.look()
