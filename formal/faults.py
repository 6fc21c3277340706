"""Mistakes that each specification must notice, made on purpose in the sources of the hardware.

A fault replaces one place of one file, for as long as a process of its own takes to write the specification's RTLIL::

    python -m formal.faults BLOCK TASK FILE NAME
"""

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType

from nestwalk_sim import tools

__all__ = ["FAULTS", "Fault", "convert", "faults_of"]


@dataclass(frozen=True)
class Fault:
    """A mistake.

    Parameters
    ----------
    name : str
        What is wrong, in English.
    blocks : sequence of str
        The specifications that must notice it.
    module : str
        The module that has it.
    old, new : str
        Text that occurs once in the module, and what takes its place.
    """

    name: str
    blocks: Sequence[str]
    module: str
    old: str
    new: str

    def change(self, source: str) -> str:
        """The source of the module with the mistake.

        Raises
        ------
        ValueError
            If the text does not occur exactly once: the source has changed and the fault must follow it.
        """
        if source.count(self.old) != 1:
            raise ValueError(f"{self.module} has {source.count(self.old)} times: {self.old}")
        return source.replace(self.old, self.new)


BY_REQUESTER = ("iotlb_4k", "iotlb_2m", "iotlb_1g", "structure_cache")
IN_RAM = ("iotlb_4k", "iotlb_2m", "pasid_cache", "context_cache", "structure_cache", "guest_cache")

_pages, _in_ram, _in_registers, _replacement, _spaces = (
    f"nestwalk.lookup.{name}"
    for name in ("requester_format", "block_cache", "register_cache", "replacement", "configuration")
)

FAULTS = [
    Fault(
        "a bit of the source id is not compared",
        BY_REQUESTER,
        _pages,
        "equal_terms(entry.source_id, key.source_id)",
        "equal_terms(entry.source_id[1:], key.source_id[1:])",
    ),
    Fault(
        "a bit of the PASID is not compared",
        BY_REQUESTER,
        _pages,
        "equal_terms(entry.pasid, key.pasid, unless=~key.pasid_valid)",
        "equal_terms(entry.pasid[:-1], key.pasid[:-1], unless=~key.pasid_valid)",
    ),
    Fault(
        "a bit of the page number is not compared",
        BY_REQUESTER,
        _pages,
        "equal_terms(entry.page, key.page)",
        "equal_terms(entry.page[:-1], key.page[:-1])",
    ),
    Fault(
        "requests with and without PASID share entries",
        BY_REQUESTER,
        _pages,
        "            entry.pasid_valid == key.pasid_valid,\n",
        "",
    ),
    Fault(
        "a fill that waits when an invalidation comes is kept",
        ("iotlb_4k", "pasid_cache"),
        _in_ram,
        'scan["discard"].eq(self.fill.valid)',
        'scan["discard"].eq(0)',
    ),
    Fault(
        "an invalidation begins while a fill is on its way",
        ("iotlb_4k", "context_cache"),
        _in_ram,
        'scan["due"] & ~self._flushing & ~self._filling',
        'scan["due"] & ~self._flushing',
    ),
    Fault(
        "an invalidation never clears the first way", IN_RAM, _in_ram, "enable.eq(matched)", "enable.eq(matched & ~1)"
    ),
    Fault(
        "a fill does not replace the entry of its tags",
        ("iotlb_4k", "iotlb_1g"),
        _replacement,
        "Mux(self.equal.any(), self.equal, Mux(free.any(), free, turn))",
        "Mux(free.any(), free, turn)",
    ),
    Fault(
        "a fill takes any way when those of its domain are full",
        ("iotlb_4k", "iotlb_1g"),
        _replacement,
        "rotation.rotate_left(step) & self.allowed",
        "rotation.rotate_left(step)",
    ),
    Fault(
        "a fill takes any way that is not valid",
        ("iotlb_4k", "iotlb_1g"),
        _replacement,
        "~self.valid & self.allowed",
        "~self.valid",
    ),
    Fault("a row that was read while it was written is believed", IN_RAM, _in_ram, " & ~clash", ""),
    Fault("a row that is not cleared since the reset is believed", IN_RAM, _in_ram, " & settled[1]", ""),
    Fault(
        "a fill that waits when an invalidation comes is kept in registers",
        ("iotlb_1g",),
        _in_registers,
        "self.fill.ready.eq(1)  # a waiting",
        "self.fill.ready.eq(0)  # a waiting",
    ),
    Fault(
        "an entry that changed while it was chosen is believed",
        ("iotlb_1g",),
        _in_registers,
        "held.all() & ~clashes[n]",
        "held.all()",
    ),
    Fault(
        "a bit of the PASID is not compared in the PASID cache",
        ("pasid_cache",),
        _spaces,
        "equal_terms(entry.space.pasid, key.pasid, unless=~key.pasid_valid)",
        "equal_terms(entry.space.pasid[1:], key.pasid[1:], unless=~key.pasid_valid)",
    ),
    Fault(
        "a device-selective invalidation ignores the function mask",
        ("context_cache", "pasid_cache"),
        _spaces,
        "compared = Cat(function_mask != 3, function_mask < 2, function_mask == 0)",
        "compared = C(-1, 3)",
    ),
]
"""Every fault."""


def faults_of(block: str) -> list[Fault]:
    """The faults that the specification of ``block`` must notice."""
    return [fault for fault in FAULTS if block in fault.blocks]


def convert(block: str, task: str, fault: Fault, file: Path) -> None:
    """Writes the RTLIL of a specification whose block has ``fault`` to ``file``."""
    command = [sys.executable, "-m", "formal.faults", block, task, str(file), fault.name]
    tools.run(command, what=f"making {block} with a fault", log=file.with_suffix(".log"))


class _Loader(SourceFileLoader):
    """Loads a module with a fault, whatever is cached."""

    fault: Fault

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.fault.change(Path(self.path).read_text()), self.path, "exec")


class _Finder:
    """Finds the module that has the fault, and no other."""

    def __init__(self, fault: Fault):
        self._fault = fault

    def find_spec(self, name: str, path=None, target=None) -> ModuleSpec | None:
        if name != self._fault.module:
            return None
        found = PathFinder.find_spec(name, path)
        assert found is not None
        assert found.origin is not None
        loader = _Loader(name, found.origin)
        loader.fault = self._fault
        return importlib.util.spec_from_file_location(name, found.origin, loader=loader)


def _main(block: str, task: str, file: str, name: str) -> None:
    [fault] = [fault for fault in FAULTS if fault.name == name]
    sys.meta_path.insert(0, _Finder(fault))
    blocks = importlib.import_module("formal.blocks")
    Path(file).write_text(blocks.BLOCKS[block].specification(task).convert())


if __name__ == "__main__":
    _main(*sys.argv[1:])
