"""vDPA (S23): virtqueues of one parent whose DMA is all tagged with one PASID, in an address space of its own."""

import errno

from .device import Device
from .domain import PagingDomain
from .endpoint import Endpoint
from .errors import IommuError, require
from .ioasid import Ioasid, IoasidSet
from .vtd.unit import Iommu

__all__ = ["VdpaDevice"]

HOLDER = "vdpa"


class VdpaDevice:
    """One instance on a parent.

    Parameters
    ----------
    iommu : Iommu
        The unit before the parent.
    parent : Device
        Whose requester id the virtqueues' DMA carries.
    endpoint : Endpoint
        The parent's DMA engine.
    owner : IoasidSet
        Whose the instance is: no other PASIDs can be set.

    ``running`` tells whether the virtqueues do DMA.
    """

    def __init__(self, iommu: Iommu, parent: Device, endpoint: Endpoint, owner: IoasidSet):
        require(parent.pasid_bits, f"{parent} has no PASIDs", errno.EOPNOTSUPP)
        self._iommu = iommu
        self._parent = parent
        self._endpoint = endpoint
        self._owner = owner
        self._ioasid: Ioasid | None = None
        self._domain: PagingDomain | None = None
        self.running = False

    @property
    def pasid(self) -> int | None:
        """The PASID of all virtqueues."""
        return None if self._ioasid is None else self._ioasid.pasid

    def holds(self, pasid: int) -> int:
        """References to a host PASID."""
        return int(self.pasid == pasid)

    def set_pasid(self, pasid: int | None) -> None:
        """Choose the PASID of all virtqueues, or none.

        Raises
        ------
        IommuError
            EBUSY while they run or an address space is set, ENOENT for a PASID that is not allocated, EACCES for one of
            another set.
        """
        require(not self.running and self._domain is None, "the virtqueues are in use", errno.EBUSY)
        ioasids, old = self._iommu.ioasids, self._ioasid
        self._ioasid = None if pasid is None else ioasids.get(self._owner, pasid, HOLDER)
        if old is not None:
            ioasids.put(old, HOLDER)

    async def set_map(self, domain: PagingDomain) -> None:
        """Choose the address space; one that is set is replaced.

        Raises
        ------
        IommuError
            EINVAL without a PASID, EACCES for an address space of another owner, else as `IommuDomain.attach`; nothing
            has changed then.
        """
        if self.pasid is None:
            raise IommuError(errno.EINVAL, "the virtqueues have no PASID")
        require(domain.owner is self._owner, "the address space is somebody else's", errno.EACCES)
        if self._domain is None:
            await domain.attach(self._parent, self.pasid)
        else:
            await domain.replace(self._parent, self._domain, self.pasid)
        self._domain = domain

    def start(self) -> None:
        """Let the virtqueues run; EINVAL without an address space."""
        require(self._domain is not None, "the virtqueues have no address space")
        self.running = True

    async def kick(self, ring: int, content: bytes) -> None:
        """A virtqueue writes to memory; EINVAL while they do not run."""
        require(self.running, "the virtqueues do not run")
        await self._endpoint.write(ring, content, self.pasid)

    async def reset(self) -> None:
        """Stop DMA, then take the address space away, which drains what is under way."""
        self.running = False
        if self._domain is not None and self.pasid is not None:
            await self._domain.detach(self._parent, self.pasid)
            self._domain = None
