"""Tenants in memory: devices, guests, processes with nested 4-level over 4-level tables of 4 KiB pages."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np

from ..builders import (
    FirstStageTables,
    GuestSpace,
    HostSpace,
    ScalableTables,
    SecondStageTables,
    nested_fields,
)
from ..memory import PAGE_SIZE, Memory
from ..model import Access
from ..rtl.records import REQUEST

__all__ = ["GIB", "MIB", "Guest", "Platform", "Requests", "Tenant"]

MIB, GIB = 1 << 20, 1 << 30

_LEVELS = 4
_INPUT_BITS = 47
"""Canonical addresses of a user process."""

_TABLE_BITS = 27
"""Guest-physical addresses below 128 MiB hold page tables: what 64 GiB of mapped 4 KiB pages need."""

_DATA_START = 1 << 32
_DATA_END = 1 << 47
_PASIDS = 1 << 20
_ALL_PASIDS = 7  # PDTS
_FIRST_DOMAIN = 2


@dataclass(frozen=True)
class Requests:
    """Requests and the host address that each must get.

    Attributes
    ----------
    records : array of `REQUEST`
    hosts : array of uint64
    """

    records: np.ndarray
    hosts: np.ndarray

    def __len__(self) -> int:
        return len(self.records)

    def take(self, order: np.ndarray) -> "Requests":
        """The requests with these numbers, in this order."""
        return Requests(self.records[order], self.hosts[order])

    @classmethod
    def gather(cls, parts: "Sequence[Requests]") -> "Requests":
        """The requests of all parts, one part after the other."""
        return cls(np.concatenate([part.records for part in parts]), np.concatenate([part.hosts for part in parts]))


class Guest:
    """A machine: guest-physical memory behind a second stage.

    Parameters
    ----------
    space : HostSpace
        Host memory.
    random : Random
    """

    def __init__(self, space: HostSpace, random: Random):
        self._space = space
        self.second = SecondStageTables(space, _LEVELS)
        self.tables = GuestSpace(self.second, _TABLE_BITS, random)
        self._next_window = _DATA_START

    def window(self, size: int) -> int:
        """Unused guest-physical addresses of ``size`` bytes (a power of two), aligned to it."""
        start = -(-self._next_window // size) * size
        self._next_window = start + size
        if self._next_window > _DATA_END:
            raise ValueError(f"no window of {size:#x} bytes is left in guest-physical memory")
        return start

    def back(self, address: int) -> int:
        """Put a host page behind a guest-physical page; its host address. Nothing reads the page itself."""
        host = self._space.unused()
        self.second.map(address, host)
        return host


class Tenant:
    """One PASID of one device.

    Parameters
    ----------
    guest : Guest
        Whose process it is.
    first : FirstStageTables
        Its tables.
    random : Random
    source_id, pasid : int
        What its requests carry.
    domain_id : int
        What its translations are tagged with.
    """

    def __init__(
        self, guest: Guest, first: FirstStageTables, random: Random, source_id: int, pasid: int, domain_id: int
    ):
        self.first = first
        self.source_id, self.pasid, self.domain_id = source_id, pasid, domain_id
        self._guest = guest
        self._random = random

    def map_pages(self, span: int, pages: Sequence[int]) -> Requests:
        """Map pages of a region that lies anywhere in the process, and in one piece in guest-physical memory.

        Parameters
        ----------
        span : int
            Size of the region in bytes, a power of two.
        pages : sequence of int
            Which of its pages are mapped, by number.

        Returns
        -------
        Requests
            One read of each page, in the order of ``pages``.
        """
        start = self._random.randrange(1, (1 << _INPUT_BITS) // span) * span
        window = self._guest.window(span)
        hosts = []
        for page in pages:
            hosts.append(self._guest.back(window + page * PAGE_SIZE))
            self.first.map(start + page * PAGE_SIZE, window + page * PAGE_SIZE)
        records = np.zeros(len(hosts), REQUEST)
        records["source_id"], records["pasid"], records["pasid_valid"] = self.source_id, self.pasid, 1
        records["access"] = Access.READ
        records["address"] = start + np.fromiter(pages, np.uint64) * PAGE_SIZE
        return Requests(records, np.array(hosts, np.uint64))

    def map_scattered(self, span: int, count: int) -> Requests:
        """As `map_pages` with ``count`` different pages drawn from the region, in random order."""
        return self.map_pages(span, self._random.sample(range(span // PAGE_SIZE), count))


class Platform:
    """Memory with everything that the unit reads.

    Parameters
    ----------
    seed : str
        Of pages, PASIDs, requester ids and where everything lies.
    haw : int
        Host address width in bits.
    compact : bool
        Use host memory from 16 MiB on, page by page, instead of all of it.
    """

    def __init__(self, seed: str, haw: int = 52, *, compact: bool = False):
        self.random = Random(seed)
        self.memory = Memory()
        self.space = HostSpace(self.memory, haw, None if compact else self.random)
        self.tables = ScalableTables(self.space)
        self._devices: set[int] = set()
        self._pasids: set[tuple[int, int]] = set()

    def add_device(self) -> int:
        """A device that may use every PASID; its requester id."""
        source_id = self.random.choice(sorted(set(range(1 << 16)) - self._devices))
        self._devices.add(source_id)
        self.tables.add_device(source_id, _ALL_PASIDS, PASIDE=1)
        return source_id

    def add_guest(self) -> Guest:
        """A machine with a second stage of its own."""
        return Guest(self.space, self.random)

    def _new_pasid(self, source_id: int) -> int:
        """A PASID that the device has no entry for yet."""
        while True:
            pasid = self.random.randrange(1, _PASIDS)
            if (source_id, pasid) not in self._pasids:
                self._pasids.add((source_id, pasid))
                return pasid

    def add_entry(self, source_id: int, **fields: int) -> tuple[int, int]:
        """A PASID entry with a domain of its own; its PASID and domain identifier."""
        domain_id = _FIRST_DOMAIN + len(self._pasids)
        pasid = self._new_pasid(source_id)
        self.tables.add_pasid(source_id, pasid, DID=domain_id, **fields)
        return pasid, domain_id

    def add_tenant(self, source_id: int | None = None, guest: Guest | None = None) -> Tenant:
        """A process of a guest, bound to a PASID of a device; both are new unless given."""
        source_id = self.add_device() if source_id is None else source_id
        guest = guest or self.add_guest()
        first = FirstStageTables(guest.tables, _LEVELS)
        pasid, domain_id = self.add_entry(source_id, **nested_fields(first, guest.second))
        return Tenant(guest, first, self.random, source_id, pasid, domain_id)
