"""The order checker (recipes R1 to R15): every change of a table owes the invalidations of §6.1, in their order, before
anything that relies on them happens.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from . import covers
from .covers import CONTEXT_CACHE, DEVICE_TLB, PASID_DEVICE_TLB, Covers
from .monitor import ADDRESS, BusMonitor, Words
from .trees import Change, Trees

__all__ = ["Debt", "OrderChecker"]

PRESENT = 1
FIRST_STAGE, SECOND_STAGE, NESTED = 1, 2, 3
RID_PASID = 0
UPDATES = 1 << 9
"""SSADE, which may change while the entry is present."""
PATIENCE = 16


@dataclass(eq=False)
class Debt:
    """Invalidations that a change owes.

    Parameters
    ----------
    recipe, what : str
        The recipe that asks for them, and the change.
    born : int
        Number of the last descriptor queued before the change: only later ones count.
    needs : list of (str, Covers)
        What is owed still, in this order.
    entry : tuple of int or None
        The (requester id, PASID) whose entry must not be touched before.
    guarded : range or None
        Host memory that must not be freed before.
    device : int or None
        The device that has to answer: nothing is owed any more once it is gone.
    was : tuple of int or None
        The entry before the change: nothing is owed either once it is exactly that again.
    """

    recipe: str
    what: str
    born: int
    needs: list[tuple[str, Covers]]
    entry: tuple[int, int] | None = None
    guarded: range | None = None
    device: int | None = None
    was: Words | None = None

    def __str__(self) -> str:
        return f"{self.recipe}: {self.what} without {', '.join(text for text, _ in self.needs)}"


@dataclass
class OrderChecker:
    """Listens to a `BusMonitor` and keeps a list of what was wrong.

    Parameters
    ----------
    caching_mode : bool
        CAP.CM: entries that were not present have to be invalidated too.
    gone, asks : callable
        Whether the device with this requester id is gone, so that nothing can be owed to it, and whether it sends page
        requests, which have to be drained (R5).

    Attributes
    ----------
    problems : list of str
        Violations so far, each beginning with the recipe.
    came : list of callable
        Told requester id and PASID of each entry that becomes present.
    """

    caching_mode: bool = False
    gone: Callable[[int], bool] = lambda source_id: False
    asks: Callable[[int], bool] = lambda source_id: False
    problems: list[str] = field(default_factory=list)
    debts: list[Debt] = field(default_factory=list)
    came: list[Callable[[int, int], None]] = field(default_factory=list)

    def __post_init__(self):
        self.monitor = BusMonitor(self)
        self.trees = Trees(self.monitor.words)
        self._translating = False
        self._queue = False
        self._root_set = False
        self._posted = 0
        self._timeouts = 0
        self._live: dict[tuple[int, int], Words] = {}

    def quiet(self) -> Iterator[str]:
        """What may not be left at a quiescent point: debts, and descriptors without a completed wait."""
        yield from (str(debt) for debt in self.debts if not self._excused(debt))
        yield from (f"I6: descriptor {words[0]:#x} was never waited for" for words in self.monitor.flying)

    def freed(self, address: int, size: int) -> None:
        """Pages go back to the allocator (I4)."""
        for debt in self.debts:
            guarded = debt.guarded or range(0)
            if not self._excused(debt) and guarded.start < address + size and address < guarded.stop:
                self._problem(f"{debt}, but {address:#x} is freed")
        for source_id, words in self.monitor.contexts.items():
            if words[0] & PRESENT and address <= words[0] & ADDRESS < address + size:
                self._problem(
                    f"R15: the PASID directory of {source_id:04x} is freed while its context entry is present"
                )
        self.trees.forget(range(address, address + size))
        self.monitor.forget(range(address, address + size))

    def command(self, translation: bool, queue: bool, set_root: bool) -> None:
        """R1 and R14."""
        if set_root:
            needs: list[tuple[str, Covers]] = [(f"{name} global", covers.everything(kind)) for name, kind in GLOBAL]
            self._owe("R1", "a new root table", needs)
            self._root_set = True
        if translation and not self._translating:
            if not self._root_set or not queue:
                self._problem("R1: translation is enabled before root table and queue")
            for debt in self.debts:
                if debt.recipe == "R1":
                    self._problem(f"{debt}, but translation is enabled")
        if not queue and self._queue and translation:
            self._problem("R14: the queue is disabled while translation is on")
        self._translating, self._queue = translation, queue

    def context_changed(self, source_id: int, old: Words, new: Words) -> None:
        """R15."""
        if old == new:
            return
        if old[0] & new[0] & PRESENT and (old[0] ^ new[0]) & (ADDRESS | 7 << 9):
            self._problem(f"R15: live context entry of {source_id:04x} gets another PASID directory")
        if old[0] & ~new[0] & PRESENT and old[0] & ~PRESENT != new[0]:
            self._problem(f"R15: context entry of {source_id:04x} loses more than P at once")
        if old[0] & PRESENT or (self.caching_mode and new[0] & PRESENT):
            directory = old[0] & ADDRESS
            guarded = range(directory, directory + (8 << (old[0] >> 9 & 7) + 7)) if old[0] & PRESENT else None
            what, needs = f"context entry of {source_id:04x} changed", [("cc_inv", covers.context(source_id))]
            self._owe("R15", what, needs, None, guarded)

    def entry_changed(self, source_id: int, pasid: int, old: Words, new: Words) -> None:
        """R2 to R4, R9, R10."""
        if old == new:
            return
        key, name = (source_id, pasid), f"PASID entry {pasid} of {source_id:04x}"
        owing = [debt for debt in self.debts if debt.entry == key and not self._excused(debt)]
        if old[0] & PRESENT:
            if new[0] & PRESENT and (new[0] ^ old[0], *new[1:]) == (UPDATES, *old[1:]):
                self._entry_went(key, name, old)
                self._live[key] = new
                return
            if new[0] & PRESENT:
                self._problem(f"R4: {name} is changed while present")
            elif (old[0] & ~3, *old[1:]) != (new[0] & ~3, *new[1:]):
                self._problem(f"R3: {name} loses more than P at once")
            self._entry_went(key, name, old)
        elif owing and new[0] & PRESENT and new == owing[0].was:
            self.debts = [debt for debt in self.debts if debt not in owing]
        elif owing:
            self._problem(f"{owing[0]}, but the entry is written again")
        if not any(new) and self.asks(source_id) and not self.gone(source_id):
            self._owe("R5", f"{name} is zeroed", [("a drain of page requests", covers.drain)])
        if new[0] & PRESENT and not old[0] & PRESENT:
            self._entry_came(key, name, new)

    def memory_changed(self, address: int, old: bytes, new: bytes) -> None:
        """R7 and R8, for the tables of live entries."""
        if not self.trees.knows(address):
            return
        for change in self.trees.changed(address, old, new):
            for key, entry in self._live.items():
                if change.root in _roots(entry) and (change.was_present or (self.caching_mode and _second(entry))):
                    self._table_changed(key, entry, change)

    def queued(self, number: int, words: Words) -> None:
        self._posted = number
        if words[0] & 0xF in (DEVICE_TLB, PASID_DEVICE_TLB) and not self._translating:
            self._problem("R14: a device-TLB invalidation is queued while translation is off")

    def completed(self, number: int, words: Words) -> None:
        self._timeouts = 0
        for debt in self.debts:
            if number > debt.born and debt.needs and debt.needs[0][1](words):
                debt.needs.pop(0)
        self.debts = [debt for debt in self.debts if debt.needs]

    def aborted(self) -> None:
        """I6: nobody may ask a silent device for ever.

        Raises
        ------
        AssertionError
            After too many time-outs with nothing completed in between.
        """
        self._timeouts += 1
        if self._timeouts > PATIENCE:
            raise AssertionError(f"I6: {PATIENCE} time-outs in a row, and nothing completed")

    def _entry_came(self, key: tuple[int, int], name: str, new: Words) -> None:
        self._live[key] = new
        for told in self.came:
            told(*key)
        for root, levels, second in _trees(new):
            self.trees.add(root, levels, second)
        if self.caching_mode:
            domain_id = new[1] & 0xFFFF
            needs: list[tuple[str, Covers]] = [
                ("pc_inv", covers.pasid_cache(domain_id, key[1])),
                ("p_iotlb_inv", covers.pasid(domain_id, key[1])),
            ]
            self._owe("R2", f"{name} became present", needs)

    def _entry_went(self, key: tuple[int, int], name: str, old: Words) -> None:
        self._live.pop(key, None)
        source_id, pasid = key
        domain_id = old[1] & 0xFFFF
        flush = covers.domain(domain_id) if _second(old) else covers.pasid(domain_id, pasid)
        needs: list[tuple[str, Covers]] = [("pc_inv", covers.pasid_cache(domain_id, pasid)), ("the IOTLB's", flush)]
        if self._has_device_tlb(source_id):
            device_tlb = ("the device TLB's", covers.device(source_id, pasid, None))
            self._owe("R3", f"{name} is not present", [*needs, device_tlb], key, None, source_id)
        self._owe("R9" if pasid == RID_PASID else "R3", f"{name} is not present", needs, key)
        for debt in self.debts:
            if debt.entry == key and debt.was is None:
                debt.was = old

    def _table_changed(self, key: tuple[int, int], entry: Words, change: Change) -> None:
        source_id, pasid = key
        domain_id, nested = entry[1] & 0xFFFF, _type(entry) == NESTED
        if nested or not (change.leaf or change.empty):
            flush = covers.domain(domain_id)
        elif _second(entry):
            flush = covers.domain_pages(domain_id, change.region, change.leaf)
        else:
            flush = covers.pasid_pages(domain_id, pasid, change.region, change.leaf)
        what = f"{change} under PASID entry {pasid} of {source_id:04x}"
        guarded = change.target if change.was_present else None
        self._owe("R7", what, [("the IOTLB's", flush)], None, guarded)
        if self._has_device_tlb(source_id) and change.was_present and not change.empty:
            region = None if nested else change.region
            needs: list[tuple[str, Covers]] = [("the device TLB's", covers.device(source_id, pasid, region))]
            self._owe("R7", what, needs, None, guarded, source_id)

    def _has_device_tlb(self, source_id: int) -> bool:
        context = self.monitor.contexts.get(source_id, (0,))
        return bool(context[0] >> 2 & 1) and self._translating and not self.gone(source_id)

    def _owe(
        self,
        recipe: str,
        what: str,
        needs: list[tuple[str, Covers]],
        entry: tuple[int, int] | None = None,
        guarded: range | None = None,
        device: int | None = None,
    ) -> None:
        self.debts.append(Debt(recipe, what, self._posted, needs, entry, guarded, device))

    def _excused(self, debt: Debt) -> bool:
        return debt.device is not None and self.gone(debt.device)

    def _problem(self, text: str) -> None:
        self.problems.append(text)


GLOBAL = (("cc_inv", CONTEXT_CACHE), ("pc_inv", covers.PASID_CACHE), ("iotlb_inv", covers.IOTLB))


def _type(entry: Words) -> int:
    return entry[0] >> 6 & 7


def _second(entry: Words) -> bool:
    return _type(entry) in (SECOND_STAGE, NESTED)


def _roots(entry: Words) -> list[int]:
    return [root for root, _, _ in _trees(entry)]


def _trees(entry: Words) -> list[tuple[int, int, bool]]:
    """Root, levels and stage of the tables in host memory that an entry leads to."""
    if _second(entry):
        return [(entry[0] & ADDRESS, (entry[0] >> 2 & 7) + 2, True)]
    if _type(entry) == FIRST_STAGE:
        return [(entry[2] & ADDRESS, 5 if entry[2] >> 2 & 3 else 4, False)]
    return []
