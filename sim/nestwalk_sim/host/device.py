"""A device as the driver sees it."""

from dataclasses import dataclass

__all__ = ["Device"]


@dataclass(frozen=True)
class Device:
    """One function that issues DMA.

    Parameters
    ----------
    source_id : int
        Requester id: bus in bits 15:8, device and function below.
    name : str
        For logs.
    pci : bool
        Whether it is a PCI device at all; only those can be bound (S01).
    pasid_bits : int
        Width of its PASID capability; 0 for none.
    ats : bool
        Whether it keeps translations in a device TLB that has to be invalidated too.
    aux_domains : bool
        Whether it is shared by mediated devices through auxiliary domains (S02).
    page_requests : bool
        Whether it asks for pages, so that its requests have to be drained (S09).
    physical : int or None
        Requester id of the physical function, if it is a virtual one (SR-IOV): invalidations that go to it count
        against the physical function's queue.
    """

    source_id: int
    name: str
    pci: bool = True
    pasid_bits: int = 20
    ats: bool = False
    aux_domains: bool = False
    page_requests: bool = False
    physical: int | None = None

    def __str__(self) -> str:
        bus, slot, function = self.source_id >> 8, self.source_id >> 3 & 31, self.source_id & 7
        return f"{self.name} ({bus:02x}:{slot:02x}.{function})"
