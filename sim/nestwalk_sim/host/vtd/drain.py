"""Draining what a device has asked for under a PASID before that is reused (S09, R5, §7.5)."""

from ..device import Device
from ..log import Trace
from .cache_tags import RID_PASID, device_tlb_flush
from .descriptors import Descriptor, IotlbInvalidate, PasidIotlbInvalidate, Wait
from .unit import Iommu

__all__ = ["drain"]


async def drain(iommu: Iommu, device: Device, pasid: int, trace: Trace) -> None:
    """Return when no page request of this device and PASID is under way any more; its entry is not present already,
    and nobody serves it.

    Requests that the unit has received are in the queue when the wait is done; they are answered here. When some were
    lost meanwhile, all begins anew. Nothing is to be done where ``undrained`` does not name the PASID, nor for a device
    that never asks or is gone.
    """
    state, requests = iommu.state_of(device), iommu.page_requests
    domain_id = state.undrained.get(pasid)
    lost = domain_id is not None and device.page_requests and not state.gone and requests.announced
    while lost and domain_id is not None:
        await requests.service()
        forget = IotlbInvalidate(domain_id) if pasid == RID_PASID else PasidIotlbInvalidate(domain_id, pasid)
        batch: list[Descriptor] = [Wait(fence=True), forget, *device_tlb_flush(iommu, device, pasid)]
        await iommu.queue.submit_sync(batch, trace, drain_page_requests=True)
        lost = await requests.overflowed()
        await requests.service()
    requests.faults.discard_partial(device, pasid)
    state.undrained.pop(pasid, None)
