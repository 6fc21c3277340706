"""Historical bugs of page requests (host-software reference, 5.1), as switches that put them back."""

from dataclasses import replace

from nestwalk_sim.host.iopf import IopfQueue
from nestwalk_sim.host.vtd import drain, pasid, prq
from nestwalk_sim.host.vtd.prq import PageRequestQueue
from nestwalk_sim.host.vtd.tables import PasidTable
from sim.tests.host.bugs import Bug, Patch, nothing

__all__ = ["REQUEST_BUGS"]


def _no_drain(patch: Patch) -> None:
    patch.setattr(pasid, "drain", nothing)


def _no_drain_without_pasid(patch: Patch) -> None:
    async def draining(iommu, device, number, trace) -> None:
        if number != pasid.RID_PASID:
            await drain.drain(iommu, device, number, trace)

    patch.setattr(pasid, "drain", draining)


def _no_drain_of_defunct(patch: Patch) -> None:
    clear = PasidTable.clear

    async def cleared(table: PasidTable, number: int, *, disable_faults: bool = False) -> None:
        await clear(table, number, disable_faults=disable_faults)
        if disable_faults:
            forgotten.add(number)

    async def draining(iommu, device, number, trace) -> None:
        if number not in forgotten:
            await drain.drain(iommu, device, number, trace)

    forgotten: set[int] = set()
    patch.setattr(PasidTable, "clear", cleared)
    patch.setattr(pasid, "drain", draining)


def _handler_left_behind(patch: Patch) -> None:
    patch.setattr(IopfQueue, "withdraw", nothing)


def _device_looked_up_without_care(patch: Patch) -> None:
    patch.setattr(PageRequestQueue, "_refuse_stranger", nothing)


def _stop_marker_as_a_request(patch: Patch) -> None:
    patch.setattr(prq, "_is_stop_marker", lambda fault: False)


def _response_without_its_pasid(patch: Patch) -> None:
    response = prq.PageGroupResponse
    patch.setattr(prq, "PageGroupResponse", lambda who, _pasid, group, code: response(who, None, group, code))


def _address_as_page_number(patch: Patch) -> None:
    decode = prq.decode
    patch.setattr(prq, "decode", lambda *record: replace(decode(*record), address=decode(*record).address >> 12))


def _groups_told_apart_by_index_alone(patch: Patch) -> None:
    report = IopfQueue.report
    first: dict[int, int | None] = {}

    async def mixed(faults: IopfQueue, fault, *, valid: bool = True) -> None:
        pasid = first.setdefault(fault.group, fault.pasid)
        if fault.last:
            del first[fault.group]
        await report(faults, replace(fault, pasid=pasid), valid=valid)

    patch.setattr(IopfQueue, "report", mixed)


def _partial_groups_survive_an_overflow(patch: Patch) -> None:
    discard = IopfQueue.discard_partial

    def some(faults: IopfQueue, device=None, number=None) -> None:
        if device is not None:
            discard(faults, device, number)

    patch.setattr(IopfQueue, "discard_partial", some)


REQUEST_BUGS = [
    Bug(1, "no drain of page requests at unbind", _no_drain, "R5"),
    Bug(2, "no drain when a domain leaves the RID", _no_drain_without_pasid, "R5"),
    Bug(3, "no drain of what was defunct", _no_drain_of_defunct, "R5"),
    Bug(4, "domain gone, faults still with its handler", _handler_left_behind, "I9"),
    Bug(5, "requester id of a page request not looked after", _device_looked_up_without_care, "I5"),
    Bug(6, "stop marker answered", _stop_marker_as_a_request, "I5"),
    Bug(7, "response without what the request had", _response_without_its_pasid, "AssertionError: I5"),
    Bug(8, "page address taken as page number", _address_as_page_number, "DmaFault"),
    Bug(9, "groups told apart by their index alone", _groups_told_apart_by_index_alone, "I5"),
    Bug(11, "partial groups survive an overflow", _partial_groups_survive_an_overflow, "I5"),
]
