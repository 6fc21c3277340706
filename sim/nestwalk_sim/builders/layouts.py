"""Fields of the in-memory structures (§2) by name: what builders write and what a decoded walk shows."""

from typing import NamedTuple

from ..model import Structure

__all__ = ["LAYOUTS", "Field", "decode", "encode", "replace_fields"]


class Field(NamedTuple):
    """Bits ``low`` to ``low + width - 1`` of an entry; an address field keeps its bits in place, 4 KiB aligned."""

    low: int
    width: int
    address: bool = False

    @property
    def mask(self) -> int:
        return ((1 << self.width) - 1) << self.low

    def insert(self, value: int) -> int:
        """The entry's bits for a value (for an address: a byte address).

        Raises
        ------
        ValueError
            When the value does not fit.
        """
        if self.address:
            value >>= 12
        if not 0 <= value < 1 << self.width:
            raise ValueError(f"{value:#x} does not fit into {self.width} bits")
        return value << self.low

    def extract(self, entry: int) -> int:
        value = (entry & self.mask) >> self.low
        return value << 12 if self.address else value


def _page(low: int = 12) -> Field:
    return Field(low, 52, True)


_PAGING_ADDRESS = Field(12, 40, True)

LAYOUTS: dict[Structure, dict[str, Field]] = {
    Structure.LEGACY_ROOT: {"P": Field(0, 1), "CTP": _page()},
    Structure.LEGACY_CONTEXT: {
        "P": Field(0, 1),
        "FPD": Field(1, 1),
        "TT": Field(2, 2),
        "SSPTPTR": _page(),
        "AW": Field(64, 3),
        "DID": Field(72, 16),
    },
    Structure.SCALABLE_ROOT: {"LP": Field(0, 1), "LCTP": _page(), "UP": Field(64, 1), "UCTP": _page(76)},
    Structure.SCALABLE_CONTEXT: {
        "P": Field(0, 1),
        "FPD": Field(1, 1),
        "DTE": Field(2, 1),
        "PASIDE": Field(3, 1),
        "PRE": Field(4, 1),
        "HPTE": Field(5, 1),
        "EPTR": Field(6, 1),
        "PDTS": Field(9, 3),
        "PASIDDIRPTR": _page(),
        "RID_PASID": Field(64, 20),
        "RID_PRIV": Field(84, 1),
    },
    Structure.PASID_DIRECTORY: {"P": Field(0, 1), "FPD": Field(1, 1), "SMPTBLPTR": _page()},
    Structure.PASID_TABLE: {
        "P": Field(0, 1),
        "FPD": Field(1, 1),
        "AW": Field(2, 3),
        "PGTT": Field(6, 3),
        "SSADE": Field(9, 1),
        "SSPTPTR": _page(),
        "DID": Field(64, 16),
        "PWSNP": Field(87, 1),
        "PGSNP": Field(88, 1),
        "CD": Field(89, 1),
        "EMTE": Field(90, 1),
        "PAT": Field(96, 32),
        "SRE": Field(128, 1),
        "FSPM": Field(130, 2),
        "WPE": Field(132, 1),
        "EAFE": Field(135, 1),
        "FSPTPTR": _page(140),
    },
    Structure.FIRST_STAGE: {
        "P": Field(0, 1),
        "RW": Field(1, 1),
        "US": Field(2, 1),
        "A": Field(5, 1),
        "D": Field(6, 1),
        "PS": Field(7, 1),
        "EA": Field(10, 1),
        "ADDR": _PAGING_ADDRESS,
    },
    Structure.SECOND_STAGE: {
        "R": Field(0, 1),
        "W": Field(1, 1),
        "PS": Field(7, 1),
        "A": Field(8, 1),
        "D": Field(9, 1),
        "SNP": Field(11, 1),
        "ADDR": _PAGING_ADDRESS,
    },
}
"""Fields by structure, in the order of their bits. Reserved bits and the memory-type fields of paging entries are not
listed; for a leaf the bits of ``ADDR`` below the page size are other fields or reserved."""


def encode(structure: Structure, **fields: int) -> int:
    """An entry as an integer from field values.

    Raises
    ------
    ValueError
        When a value does not fit its field.
    KeyError
        When the structure has no field of that name.
    """
    layout = LAYOUTS[structure]
    entry = 0
    for name, value in fields.items():
        entry |= layout[name].insert(int(value))
    return entry


def replace_fields(structure: Structure, entry: int, **fields: int) -> int:
    """The entry with some fields changed; errors as :func:`encode`."""
    layout = LAYOUTS[structure]
    for name, value in fields.items():
        entry = entry & ~layout[name].mask | layout[name].insert(int(value))
    return entry


def decode(structure: Structure, entry: int) -> dict[str, int]:
    """Field values of an entry by name."""
    return {name: field.extract(entry) for name, field in LAYOUTS[structure].items()}
