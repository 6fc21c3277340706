"""The state of one walk: its memory accesses in order, and the FPD bits met so far."""

from ..memory import AccessError, Memory
from .config import ModelConfig
from .fault_conditions import TranslationFault
from .request import AccessKind, MemoryAccess, Structure

__all__ = ["Walk"]


class Walk:
    """Reads and updates memory on behalf of one request and keeps the list.

    Parameters
    ----------
    memory : Memory
        Physical memory.
    config : ModelConfig
        Announced capabilities.
    updating : bool
        Whether accessed and dirty updates reach memory (they are listed in any case).
    """

    __slots__ = ("accesses", "config", "fault_processing_disabled", "memory", "updating")

    def __init__(self, memory: Memory, config: ModelConfig, updating: bool):
        self.memory = memory
        self.config = config
        self.updating = updating
        self.accesses: list[MemoryAccess] = []
        self.fault_processing_disabled = False

    def read(
        self, address: int, size: int, structure: Structure, fault: str, level: int = 0, input_address: int = 0
    ) -> int:
        """Read an entry as a little-endian integer; a memory error is the given fault condition."""
        try:
            value = self.memory.read_integer(address, size)
        except AccessError:
            self.accesses.append(
                MemoryAccess(AccessKind.READ, address, size, structure, level, 0, 0, input_address, True)
            )
            raise TranslationFault(fault) from None
        self.accesses.append(
            MemoryAccess(AccessKind.READ, address, size, structure, level, value, 0, input_address, False)
        )
        return value

    def update(
        self, address: int, value: int, bits: int, structure: Structure, fault: str, level: int, input_address: int
    ) -> None:
        """Set bits of a 64-bit paging entry atomically; a memory error is the given fault condition."""
        failed = False
        if self.updating:
            try:
                self.memory.update64(address, value, value | bits)
            except AccessError:
                failed = True
        self.accesses.append(
            MemoryAccess(AccessKind.UPDATE, address, 8, structure, level, value, value | bits, input_address, failed)
        )
        if failed:
            raise TranslationFault(fault)
