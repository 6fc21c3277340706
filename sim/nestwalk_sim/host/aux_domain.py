"""Auxiliary domains and the mediated devices that use them (S16, S17): several address spaces on one parent, told apart
by PASID.
"""

import errno
from collections.abc import Iterator

from .device import Device
from .domain import PagingDomain
from .errors import IommuError, require

__all__ = ["AuxDomain", "Mdev", "attach_mdev", "detach_mdev"]


class AuxDomain:
    """A domain attached to parents of mediated devices, on all of them under the same PASID.

    Parameters
    ----------
    domain : PagingDomain
        The address space.

    ``users`` counts the attachments to each parent; ``mdevs`` are the mediated devices that have it as their domain.
    ``pasid`` is None while no parent is attached.
    """

    def __init__(self, domain: PagingDomain):
        self.domain = domain
        self.users: dict[Device, int] = {}
        self.mdevs: list[Mdev] = []
        self.pasid: int | None = None

    async def attach(self, parent: Device) -> None:
        """`iommu_aux_attach_device`: the first one writes the entry, more of them count.

        Raises
        ------
        IommuError
            EPERM for a device without auxiliary domains, ENODEV when there is no PASID for it, else as
            `IommuDomain.attach`; nothing has changed then.
        """
        require(parent.aux_domains, f"{parent} has no auxiliary domains", errno.EPERM)
        if parent in self.users:
            self.users[parent] += 1
            return
        if self.pasid is None:
            try:
                self.pasid = self.domain.iommu.ioasids.allocate(self.domain.owner)
            except IommuError as error:
                raise IommuError(errno.ENODEV, f"no PASID for {parent}: {error}") from error
        try:
            await self.domain.attach(parent, self.pasid)
        except IommuError:
            self._put_pasid()
            raise
        self.users[parent] = 1

    async def detach(self, parent: Device) -> bool:
        """`iommu_aux_detach_device`; the last one of a parent tears the entry down, the last parent takes the PASID.

        Returns
        -------
        bool
            Whether it was attached.

        Raises
        ------
        IommuError
            EBUSY while a mediated device of the parent would lose its last attachment.
        """
        if parent not in self.users or self.pasid is None:
            return False
        if self.users[parent] > 1:
            self.users[parent] -= 1
            return True
        require(not any(mdev.parent is parent for mdev in self.mdevs), f"mediated devices use {parent}", errno.EBUSY)
        await self.domain.detach(parent, self.pasid)
        del self.users[parent]
        self._put_pasid()
        return True

    def pasid_on(self, parent: Device) -> int:
        """`iommu_aux_get_pasid`; ENODEV when it is not attached there."""
        if parent not in self.users or self.pasid is None:
            raise IommuError(errno.ENODEV, f"the domain is not attached to {parent}")
        return self.pasid

    def problems(self) -> Iterator[str]:
        """What an auditor has to say of it (I8): each group's domain rests on exactly one attachment below."""
        taken = self.domain.iommu.ioasids.allocated.get(self.pasid or 0)
        if self.pasid is not None and (taken is None or taken.owner is not self.domain.owner):
            yield f"I7: an auxiliary domain uses PASID {self.pasid}, which is not its owner's"
        if (self.pasid is None) != (not self.users):
            yield "I7: an auxiliary domain keeps a PASID without a parent, or the reverse"
        for mdev in self.mdevs:
            if mdev.domain is not self:
                yield f"I8: {mdev.name} is attached, but its group does not know the domain"

    def _put_pasid(self) -> None:
        """The number is forgotten with the last parent: by the next attach it may be somebody else's."""
        if not self.users and self.pasid is not None:
            self.domain.iommu.ioasids.free(self.domain.owner, self.pasid)
            self.pasid = None


class Mdev:
    """A mediated device: a part of a parent that tags its DMA with one PASID. It is alone in its group.

    Parameters
    ----------
    name : str
        For people.
    parent : Device
        Whose requester id its DMA carries.
    pasid : int
        The PASID that the parent gave it.

    ``domain`` is the group's domain; only `attach_mdev` and `detach_mdev` change it.
    """

    def __init__(self, name: str, parent: Device, pasid: int):
        self.name = name
        self.parent = parent
        self.pasid = pasid
        self._domain: AuxDomain | None = None

    @property
    def domain(self) -> AuxDomain | None:
        """`iommu_get_domain_for_dev`."""
        return self._domain

    def problems(self) -> Iterator[str]:
        """What an auditor has to say of it (I8)."""
        if self._domain is not None and self not in self._domain.mdevs:
            yield f"I8: the group of {self.name} has a domain that was never attached"

    def destroy(self) -> None:
        """Take the mediated device apart; EBUSY while it has a domain."""
        require(self._domain is None, f"{self.name} is attached", errno.EBUSY)


def attach_mdev(aux: AuxDomain, mdev: Mdev) -> None:
    """Make an auxiliary domain the domain of a mediated device. Nothing is sent: its parent is attached already.

    Raises
    ------
    IommuError
        ENODEV when the domain is not attached to its parent, EINVAL when the PASIDs differ, EBUSY when its group has a
        domain.
    """
    pasid = aux.pasid_on(mdev.parent)
    require(mdev.pasid == pasid, f"{mdev.name} uses PASID {mdev.pasid}, the domain has {pasid}")
    require(mdev.domain is None, f"{mdev.name} has a domain", errno.EBUSY)
    mdev._domain = aux
    aux.mdevs.append(mdev)


def detach_mdev(mdev: Mdev) -> bool:
    """Take its domain from a mediated device; whether it had one."""
    aux = mdev.domain
    if aux is None or mdev not in aux.mdevs:
        return False
    aux.mdevs.remove(mdev)
    mdev._domain = None
    return True
