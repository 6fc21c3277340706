"""Structures of iommufd's calls as they lie in a user's memory (host-software reference 4.5), and their growth."""

import errno
import struct
from dataclasses import dataclass

from ..errors import require

__all__ = ["COMMANDS", "HWPT_VTD_S1", "VTD_S1_INVALIDATE", "Structure"]

CODES = {"H": 2, "I": 4, "Q": 8}
"""Bytes of each kind of field, by its letter."""


@dataclass(frozen=True)
class Structure:
    """A structure: its fields in their order, each with its letter, and the size of its first version."""

    name: str
    fields: tuple[tuple[str, str], ...]
    minimum: int

    @property
    def size(self) -> int:
        """Bytes of the newest version."""
        return sum(CODES[code] for _, code in self.fields)

    def unpack(self, content: bytes) -> dict[str, int]:
        """The fields' values; what is not given is 0."""
        content = content[: self.size].ljust(self.size, b"\0")
        names = [name for name, _ in self.fields]
        return dict(zip(names, struct.unpack("<" + self._format, content), strict=True))

    def pack(self, **values: int) -> bytes:
        """The structure with these fields, and 0 in all others; ``size`` says how long it is."""
        known = {name: 0 for name, _ in self.fields} | ({"size": self.size} if self.fields[0][0] == "size" else {})
        return struct.pack("<" + self._format, *(known | values).values())

    def check(self, content: bytes) -> None:
        """The rule of growth: what the kernel does not know may be there if it is zero.

        Raises
        ------
        IommuError
            EINVAL for less than the first version, E2BIG for more than is known that is not zero.
        """
        require(len(content) >= self.minimum, f"{len(content)} bytes are no {self.name}")
        require(not any(content[self.size :]), f"{self.name} has what nobody knows", errno.E2BIG)

    @property
    def _format(self) -> str:
        return "".join(code for _, code in self.fields)


def _structure(name: str, minimum: int, text: str) -> Structure:
    """``text`` is names with ``:H`` or ``:Q`` behind those that are not 32 bits wide."""
    parts = (part.partition(":") for part in text.split())
    return Structure(name, tuple((field, code or "I") for field, _, code in parts), minimum)


COMMANDS = {
    0x80: _structure("DESTROY", 8, "size id"),
    0x81: _structure("IOAS_ALLOC", 12, "size flags out_ioas_id"),
    0x83: _structure("IOAS_COPY", 40, "size flags dst_ioas_id src_ioas_id length:Q dst_iova:Q src_iova:Q"),
    0x85: _structure("IOAS_MAP", 40, "size flags ioas_id reserved user_va:Q length:Q iova:Q"),
    0x86: _structure("IOAS_UNMAP", 24, "size ioas_id iova:Q length:Q"),
    0x87: _structure("OPTION", 24, "size option_id op:H reserved:H object_id val64:Q"),
    0x89: _structure(
        "HWPT_ALLOC",
        32,
        "size flags dev_id pt_id out_hwpt_id reserved data_type data_len data_uptr:Q fault_id reserved2",
    ),
    0x8D: _structure("HWPT_INVALIDATE", 32, "size hwpt_id data_uptr:Q data_type entry_len entry_num reserved"),
    0x8E: _structure("FAULT_QUEUE_ALLOC", 16, "size flags out_fault_id out_fault_fd"),
    0x90: _structure("VIOMMU_ALLOC", 24, "size flags type dev_id hwpt_id out_viommu_id"),
    0x91: _structure("VDEVICE_ALLOC", 24, "size viommu_id dev_id out_vdevice_id virt_id:Q"),
    0x93: _structure(
        "VEVENTQ_ALLOC", 32, "size flags viommu_id type veventq_depth out_veventq_id out_veventq_fd reserved"
    ),
}
"""What each call takes, by its number."""

HWPT_VTD_S1 = _structure("HWPT_VTD_S1", 24, "flags:Q pgtbl_addr:Q addr_width reserved")
VTD_S1_INVALIDATE = _structure("VTD_S1_INVALIDATE", 24, "addr:Q npages:Q flags reserved")
