"""Page requests, first part: draining what a device has asked for under a PASID before that is reused (S09, R5)."""

from ..device import Device
from ..log import Trace
from .cache_tags import RID_PASID, device_tlb_flush
from .descriptors import Descriptor, IotlbInvalidate, PasidIotlbInvalidate, Wait
from .unit import Iommu

__all__ = ["drain"]


async def drain(iommu: Iommu, device: Device, pasid: int, trace: Trace) -> None:
    """Return when no page request of this device and PASID is under way any more; its entry is not present already.

    Nothing is to be done where ``undrained`` does not name it, nor for a device that never asks or is gone.
    """
    state = iommu.state_of(device)
    domain_id = state.undrained.get(pasid)
    if domain_id is not None and device.page_requests and not state.gone:
        forget = IotlbInvalidate(domain_id) if pasid == RID_PASID else PasidIotlbInvalidate(domain_id, pasid)
        batch: list[Descriptor] = [Wait(fence=True), forget, *device_tlb_flush(iommu, device, pasid)]
        await iommu.queue.submit_sync(batch, trace, drain_page_requests=True)
    state.undrained.pop(pasid, None)
