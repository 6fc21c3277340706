"""Random streams of descriptors, right and wrong ones, through a queue that software sets up anyhow and mends."""

from random import Random
from typing import TYPE_CHECKING

from nestwalk_sim.memory import PAGE_SIZE
from rtl.tests.invalidation.reference import legal_descriptor

from .register_model import FSTS, GSTS, ICS, IQA, IQE, IQH, IQT, QIE, RTADDR, SRTP

if TYPE_CHECKING:
    from .register_life import Life

__all__ = ["QUEUE", "STATUS", "DescriptorStream"]

QUEUE, STATUS = 0x7000_0000, 0x7010_0000
"""Two pages of queue, and one of statuses."""

NOWHERE = 0x7020_0000
WAIT, STATUS_WRITE = 5, 1 << 5


class DescriptorStream:
    """One life of the queue, from its enabling on.

    Parameters
    ----------
    life : Life
        The unit, and what it is compared with.
    """

    def __init__(self, life: "Life"):
        self._life = life
        self._random: Random = life.random
        self._tail = 0  # in descriptors
        self._wide = False

    async def run(self) -> None:
        """Enable the queue, feed it and mend it; it is left as it is then."""
        await self._begin()
        for _ in range(self._random.randrange(1, 6)):
            await self._feed()
            await self._life.settle()
            self._compare()
            await self._mend()

    async def _begin(self) -> None:
        life, random = self._life, self._random
        if life.model.read(GSTS, 4) & QIE:
            await life.command(QIE)
        for status in (FSTS, ICS):
            await life.write(status, 4, 0x7F)
        mode = random.choice((0, 0, 1, 1, 1, random.randrange(4)))
        await life.write(RTADDR, 8, random.getrandbits(52) << 12 | mode << 10)
        await life.command(SRTP)
        scalable = life.config.scalable_mode
        self._wide = bool(mode) or (scalable and random.random() < 0.5)
        if random.random() < 0.05:
            self._wide = not self._wide
        self._size = 32 if self._wide else 16
        pages = random.randrange(2)
        self._slots = (PAGE_SIZE << pages) // self._size
        base = NOWHERE if random.random() < 0.03 else QUEUE
        await life.write(IQT, 8, 0)
        await life.write(IQA, 8, base | self._wide << 11 | pages)
        if random.random() < 0.2:
            self._tail = self._write_some()
            await life.write(IQT, 8, self._tail * self._size)
        await life.command(QIE)
        await life.settle()

    def _write_some(self) -> int:
        """Put some descriptors behind the tail; the new tail."""
        most = self._random.choice((2, 20, self._slots))
        count = self._random.randrange(1, min(most, self._slots))
        for number in range(count):
            self._put((self._tail + number) % self._slots, self._descriptor())
        return (self._tail + count) % self._slots

    def _put(self, slot: int, value: int) -> None:
        content = value.to_bytes(32, "little")[: self._size]
        for memory in (self._life.memory, self._life.target.memory):
            memory.write(QUEUE + self._size * slot, content)

    def _descriptor(self) -> int:
        """Mostly a legal one; a status goes where it can be seen."""
        random, life = self._random, self._life
        value = legal_descriptor(random, life.config, scalable=life.model.state.ttm != 0)
        if random.random() < 0.2:
            value = WAIT | random.getrandbits(2) << 4 | random.getrandbits(32) << 32
        if value & 0xF == WAIT:
            value = value & (1 << 64) - 1 | (STATUS + 4 * random.randrange(PAGE_SIZE // 4)) << 64
        if random.random() < 0.03:
            value ^= 1 << random.randrange(8 * self._size)
        if random.random() < 0.01:
            value = value & ~0x3F | random.randrange(64)
        if random.random() < 0.02:
            value ^= random.randrange(1, 4) << 4  # another granularity
        if value & 0xF == WAIT and value & STATUS_WRITE and not STATUS <= value >> 64 < STATUS + PAGE_SIZE:
            value &= ~STATUS_WRITE
        return value

    async def _feed(self) -> None:
        random, life = self._random, self._life
        self._tail = self._write_some()
        place = self._tail * self._size
        if random.random() < 0.05:
            place = random.choice((place ^ 16, place | self._slots * self._size, random.getrandbits(19)))
        await life.write(IQT, random.choice((4, 8)), place)

    def _compare(self) -> None:
        status = self._life.target.memory.read(STATUS, PAGE_SIZE)
        assert status == self._life.memory.read(STATUS, PAGE_SIZE)

    async def _mend(self) -> None:
        """Correct what has stopped the queue, or some of it, and let it go on; more than once where that is needed."""
        life, random = self._life, self._random
        for _ in range(self._slots):
            if not life.model.read(FSTS, 4) & IQE:
                return
            head = life.model.read(IQH, 4) // self._size
            if random.random() < 0.9:
                self._put(head, WAIT | random.getrandbits(3) << 4 & ~STATUS_WRITE)
            if random.random() < 0.9:
                await life.write(IQT, 8, self._tail * self._size)
            if random.random() < 0.5:
                await life.write(IQA, 8, QUEUE | self._wide << 11 | (self._slots * self._size > PAGE_SIZE))
            await life.write(FSTS, 4, IQE)
            await life.settle()
            self._compare()
            if random.random() < 0.05:
                return
