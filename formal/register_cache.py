"""What the small fully associative cache in registers promises."""

from amaranth.hdl import Cat, Const, Module

from nestwalk.lookup.register_cache import RegisterCache

from .cache import CacheSpec
from .spec import Mode, Task
from .tags import Tags

__all__ = ["RegisterCacheSpec"]


STATES = ("IDLE", "COMPARE_CLEAR", "COMPARE_WRITE", "CLEAR", "WRITE")


class RegisterCacheSpec(CacheSpec):
    """The promises of `CacheSpec` for `RegisterCache`: a fill or an invalidation takes three cycles each.

    Parameters
    ----------
    tags : Tags
    entries : int
    """

    TASKS = {
        "tags": CacheSpec.TAGS,
        "prove": Task(Mode.PROVE, 6, "a look-up takes 3 cycles, a fill 3; what is stored is an invariant"),
        "progress": Task(Mode.PROVE, 8, "the longest wait and one cycle more"),
        "cover": Task(Mode.COVER, 24, "two fills, two invalidations and three look-ups one after the other"),
    }
    PULSE = 0
    FILL = 7
    INVALIDATION = 6

    def __init__(self, task: str, tags: Tags, entries: int):
        self._count = entries
        super().__init__(task, tags)

    def make(self, m: Module):
        dut = RegisterCache(self.tags.format, self._count, partitioned=True)
        self.expose(m, "dut", dut)
        return dut

    def held(self, m, entry):
        return [(entry, Const(1)) for entry in self.dut._entries]

    def invariants(self, m):
        dut = self.dut
        states = [dut._states.ongoing(state) for state in STATES]
        self.claim(m, "Maintenance is in one of its states.", Cat(states).any())
        named = Cat(dut._replacement.rotation == 1 << place for place in range(self._count))
        self.claim(m, "The rotation names one entry.", named.any())
        self._partitions(m, dut._states.ongoing("WRITE"), self._count)
