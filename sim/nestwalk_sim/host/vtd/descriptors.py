"""Invalidation descriptors (§5.2): fields in the specification's words, packed into four 64-bit words."""

from dataclasses import dataclass
from typing import ClassVar, Protocol

__all__ = [
    "ContextCacheInvalidate",
    "Descriptor",
    "DeviceTlbInvalidate",
    "IotlbInvalidate",
    "PageGroupResponse",
    "PasidCacheInvalidate",
    "PasidDeviceTlbInvalidate",
    "PasidIotlbInvalidate",
    "WHOLE_RANGE",
    "Wait",
    "Words",
]

Words = tuple[int, int, int, int]
"""A 256-bit descriptor, lowest 64 bits first; a 128-bit descriptor has zeros in the upper two."""

WHOLE_RANGE = 0x7FFF_FFFF_FFFF_F000
"""Device-TLB address that means everything where the size bit S is 1 (§6.1)."""


class Descriptor(Protocol):
    """What the invalidation queue takes. ``str`` of it is what the command log shows."""

    def words(self) -> Words:
        """The descriptor as queued."""
        ...


def _address_word(address: int, address_mask: int, hint: bool) -> int:
    return address & ~0xFFF | hint << 6 | address_mask


def _range(address: int, address_mask: int, hint: bool) -> str:
    return f"address {address:#x} AM {address_mask}{' IH' if hint else ''}"


@dataclass(frozen=True)
class ContextCacheInvalidate:
    """``cc_inv``: global by default, the entries of one device, or those of one domain.

    ``function_mask`` (FM) leaves out up to three bits of the device's function number. The domain of a device counts in
    legacy mode only.
    """

    source_id: int | None = None
    domain_id: int | None = None
    function_mask: int = 0
    GLOBAL: ClassVar[int] = 1
    DOMAIN: ClassVar[int] = 2
    DEVICE: ClassVar[int] = 3

    def words(self) -> Words:
        head = 1 | (self.domain_id or 0) << 16
        if self.source_id is not None:
            return head | self.DEVICE << 4 | self.source_id << 32 | self.function_mask << 48, 0, 0, 0
        return head | (self.GLOBAL if self.domain_id is None else self.DOMAIN) << 4, 0, 0, 0

    def __str__(self) -> str:
        if self.source_id is not None:
            mask = f" FM {self.function_mask}" if self.function_mask else ""
            return f"cc_inv device {self.source_id:04x}{mask}"
        return "cc_inv global" if self.domain_id is None else f"cc_inv domain {self.domain_id}"


@dataclass(frozen=True)
class PasidCacheInvalidate:
    """``pc_inv``: global by default, one domain, or one PASID within a domain."""

    domain_id: int | None = None
    pasid: int | None = None

    def words(self) -> Words:
        if self.domain_id is None:
            return 7 | 3 << 4, 0, 0, 0
        if self.pasid is None:
            return 7 | self.domain_id << 16, 0, 0, 0
        return 7 | 1 << 4 | self.domain_id << 16 | self.pasid << 32, 0, 0, 0

    def __str__(self) -> str:
        if self.domain_id is None:
            return "pc_inv global"
        return f"pc_inv domain {self.domain_id}" + ("" if self.pasid is None else f" PASID {self.pasid}")


@dataclass(frozen=True)
class IotlbInvalidate:
    """``iotlb_inv``: global by default, one domain, or 2^``address_mask`` pages of a domain. Drains reads and
    writes.
    """

    domain_id: int | None = None
    address: int | None = None
    address_mask: int = 0
    hint: bool = False
    DRAIN: ClassVar[int] = 3 << 6

    def words(self) -> Words:
        head = 2 | self.DRAIN
        if self.domain_id is None:
            return head | 1 << 4, 0, 0, 0
        if self.address is None:
            return head | 2 << 4 | self.domain_id << 16, 0, 0, 0
        return head | 3 << 4 | self.domain_id << 16, _address_word(self.address, self.address_mask, self.hint), 0, 0

    def __str__(self) -> str:
        if self.domain_id is None:
            return "iotlb_inv global"
        if self.address is None:
            return f"iotlb_inv domain {self.domain_id}"
        return f"iotlb_inv domain {self.domain_id} {_range(self.address, self.address_mask, self.hint)}"


@dataclass(frozen=True)
class PasidIotlbInvalidate:
    """``p_iotlb_inv``: all of a PASID within a domain by default, or 2^``address_mask`` pages of it."""

    domain_id: int
    pasid: int
    address: int | None = None
    address_mask: int = 0
    hint: bool = False

    def words(self) -> Words:
        head = 6 | self.domain_id << 16 | self.pasid << 32
        if self.address is None:
            return head | 2 << 4, 0, 0, 0
        return head | 3 << 4, _address_word(self.address, self.address_mask, self.hint), 0, 0

    def __str__(self) -> str:
        text = f"p_iotlb_inv domain {self.domain_id} PASID {self.pasid}"
        return text if self.address is None else f"{text} {_range(self.address, self.address_mask, self.hint)}"


def _device_range(address: int | None, address_mask: int) -> tuple[int, bool]:
    """Address and size bit S of a device-TLB range: the ones below the lowest zero give its size (§5.2)."""
    if address is None:
        return WHOLE_RANGE, True
    return address | ((1 << max(address_mask, 1) >> 1) - 1) << 12, address_mask > 0


def _device_text(address: int | None, address_mask: int) -> str:
    return "whole range" if address is None else _range(address, address_mask, False)


@dataclass(frozen=True)
class DeviceTlbInvalidate:
    """``dev_tlb_inv``: what one device keeps of its requests-without-PASID, all by default, or 2^``address_mask``
    pages.
    """

    source_id: int
    address: int | None = None
    address_mask: int = 0

    def words(self) -> Words:
        address, size = _device_range(self.address, self.address_mask)
        return 3 | self.source_id << 32, address | size, 0, 0

    def __str__(self) -> str:
        return f"dev_tlb_inv device {self.source_id:04x} {_device_text(self.address, self.address_mask)}"


@dataclass(frozen=True)
class PasidDeviceTlbInvalidate:
    """``p_dev_tlb_inv``: what one device keeps of one PASID, all by default, or 2^``address_mask`` pages."""

    source_id: int
    pasid: int
    address: int | None = None
    address_mask: int = 0

    def words(self) -> Words:
        address, size = _device_range(self.address, self.address_mask)
        return 8 | self.source_id << 16 | self.pasid << 32, address | size << 11, 0, 0

    def __str__(self) -> str:
        what = f"p_dev_tlb_inv device {self.source_id:04x} PASID {self.pasid}"
        return f"{what} {_device_text(self.address, self.address_mask)}"


@dataclass(frozen=True)
class PageGroupResponse:
    """``page_grp_resp``: the answer to a group of page requests (§7.2), with the code RC: 0 success, 1 invalid request,
    Fh response failure.
    """

    source_id: int
    pasid: int | None
    group: int
    code: int

    def words(self) -> Words:
        pasid = 0 if self.pasid is None else 1 << 4 | self.pasid << 32
        return 9 | pasid | self.code << 12 | self.source_id << 16, self.group << 3, 0, 0

    def __str__(self) -> str:
        who = f"device {self.source_id:04x}" + ("" if self.pasid is None else f" PASID {self.pasid}")
        return f"page_grp_resp {who} group {self.group} code {self.code:x}h"


@dataclass(frozen=True)
class Wait:
    """``inv_wait``: everything before it is done. With a status address it then writes ``status``.

    ``fence`` holds back what is queued behind; ``drain_page_requests`` orders the status behind the page requests
    received before.
    """

    status_address: int | None = None
    status: int = 0
    fence: bool = False
    drain_page_requests: bool = False

    def words(self) -> Words:
        write = self.status_address is not None
        head = 5 | write << 5 | self.fence << 6 | self.drain_page_requests << 7 | self.status << 32
        return head, self.status_address or 0, 0, 0

    def __str__(self) -> str:
        flags = "".join([" fence" * self.fence, " page-request drain" * self.drain_page_requests])
        return f"inv_wait{flags}" + ("" if self.status_address is None else f" status {self.status:#x}")
