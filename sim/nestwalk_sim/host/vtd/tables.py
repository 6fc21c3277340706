"""Root, context and PASID tables (§2.2 to §2.6): images of entries, and writers that make them present last."""

import errno
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import ClassVar, Self

from ..errors import IommuError
from ..transport import Memory
from .pages import PAGE_SIZE, PageAllocator

__all__ = [
    "PRESENT",
    "ContextEntry",
    "PasidEntry",
    "PasidTable",
    "RootTable",
    "TranslationType",
    "read_words",
    "write_entry",
]

PRESENT = 1
FAULT_PROCESSING_DISABLE = 1 << 1
ADDRESS = (1 << 52) - (1 << 12)
PIECE = 16
"""Bytes that a table walk reads, and a driver writes, at once."""

_NOTHING: tuple[int, ...] = (0,) * 8


async def write_entry(memory: Memory, address: int, words: tuple[int, ...]) -> None:
    """Write an entry of 64-bit ``words`` over one that is not present: 16 bytes at once, the piece with P last (R2)."""
    content = b"".join(word.to_bytes(8, "little") for word in words)
    for offset in reversed(range(0, len(content), PIECE)):
        await memory.write(address + offset, content[offset : offset + PIECE])


async def read_words(memory: Memory, address: int, count: int) -> tuple[int, ...]:
    """``count`` 64-bit words."""
    content = await memory.read(address, 8 * count)
    return tuple(int.from_bytes(content[at : at + 8], "little") for at in range(0, 8 * count, 8))


class TranslationType:
    """Values of PGTT (§2.6)."""

    FIRST_STAGE = 1
    SECOND_STAGE = 2
    NESTED = 3
    PASS_THROUGH = 4


@dataclass(frozen=True)
class ContextEntry:
    """Scalable-mode context entry (§2.4).

    Parameters
    ----------
    pasid_directory : int
        Host address of the PASID directory.
    directory_size : int
        PDTS: the directory has 2^(PDTS+7) entries.
    pasid_enable : bool
        PASIDE: requests-with-PASID are allowed.
    device_tlb_enable : bool
        DTE: translation requests and translated requests are allowed.
    page_request_enable : bool
        PRE: page requests are allowed.
    present : bool
        P.
    """

    pasid_directory: int
    directory_size: int
    pasid_enable: bool = False
    device_tlb_enable: bool = False
    page_request_enable: bool = False
    present: bool = True
    SIZE: ClassVar[int] = 32

    def words(self) -> tuple[int, ...]:
        """The entry as four 64-bit words; requests without PASID use PASID 0 (RID_PASID)."""
        low = self.present | self.device_tlb_enable << 2 | self.pasid_enable << 3 | self.page_request_enable << 4
        low |= self.directory_size << 9
        return low | self.pasid_directory, 0, 0, 0

    @classmethod
    def decode(cls, words: tuple[int, ...]) -> Self:
        low = words[0]
        enables = (bool(low >> bit & 1) for bit in (3, 2, 4, 0))
        return cls(low & ADDRESS, low >> 9 & 7, *enables)


@dataclass(frozen=True, kw_only=True)
class PasidEntry:
    """PASID-table entry (§2.6). Fields not listed are zero.

    Parameters
    ----------
    translation : int
        PGTT, of `TranslationType`.
    domain_id : int
        DID, the tag of everything that the unit caches for it.
    second_stage_levels : int
        AW as a number of levels, 3 to 5.
    second_stage_root, first_stage_root : int
        SSPTPTR and FSPTPTR in bytes; the latter is guest-physical under nesting.
    first_stage_levels : int
        FSPM as a number of levels, 4 or 5.
    walk_snoop : bool
        PWSNP: page walks snoop, so that accessed and dirty bits can be set.
    second_stage_updates : bool
        SSADE: accessed and dirty bits of the second stage are set.
    supervisor, write_protect, extended_accessed : bool
        SRE, WPE and EAFE.
    present, fault_processing_disable : bool
        P and FPD.
    """

    translation: int = 0
    domain_id: int = 0
    second_stage_levels: int = 4
    second_stage_root: int = 0
    first_stage_root: int = 0
    first_stage_levels: int = 4
    walk_snoop: bool = False
    second_stage_updates: bool = False
    supervisor: bool = False
    write_protect: bool = False
    extended_accessed: bool = False
    present: bool = True
    fault_processing_disable: bool = False
    SIZE: ClassVar[int] = 64

    def words(self) -> tuple[int, ...]:
        """The entry as eight 64-bit words."""
        word0 = self.present | self.fault_processing_disable << 1 | self.second_stage_levels - 2 << 2
        word0 |= self.translation << 6 | self.second_stage_updates << 9 | self.second_stage_root
        word1 = self.domain_id | self.walk_snoop << 23
        word2 = self.supervisor | (self.first_stage_levels == 5) << 2 | self.write_protect << 4
        word2 |= self.extended_accessed << 7 | self.first_stage_root
        return word0, word1, word2, 0, 0, 0, 0, 0

    @classmethod
    def decode(cls, words: tuple[int, ...]) -> Self:
        word0, word1, word2 = words[:3]
        return cls(
            translation=word0 >> 6 & 7,
            domain_id=word1 & 0xFFFF,
            second_stage_levels=(word0 >> 2 & 7) + 2,
            second_stage_root=word0 & ADDRESS,
            first_stage_root=word2 & ADDRESS,
            first_stage_levels=5 if word2 >> 2 & 3 else 4,
            walk_snoop=bool(word1 >> 23 & 1),
            second_stage_updates=bool(word0 >> 9 & 1),
            supervisor=bool(word2 & 1),
            write_protect=bool(word2 >> 4 & 1),
            extended_accessed=bool(word2 >> 7 & 1),
            present=bool(word0 & PRESENT),
            fault_processing_disable=bool(word0 & FAULT_PROCESSING_DISABLE),
        )


class RootTable:
    """The scalable-mode root table and its context tables (§2.2), context tables made on demand."""

    def __init__(self, pages: PageAllocator, address: int):
        self.address = address
        self._pages = pages

    @classmethod
    async def create(cls, pages: PageAllocator) -> Self:
        return cls(pages, await pages.allocate())

    async def find(self, source_id: int) -> int | None:
        """Address of the context entry of a requester, or None where no context table exists yet."""
        pointer = int.from_bytes(await self._pages.memory.read(self._slot(source_id), 8), "little")
        return (pointer & ADDRESS) + ContextEntry.SIZE * (source_id & 0x7F) if pointer & PRESENT else None

    async def context_entry(self, source_id: int) -> int:
        """Address of the context entry of a requester; a missing context table is made."""
        address = await self.find(source_id)
        if address is None:
            table = await self._pages.allocate()
            await self._pages.memory.write(self._slot(source_id), (table | PRESENT).to_bytes(8, "little"))
            address = table + ContextEntry.SIZE * (source_id & 0x7F)
        return address

    def _slot(self, source_id: int) -> int:
        return self.address + PIECE * (source_id >> 8) + 8 * (source_id >> 7 & 1)


class PasidTable:
    """The PASID directory of one device and its tables (§2.5), tables made on demand.

    Parameters
    ----------
    pages : PageAllocator
        Host memory.
    directory : int
        Host address of the directory, 2^(PASID bits - 6) entries of 8 bytes.
    pasid_bits : int
        Width of the device's PASIDs, 13 to 20.
    """

    def __init__(self, pages: PageAllocator, directory: int, pasid_bits: int):
        self.directory = directory
        self.directory_size = pasid_bits - 13
        self.memory = pages.memory
        self._pages = pages

    @classmethod
    async def create(cls, pages: PageAllocator, pasid_bits: int) -> Self:
        """An empty directory for PASIDs of ``pasid_bits`` bits (at least the smallest directory's 13)."""
        bits = max(pasid_bits, 13)
        directory = await pages.allocate(-(-(8 << bits - 6) // PAGE_SIZE))
        return cls(pages, directory, bits)

    async def find(self, pasid: int) -> int | None:
        """Host address of the PASID's entry, or None where no table exists yet."""
        pointer = int.from_bytes(await self.memory.read(self._slot(pasid), 8), "little")
        return (pointer & ADDRESS) + PasidEntry.SIZE * (pasid & 63) if pointer & PRESENT else None

    async def make(self, pasid: int) -> int:
        """Host address of the PASID's entry; a missing table is made."""
        address = await self.find(pasid)
        if address is None:
            table = await self._pages.allocate()
            await self.memory.write(self._slot(pasid), (table | PRESENT).to_bytes(8, "little"))
            address = table + PasidEntry.SIZE * (pasid & 63)
        return address

    async def read(self, pasid: int) -> PasidEntry:
        """The PASID's entry as it lies in memory; all zero where no table exists."""
        address = await self.find(pasid)
        words = _NOTHING if address is None else await read_words(self.memory, address, len(_NOTHING))
        return PasidEntry.decode(words)

    async def install(self, pasid: int, entry: PasidEntry) -> None:
        """Write a present entry where none was.

        Raises
        ------
        IommuError
            EBUSY when one is present: a live entry is never overwritten (R4).
        """
        if (await self.read(pasid)).present:
            raise IommuError(errno.EBUSY, f"PASID {pasid} has a present entry")
        await write_entry(self.memory, await self.make(pasid), entry.words())

    async def update(self, pasid: int, entry: PasidEntry) -> None:
        """Change what one 16-byte piece of a present entry holds, the piece with P: a walk sees all of it or
        nothing.
        """
        words = entry.words()
        content = (words[0] | words[1] << 64).to_bytes(PIECE, "little")
        await self.memory.write(await self.make(pasid), content)

    async def hide(self, pasid: int, *, disable_faults: bool = False) -> None:
        """Clear P and keep everything else: caches may still hold the entry (R3). With FPD it is defunct (R10)."""
        address = await self.make(pasid)
        words = await read_words(self.memory, address, 2)
        word = words[0] & ~PRESENT | (FAULT_PROCESSING_DISABLE if disable_faults else 0)
        await self.memory.write(address, (word | words[1] << 64).to_bytes(PIECE, "little"))

    async def clear(self, pasid: int, *, disable_faults: bool = False) -> None:
        """Zero the entry, but for FPD if that shall stay."""
        address = await self.find(pasid)
        if address is not None:
            kept = FAULT_PROCESSING_DISABLE if disable_faults else 0
            await write_entry(self.memory, address, (kept, *_NOTHING[1:]))

    async def present(self) -> AsyncIterator[tuple[int, PasidEntry]]:
        """Every present entry, by its PASID."""
        async for index, table in self._tables():
            content = await self.memory.read(table, PAGE_SIZE)
            for number in range(PAGE_SIZE // PasidEntry.SIZE):
                if content[number * PasidEntry.SIZE] & PRESENT:
                    pasid = index * (PAGE_SIZE // PasidEntry.SIZE) + number
                    yield pasid, await self.read(pasid)

    async def destroy(self) -> None:
        """Free directory and tables; nothing may lead here any more."""
        async for _, table in self._tables():
            await self._pages.free(table)
        await self._pages.free(self.directory)

    async def _tables(self) -> AsyncIterator[tuple[int, int]]:
        """Index and address of each table of the directory."""
        size = 8 << self.directory_size + 7
        content = await self.memory.read(self.directory, size)
        for at in range(0, size, 8):
            pointer = int.from_bytes(content[at : at + 8], "little")
            if pointer & PRESENT:
                yield at // 8, pointer & ADDRESS

    def _slot(self, pasid: int) -> int:
        return self.directory + 8 * (pasid >> 6)
