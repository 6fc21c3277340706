"""An AXI4 memory for Amaranth's simulator: random latency, any legal order of answers, errors, an exclusive monitor."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from nestwalk.bus.axi import AxiResponse

__all__ = ["Access", "AxiMemory"]

REQUEST_SIGNALS = ("id", "addr", "len", "size", "burst", "lock", "cache", "prot")


@dataclass
class Access:
    """One access that reached memory, in the order of its effect. ``size`` in bytes; ``data`` is the value read or
    written; ``line_beat`` is a beat's number in a wrapping burst, else None."""

    kind: str
    id: int
    address: int
    size: int
    data: int
    response: AxiResponse
    exclusive: bool
    cycle: int
    line_beat: int | None = None


@dataclass
class Burst:
    """A transaction under way: ``due`` is the first cycle in which its next beat may happen; ``wraps`` within its
    natural boundary."""

    id: int
    address: int
    beats: int
    size: int
    exclusive: bool
    due: int
    wraps: bool = False
    done: int = 0

    @property
    def next_address(self) -> int:
        """Of the next beat."""
        address, bytes_ = self.address + self.done * self.size, self.beats * self.size
        return self.address // bytes_ * bytes_ + address % bytes_ if self.wraps else address


class AxiMemory:
    """Serves an `Axi4Signature` manager and checks what the manager drives.

    Parameters
    ----------
    bus : interface
        The manager's port.
    rng : Random
        Decides all timing.
    latency : range
        Cycles from an address to its first beat or response.
    stall : float
        Probability that a ready signal is low, or that a possible answer waits, in a cycle.

    Attributes
    ----------
    respond : function of (kind, address) to `AxiResponse`, or None
        Chooses error responses; ``kind`` is "read" or "write".
    exclusive_works : bool
        Whether there is an exclusive monitor (otherwise exclusive accesses get OKAY).
    before : function of (kind, address), or None
        Called just before an access takes effect, for races.
    log : list of `Access`
    """

    def __init__(self, bus, rng: Random, *, latency: range = range(2, 20), stall: float = 0.3):
        self.bus = bus
        self.rng = rng
        self.latency = latency
        self.stall = stall
        self.respond: Callable[[str, int], AxiResponse | None] | None = None
        self.exclusive_works = True
        self.before: Callable[[str, int], None] | None = None
        self.log: list[Access] = []
        self.bytes: dict[int, int] = {}
        self.monitor: dict[int, tuple[int, int]] = {}
        self.cycle = 0
        self._reads: dict[int, deque[Burst]] = {}
        self._addresses: deque[Burst] = deque()
        self._data: deque[tuple[int, int]] = deque()
        self._writes: dict[int, deque[tuple[Burst, AxiResponse]]] = {}
        self._held: dict[str, tuple] = {}

    def read(self, address: int, size: int) -> int:
        """The value of ``size`` bytes."""
        return int.from_bytes((self.bytes.get(address + n, 0) for n in range(size)), "little")

    def write(self, address: int, value: int, size: int):
        """Change memory as software does: this ends exclusive pairs on these bytes."""
        for n, byte in enumerate(value.to_bytes(size, "little")):
            self.bytes[address + n] = byte
        self.monitor = {
            user: (start, length)
            for user, (start, length) in self.monitor.items()
            if start + length <= address or address + size <= start
        }

    async def run(self, ctx):
        """Background testbench."""
        bus = self.bus
        sampled = [getattr(bus, f"{channel}{name}") for channel in ("ar", "aw") for name in REQUEST_SIGNALS]
        handshakes = [
            getattr(bus, f"{channel}{name}") for channel in ["ar", "aw", "w", "r", "b"] for name in ("valid", "ready")
        ]
        tick = ctx.tick().sample(*handshakes, *sampled, bus.wdata, bus.wstrb, bus.wlast)
        answering = dict.fromkeys("rb", False)
        while True:
            _clk, _rst, *values = await tick
            arvalid, arready, awvalid, awready, wvalid, wready, rvalid, rready, bvalid, bready, *values = values
            ar, aw, (wdata, wstrb, wlast) = values[:8], values[8:16], values[16:]
            self.cycle += 1
            self._check_held("ar", arvalid, arready, tuple(ar))
            self._check_held("aw", awvalid, awready, tuple(aw))
            self._check_held("w", wvalid, wready, (wdata, wstrb, wlast))
            if arvalid and arready:
                burst = self._burst(*ar)
                self._reads.setdefault(burst.id, deque()).append(burst)
            if awvalid and awready:
                self._addresses.append(self._burst(*aw))
                assert self._addresses[-1].beats == 1, "writes are single beats"
            if wvalid and wready:
                assert wlast
                self._data.append((wdata, wstrb))
            if self._addresses and self._data:
                self._commit(self._addresses.popleft(), *self._data.popleft())
            answering["r"] &= not (rvalid and rready)
            answering["b"] &= not (bvalid and bready)
            for ready in (bus.arready, bus.awready, bus.wready):
                ctx.set(ready, self.rng.random() >= self.stall)
            if not answering["r"]:
                answering["r"] = self._answer_read(ctx)
            if not answering["b"]:
                answering["b"] = self._answer_write(ctx)

    def _check_held(self, channel: str, valid, ready, payload: tuple):
        if channel in self._held:
            assert valid, f"{channel}valid fell before {channel}ready"
            assert payload == self._held[channel], f"{channel} payload changed before {channel}ready"
        self._held.pop(channel, None)
        if valid and not ready:
            self._held[channel] = payload

    def _burst(self, user, address, length, size, burst, lock, cache, prot) -> Burst:
        beats = length + 1
        assert 8 << size <= len(self.bus.rdata), "a beat is not wider than the bus"
        wraps = burst == 2
        assert address % (1 << size if wraps else beats << size) == 0, "transfers are naturally aligned"
        assert wraps and beats in (2, 4, 8, 16) or burst == 1
        assert prot == 0
        assert not (lock and cache & 0b1100), "exclusive accesses are not cacheable"
        return Burst(user, address, beats, 1 << size, bool(lock), self.cycle + self.rng.choice(self.latency), wraps)

    def _answer_read(self, ctx) -> bool:
        ready = [bursts for bursts in self._reads.values() if bursts and bursts[0].due <= self.cycle]
        ctx.set(self.bus.rvalid, 0)
        ctx.set(self.bus.rdata, self.rng.getrandbits(len(self.bus.rdata)))
        if not ready or self.rng.random() < self.stall:
            return False
        bursts = self.rng.choice(ready)
        burst = bursts[0]
        address = burst.next_address
        if self.before:
            self.before("read", address)
        response = self.respond and self.respond("read", address)
        if response is None:
            response = AxiResponse.OKAY
            if burst.exclusive and self.exclusive_works:
                response = AxiResponse.EXOKAY
                self.monitor[burst.id] = (address, burst.size)
        value = self.read(address, burst.size)
        burst.done += 1
        last = burst.done == burst.beats
        if last:
            bursts.popleft()
        self._record("read", burst, address, value, response, burst.done - 1 if burst.wraps else None)
        lane = address % (len(self.bus.rdata) // 8)
        # Bytes that were not asked for are noise.
        mask = (1 << 8 * burst.size) - 1 << 8 * lane
        noise = self.rng.getrandbits(len(self.bus.rdata)) & ~mask
        ctx.set(self.bus.rvalid, 1)
        ctx.set(self.bus.rid, burst.id)
        ctx.set(self.bus.rdata, noise | value << 8 * lane)
        ctx.set(self.bus.rresp, response.value)
        ctx.set(self.bus.rlast, last)
        return True

    def _commit(self, burst: Burst, wdata: int, wstrb: int):
        lane = burst.address % (len(self.bus.wdata) // 8)
        assert wstrb == (1 << burst.size) - 1 << lane, "strobes match address and size"
        if self.before:
            self.before("write", burst.address)
        value = wdata >> 8 * lane & (1 << 8 * burst.size) - 1
        response = self.respond and self.respond("write", burst.address)
        if response is None:
            response = AxiResponse.OKAY
            held = self.monitor.get(burst.id) == (burst.address, burst.size)
            if burst.exclusive and self.exclusive_works and held:
                response = AxiResponse.EXOKAY
            if not burst.exclusive or response is AxiResponse.EXOKAY:
                self.write(burst.address, value, burst.size)
        self._record("write", burst, burst.address, value, response)
        self._writes.setdefault(burst.id, deque()).append((burst, response))

    def _answer_write(self, ctx) -> bool:
        ready = [writes for writes in self._writes.values() if writes and writes[0][0].due <= self.cycle]
        ctx.set(self.bus.bvalid, 0)
        if not ready or self.rng.random() < self.stall:
            return False
        burst, response = self.rng.choice(ready).popleft()
        ctx.set(self.bus.bvalid, 1)
        ctx.set(self.bus.bid, burst.id)
        ctx.set(self.bus.bresp, response.value)
        return True

    def _record(self, kind, burst: Burst, address: int, data: int, response: AxiResponse, line_beat: int | None = None):
        access = Access(kind, burst.id, address, burst.size, data, response, burst.exclusive, self.cycle, line_beat)
        self.log.append(access)
