"""Root, context and PASID structures in memory (§2.1 to §2.6), for one unit."""

from ..memory import Memory
from ..model import Structure, UnitState
from .layouts import encode, replace_fields
from .paging import FirstStageTables, HostSpace, SecondStageTables

__all__ = ["LegacyTables", "ScalableTables", "first_stage_fields", "nested_fields", "pass_through_fields",
           "second_stage_fields", "change_entry"]  # fmt: skip

_SIZES = {
    Structure.LEGACY_ROOT: 16,
    Structure.LEGACY_CONTEXT: 16,
    Structure.SCALABLE_ROOT: 16,
    Structure.SCALABLE_CONTEXT: 32,
    Structure.PASID_DIRECTORY: 8,
    Structure.PASID_TABLE: 64,
}


def change_entry(memory: Memory, structure: Structure, address: int, **fields: int) -> None:
    """Change fields of the entry at ``address``."""
    size = _SIZES[structure]
    entry = replace_fields(structure, memory.read_integer(address, size), **fields)
    memory.write_integer(address, entry, size)


def first_stage_fields(tables: FirstStageTables) -> dict[str, int]:
    """Fields of a PASID table entry that uses first-stage tables, walks snooped."""
    return {"PGTT": 1, "FSPTPTR": tables.root, "FSPM": tables.levels - 4, "PWSNP": 1}


def second_stage_fields(tables: SecondStageTables) -> dict[str, int]:
    """Fields of a PASID table entry that uses second-stage tables, walks snooped."""
    return {"PGTT": 2, "SSPTPTR": tables.root, "AW": tables.levels - 2, "PWSNP": 1}


def nested_fields(first: FirstStageTables, second: SecondStageTables) -> dict[str, int]:
    """Fields of a PASID table entry that nests first-stage tables of a :class:`GuestSpace` over its second stage."""
    return second_stage_fields(second) | first_stage_fields(first) | {"PGTT": 3}


def pass_through_fields() -> dict[str, int]:
    """Fields of a PASID table entry of type pass-through."""
    return {"PGTT": 4}


class _RootTable:
    """A root table, and one context table for each half or bus that is used."""

    def __init__(self, space: HostSpace):
        self.space = space
        self.memory = space.memory
        self.root = space.new_pages()

    def root_entry_address(self, source_id: int) -> int:
        """Host address of the 16-byte root entry of a requester."""
        return self.root + 16 * (source_id >> 8)


class ScalableTables(_RootTable):
    """Scalable-mode structures.

    Parameters
    ----------
    space : HostSpace
        Where they are put.
    """

    @property
    def state(self) -> UnitState:
        """The unit's state that uses these tables, translation enabled."""
        return UnitState(True, self.root, 1)

    def add_device(self, source_id: int, size_code: int = 0, **fields: int) -> None:
        """Make a present context entry with an empty PASID directory.

        Parameters
        ----------
        source_id : int
            Requester id, 16 bits.
        size_code : int
            PDTS: the directory covers PASIDs below 2 ** (PDTS + 13).
        **fields : int
            Further fields of the context entry.
        """
        pointer, present = ("UCTP", "UP") if source_id & 0x80 else ("LCTP", "LP")
        root = self.root_entry_address(source_id)
        if not self.memory.read64(root + (8 if source_id & 0x80 else 0)):
            table = self.space.new_pages()
            change_entry(self.memory, Structure.SCALABLE_ROOT, root, **{pointer: table, present: 1})
        directory = self.space.new_pages(max(1, (1 << (size_code + 10)) // 4096))
        entry = encode(Structure.SCALABLE_CONTEXT, **{"P": 1, "PDTS": size_code, "PASIDDIRPTR": directory} | fields)
        self.memory.write_integer(self.context_entry_address(source_id), entry, 32)

    def add_pasid(self, source_id: int, pasid: int, **fields: int) -> None:
        """Make a present PASID table entry, and its table where there is none."""
        directory = self.directory_entry_address(source_id, pasid)
        if not self.memory.read64(directory):
            entry = encode(Structure.PASID_DIRECTORY, P=1, SMPTBLPTR=self.space.new_pages())
            self.memory.write64(directory, entry)
        entry = encode(Structure.PASID_TABLE, **{"P": 1} | fields)
        self.memory.write_integer(self.pasid_entry_address(source_id, pasid), entry, 64)

    def context_entry_address(self, source_id: int) -> int:
        """Host address of the 32-byte context entry; its root entry must be sane."""
        half = self.memory.read64(self.root_entry_address(source_id) + (8 if source_id & 0x80 else 0))
        return (half & ~0xFFF) + 32 * (source_id & 0x7F)

    def directory_entry_address(self, source_id: int, pasid: int) -> int:
        """Host address of the 8-byte PASID directory entry."""
        context = self.memory.read64(self.context_entry_address(source_id))
        return (context & ~0xFFF) + 8 * (pasid >> 6)

    def pasid_entry_address(self, source_id: int, pasid: int) -> int:
        """Host address of the 64-byte PASID table entry."""
        directory = self.memory.read64(self.directory_entry_address(source_id, pasid))
        return (directory & ~0xFFF) + 64 * (pasid & 0x3F)


class LegacyTables(_RootTable):
    """Legacy structures.

    Parameters
    ----------
    space : HostSpace
        Where they are put.
    """

    @property
    def state(self) -> UnitState:
        """The unit's state that uses these tables, translation enabled."""
        return UnitState(True, self.root, 0)

    def add_device(self, source_id: int, second: SecondStageTables | None, **fields: int) -> None:
        """Make a present context entry: translated through ``second``, or pass-through for None (give AW then)."""
        root = self.root_entry_address(source_id)
        if not self.memory.read64(root):
            change_entry(self.memory, Structure.LEGACY_ROOT, root, P=1, CTP=self.space.new_pages())
        translation = {"TT": 2} if second is None else {"TT": 0, "SSPTPTR": second.root, "AW": second.levels - 2}
        entry = encode(Structure.LEGACY_CONTEXT, **{"P": 1} | translation | fields)
        self.memory.write_integer(self.context_entry_address(source_id), entry, 16)

    def context_entry_address(self, source_id: int) -> int:
        """Host address of the 16-byte context entry; its root entry must be sane."""
        root = self.memory.read64(self.root_entry_address(source_id))
        return (root & ~0xFFF) + 16 * (source_id & 0xFF)
