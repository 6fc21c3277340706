"""The ``ats`` port: messages between devices and the unit, with the bits of PCIe (§10)."""

from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out, Signature

from ..config import IommuConfig

__all__ = ["AtsSignature", "PageRequest", "PageResponse"]


class PageRequest(data.Struct):
    """Page Request message.

    Bits 63:0 are its payload, bits 85:64 those of the PASID prefix (21:0); they count where ``pasid_valid``, and are 0
    without. ``page`` is address[63:12]; ``source_id`` the requester id.
    """

    read: 1
    write: 1
    last: 1
    group: 9
    page: 52
    pasid: 20
    execute: 1
    privileged: 1
    pasid_valid: 1
    source_id: 16


class PageResponse(data.Struct):
    """PRG Response message.

    ``code`` is 0 for success, 1 for an invalid request, Fh for a failure; ``pasid`` counts where ``pasid_valid``, which
    is as the request had it: whether the device wants the PASID is known beyond the port. ``source_id`` is the device
    that it goes to.
    """

    group: 9
    code: 4
    pasid: 20
    pasid_valid: 1
    source_id: 16


class AtsSignature(Signature):
    """Message streams, seen from the unit.

    A message has been received when its transfer is done, and a completion that the unit receives later than that has
    pushed it.

    Members
    -------
    page_request : In(stream of PageRequest), with ``cfg.page_requests``
    page_response : Out(stream of PageResponse), with ``cfg.page_requests``
        Those of one descriptor after the other in their order, automatic ones in between.
    """

    def __init__(self, cfg: IommuConfig):
        page_requests = {
            "page_request": In(stream.Signature(PageRequest)),
            "page_response": Out(stream.Signature(PageResponse)),
        }
        super().__init__(page_requests if cfg.page_requests else {})
