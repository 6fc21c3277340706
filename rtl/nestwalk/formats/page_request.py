"""Page requests as the unit writes them to the page request queue (§7.2)."""

from amaranth.hdl import Value

from .structure import Structure, check_width

__all__ = ["PageRequestDescriptor"]


class PageRequestDescriptor(Structure):
    """page_req_dsc, 256 bits, type 1. ``address`` is the page, address[63:12]; PASID counts where PP is set."""

    type: 8
    pp: 1
    rsvd0: 7
    rid: 16
    pasid: 20
    exr: 1
    pmr: 1
    rsvd1: 10
    rdr: 1
    wrr: 1
    lpig: 1
    prgi: 9
    address: 52
    rsvd2: 128

    def is_stop_marker(self) -> Value:
        """Last of its group, with PASID, asking for nothing: needs no response (§7.1)."""
        return self.lpig & self.pp & ~self.rdr & ~self.wrr


check_width(PageRequestDescriptor, 256)
