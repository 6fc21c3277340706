"""The bus monitor: turns writes to registers and memory into what they mean to the unit."""

from collections import deque
from collections.abc import Iterator
from typing import Protocol

__all__ = ["ADDRESS", "WAIT", "BusMonitor", "Events", "Words"]

Words = tuple[int, ...]
"""64-bit words of an entry or a descriptor, lowest first."""

PAGE = 4096
ADDRESS = (1 << 52) - PAGE
GCMD, RTADDR, IQT, IQA, FSTS = 0x18, 0x20, 0x88, 0x90, 0x34
TIMEOUT = 1 << 6
TRANSLATION, SET_ROOT, QUEUE = 1 << 31, 1 << 30, 1 << 26
WAIT = 5


class Events(Protocol):
    """What a checker is told, in the order in which it happens."""

    def command(self, translation: bool, queue: bool, set_root: bool) -> None:
        """GCMD was written."""
        ...

    def context_changed(self, source_id: int, old: Words, new: Words) -> None:
        """16 bytes of a context entry were written."""
        ...

    def entry_changed(self, source_id: int, pasid: int, old: Words, new: Words) -> None:
        """16 bytes of a PASID-table entry were written."""
        ...

    def memory_changed(self, address: int, old: bytes, new: bytes) -> None:
        """Memory was written that is no such entry."""
        ...

    def queued(self, number: int, words: Words) -> None:
        """A descriptor was handed to the unit."""
        ...

    def completed(self, number: int, words: Words) -> None:
        """A wait behind the descriptor has completed, and the driver knows."""
        ...

    def aborted(self) -> None:
        """A time-out was cleared: waits under way will not complete."""
        ...


class BusMonitor:
    """An `Observer` that keeps what was written, finds the unit's tables in it, and tells a checker.

    Parameters
    ----------
    events : Events
        The checker.

    ``entries`` and ``contexts`` are all entries that were ever written, by (requester id, PASID) and requester id.
    """

    def __init__(self, events: Events):
        self._events = events
        self._pages: dict[int, bytearray] = {}
        self._root: int | None = None
        self._contexts: dict[int, int] = {}
        self._directories: dict[int, int] = {}
        self._tables: dict[int, tuple[int, int]] = {}
        self._ring, self._wide, self._slots, self._tail = 0, True, 256, 0
        self._flying: deque[tuple[int, int]] = deque()
        self._numbers = 0
        self._rtaddr = 0
        self.entries: dict[tuple[int, int], Words] = {}
        self.contexts: dict[int, Words] = {}

    def words(self, address: int, count: int) -> Words:
        """What was last written at ``address``; zero where nothing was."""
        content = self._read(address, 8 * count)
        return tuple(int.from_bytes(content[at : at + 8], "little") for at in range(0, 8 * count, 8))

    @property
    def flying(self) -> list[Words]:
        """Descriptors handed to the unit that no completed wait is behind."""
        return [self._descriptor(slot) for _, slot in self._flying]

    def wrote_register(self, offset: int, value: int, size: int) -> None:
        if offset == RTADDR:
            self._rtaddr = value
        elif offset == IQA:
            self._ring, self._wide, self._slots = value & ADDRESS, bool(value >> 11 & 1), 256 << (value & 7)
            self._slots >>= self._wide
        elif offset == IQT:
            self._tail_moved(value >> (5 if self._wide else 4))
        elif offset == FSTS and value & TIMEOUT:
            self._flying = deque(each for each in self._flying if self._descriptor(each[1])[0] & 0xF != WAIT)
            self._events.aborted()
        elif offset == GCMD:
            if value & SET_ROOT:
                self._root = self._rtaddr & ADDRESS
                self._find_contexts()
            self._events.command(bool(value & TRANSLATION), bool(value & QUEUE), bool(value & SET_ROOT))

    def read_memory(self, address: int, content: bytes) -> None:
        """A status word that shows a wait completed completes what was queued before it."""
        if len(content) != 4:
            return
        for place, (_, slot) in enumerate(self._flying):
            low, high = self._descriptor(slot)[:2]
            wait = low & 0xF == WAIT and low >> 5 & 1 and high == address
            if wait and content == (low >> 32).to_bytes(4, "little"):
                for _ in range(place + 1):
                    number, done = self._flying.popleft()
                    self._events.completed(number, self._descriptor(done))
                return

    def wrote_memory(self, address: int, content: bytes) -> None:
        done = 0
        while done < len(content):
            at = address + done
            length = min(len(content) - done, PAGE - at % PAGE)
            self._wrote(at, content[done : done + length])
            done += length

    def forget(self, memory: range) -> None:
        """Tables in this memory are freed."""
        for page in range(memory.start, memory.stop, PAGE):
            self._directories.pop(page, None)
            if page in self._tables:
                source_id, first = self._tables.pop(page)
                for pasid in range(first, first + 64):
                    self.entries.pop((source_id, pasid), None)

    def _wrote(self, address: int, content: bytes) -> None:
        """A write within one page."""
        page = address & -PAGE
        old = self._read(address, len(content))
        entry = self._entry_at(page, address)
        before = self._entry_words(page, address)
        self._pages.setdefault(page, bytearray(PAGE))[address - page : address - page + len(content)] = content
        if entry is None:
            self._events.memory_changed(address, old, content)
        elif len(entry) == 1:
            self.contexts[entry[0]] = self._entry_words(page, address)
            self._events.context_changed(entry[0], before, self.contexts[entry[0]])
        else:
            self.entries[entry] = self._entry_words(page, address)
            self._events.entry_changed(*entry, before, self.entries[entry])
        if page == self._root or page in self._contexts or page in self._directories:
            self._find_contexts()

    def _entry_at(self, page: int, address: int) -> tuple[int] | tuple[int, int] | None:
        if page in self._contexts:
            return (self._contexts[page] + (address - page) // 32,)
        if page in self._tables:
            source_id, pasid = self._tables[page]
            return source_id, pasid + (address - page) // 64
        return None

    def _entry_words(self, page: int, address: int) -> Words:
        size = 32 if page in self._contexts else 64
        return self.words(address & -size, size // 8)

    def _find_contexts(self) -> None:
        """Walk from the root table to every table that holds entries."""
        if self._root is None:
            return
        for index, pointer in self._present(self._root, PAGE):
            self._contexts[pointer] = index * 128
        for page, source_id in list(self._contexts.items()):
            for index in range(128):
                low = self.words(page + 32 * index, 1)[0]
                if low & 1:
                    self._find_tables(source_id + index, low & ADDRESS, 8 << (low >> 9 & 7) + 7)

    def _find_tables(self, source_id: int, directory: int, size: int) -> None:
        for page in range(directory, directory + size, PAGE):
            self._directories[page] = source_id
        for index, table in self._present(directory, size):
            if table not in self._tables:
                self._tables[table] = source_id, 64 * index

    def _present(self, table: int, size: int) -> Iterator[tuple[int, int]]:
        """Index and address of each present 8-byte pointer of a table."""
        for page in range(table, table + size, PAGE):
            content = self._pages.get(page)
            if content is None or not any(content):
                continue
            for at in range(0, PAGE, 8):
                if content[at] & 1:
                    pointer = int.from_bytes(content[at : at + 8], "little") & ADDRESS
                    yield (page - table + at) // 8, pointer

    def _tail_moved(self, tail: int) -> None:
        slot = self._tail
        while slot != tail:
            self._numbers += 1
            self._flying.append((self._numbers, slot))
            self._events.queued(self._numbers, self._descriptor(slot))
            slot = (slot + 1) % self._slots
        self._tail = tail

    def _descriptor(self, slot: int) -> Words:
        size = 32 if self._wide else 16
        return self.words(self._ring + slot * size, size // 8)

    def _read(self, address: int, size: int) -> bytes:
        content = b""
        while len(content) < size:
            at = address + len(content)
            length = min(size - len(content), PAGE - at % PAGE)
            page = self._pages.get(at & -PAGE)
            content += bytes(length) if page is None else page[at % PAGE : at % PAGE + length]
        return content
