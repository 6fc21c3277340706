"""Everything around a `FrontEnd`: a device that talks AXI, a core that translates, a target behind ``out``.

Each burst has a page of its own, by which the core and the target know it, so that every transfer is compared with the
burst that it belongs to.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from nestwalk.bus.axi import AxiResponse
from nestwalk.bus.translation import Access, AddressType
from nestwalk.config import IommuConfig
from nestwalk.front.blocked import BLOCKED

__all__ = ["Burst", "Rates", "Surroundings", "random_bursts"]

ATTRIBUTES = ("id", "len", "size", "burst", "lock", "cache", "prot", "qos", "user")
SIDEBAND = ("mmusid", "mmussid", "mmussidv", "mmuatst")
FIXED, INCR, WRAP = range(3)
HIT_LATENCY = 5


@dataclass
class Burst:
    """One transaction. ``fields`` are AXI's names without the channel; ``delay`` is the core's, in cycles."""

    write: bool
    fields: dict[str, int]
    host: int
    blocked: bool
    delay: int
    order: int = 0
    data: list[tuple[int, ...]] = field(default_factory=list)
    """Beats as written, or as the target answered."""
    answer: tuple[int, ...] = ()
    """B as the target gave it."""
    seen: int = 0
    """Beats that the other side has seen."""
    accepted: int | None = None
    went_out: int | None = None
    completed: int | None = None
    """Cycles of the address on ``dma``, of the address on ``out``, of the last transfer on the side that answers."""

    @property
    def beats(self) -> int:
        return self.fields["len"] + 1


@dataclass(frozen=True)
class Rates:
    """Probabilities: ``stall`` that a ready signal is low, ``gap`` that a valid one is late, in a cycle."""

    stall: float = 0.0
    gap: float = 0.0
    latency: range = range(2, 3)


def random_bursts(rng: Random, cfg: IommuConfig, count: int, *, ids: int, misses: float, blocked: float) -> list[Burst]:
    """Legal bursts of all kinds, of ``ids`` different ids."""
    lanes = cfg.data_width // 8
    pages = rng.sample(range(1 << 20), count)
    bursts = []
    for page in pages:
        size = rng.randrange(lanes.bit_length())
        kind = rng.choice((FIXED, INCR, INCR, INCR, WRAP))
        beats = {FIXED: rng.randint(1, 16), INCR: rng.choice((1, 1, 1, 2, 4, 9)), WRAP: rng.choice((2, 4, 8, 16))}[kind]
        offset = rng.randrange(4096)
        if kind == WRAP:
            offset &= ~((1 << size) - 1)
        if kind == INCR:
            offset = min(offset, 4096 - (beats << size))
        write = rng.random() < 0.5
        widths = {"id": 0, "lock": 1, "cache": 4, "prot": 3, "qos": 4, "user": cfg.user_width}
        widths |= {"mmusid": 16, "mmussid": 20, "mmussidv": 1, "mmuatst": 1}
        fields = {name: rng.getrandbits(width) for name, width in widths.items()}
        fields |= {"id": rng.randrange(ids) * 5 % (1 << cfg.id_width), "len": beats - 1, "size": size, "burst": kind}
        fields["addr"] = rng.getrandbits(20) << 44 | page << 12 | offset
        host = (page ^ 0x5A5A5) << 12 | offset | rng.getrandbits(cfg.haw - 32) << 32 if cfg.haw > 32 else fields["addr"]
        delay = rng.randint(10, 80) if rng.random() < misses else HIT_LATENCY
        burst = Burst(write, fields, host & (1 << cfg.haw) - 1, rng.random() < blocked, delay)
        if write:
            widths = [cfg.data_width, lanes, cfg.user_width][: 3 if cfg.user_width else 2]
            burst.data = [tuple(rng.getrandbits(width) for width in widths) for _ in range(beats)]
        bursts.append(burst)
    return bursts


class _Held:
    """Checks that VALID and what goes with it stay until READY."""

    def __init__(self, what: str):
        self._what = what
        self._payload: tuple | None = None

    def check_held(self, valid: int, ready: int, payload: tuple):
        if self._payload is not None:
            assert valid, f"{self._what}valid fell before {self._what}ready"
            assert payload == self._payload, f"{self._what} changed before {self._what}ready"
        self._payload = payload if valid and not ready else None


class _Channel(_Held):
    """The signals of one AXI channel; ``names`` are those of its payload."""

    def __init__(self, port, prefix: str, names):
        super().__init__(prefix)
        self.prefix = prefix
        self.valid, self.ready = getattr(port, prefix + "valid"), getattr(port, prefix + "ready")
        self.names = tuple(name for name in names if hasattr(port, prefix + name))
        self.signals = [getattr(port, prefix + name) for name in self.names]


class Surroundings:
    """Plays everything around the front end, one cycle after the other, and compares.

    Parameters
    ----------
    dut : FrontEnd
    bursts : list of Burst
        Offered in this order, reads and writes independently.
    device, core, target : Rates
        Timing of each party. The core's ``latency`` is not used.
    target_ids_in_order : bool
        Whether the target answers all ids in order.
    """

    def __init__(self, dut, cfg: IommuConfig, rng: Random, bursts: list[Burst], **rates: Rates):
        self.dut, self.cfg, self.rng = dut, cfg, rng
        self.device, self.core, self.target = (rates.get(name, Rates()) for name in ("device", "core", "target"))
        self.error_rate = 0.1
        self.bursts = bursts
        for order, burst in enumerate(bursts):
            burst.order = order
        self.by_guest = {burst.fields["addr"]: burst for burst in bursts}
        self.by_host = {burst.host: burst for burst in bursts}
        assert len(self.by_host) == len(bursts)
        self.cycle = 0
        self.marks: list[int] = []
        self.drains = 0
        self.stopped: set[str] = set()
        """Channels whose ready signal we keep low."""
        address, read = (*ATTRIBUTES, "addr"), ("id", "data", "resp", "last", "user")
        write, answer = ("data", "strb", "last", "user"), ("id", "resp", "user")
        self.channels = {
            f"{name}_{prefix}": _Channel(port, prefix, names)
            for name, port in (("dma", dut.dma), ("out", dut.out))
            for prefix, names in (("ar", address), ("aw", address), ("w", write), ("r", read), ("b", answer))
        }
        for prefix in ("dma_ar", "dma_aw"):
            channel = self.channels[prefix]
            self.channels[prefix] = _Channel(dut.dma, channel.prefix, (*channel.names, *SIDEBAND))
        self._queued = {
            "dma_ar": deque(b for b in bursts if not b.write),
            "dma_aw": deque(b for b in bursts if b.write),
        }
        self._data = deque((b, n) for b in bursts if b.write for n in range(b.beats))
        self._unanswered: dict[tuple[bool, int], deque[Burst]] = {}
        self._translating: list[tuple[int, Burst, int]] = []
        self._tags: set[int] = set()
        self._out_writes: deque[Burst] = deque()  # granted writes whose data are expected on W
        self._out_data: deque[dict[str, int]] = deque()
        self._due: dict[tuple[bool, int], deque[tuple[int, Burst]]] = {}
        self._last_out: dict[tuple[bool, int], int] = {}
        self._last_write_out = -1
        self._request = _Held("request.")

    @property
    def finished(self) -> bool:
        return all(burst.completed is not None for burst in self.bursts) and not any(self._unanswered.values())

    async def run(self, ctx):
        """Testbench: until every burst has been answered."""
        dut = self.dut
        handshakes = [signal for channel in self.channels.values() for signal in (channel.valid, channel.ready)]
        payloads = [signal for channel in self.channels.values() for signal in channel.signals]
        request, response = dut.request, dut.response
        tick = ctx.tick().sample(
            *handshakes,
            *payloads,
            request.valid,
            request.ready,
            request.payload,
            response.valid,
            response.ready,
            dut.mark,
            dut.drained,
        )
        while not self.finished:
            _clk, _rst, *values = await tick
            self.cycle += 1
            happened = {}
            place = 2 * len(self.channels)
            for n, (name, channel) in enumerate(self.channels.items()):
                valid, ready = values[2 * n : 2 * n + 2]
                payload = tuple(values[place : place + len(channel.names)])
                place += len(channel.names)
                channel.check_held(valid, ready, payload)
                if valid and ready:
                    happened[name] = dict(zip(channel.names, payload, strict=True))
            request_valid, request_ready, payload, response_valid, response_ready, mark, drained = values[place:]
            self._observe(happened)
            self._request.check_held(request_valid, request_ready, (payload.as_bits(),))
            self._observe_core(request_valid and request_ready, payload, response_valid, response_ready)
            self._observe_drain(mark, drained)
            self._drive(ctx, happened)
            self._drive_core(ctx)

    # --- what happened in the last cycle

    def _observe(self, happened: dict[str, dict[str, int]]):
        for name in ("dma_ar", "dma_aw"):
            if name in happened:
                burst = self._queued[name].popleft()
                burst.accepted = self.cycle
                self._unanswered.setdefault((burst.write, burst.fields["id"]), deque()).append(burst)
        if "dma_w" in happened:
            self._data.popleft()
        for name in ("out_ar", "out_aw"):
            if name in happened:
                self._goes_out(name == "out_aw", happened[name])
        if "out_w" in happened:
            self._out_data.append(happened["out_w"])
        self._match_data()
        if "out_r" in happened:
            burst = self._due[False, happened["out_r"]["id"]][0][1]
            burst.data.append(without_id_and_last(happened["out_r"]))
            if happened["out_r"]["last"]:
                burst.completed = self.cycle
                self._due[False, burst.fields["id"]].popleft()
        if "out_b" in happened:
            burst = self._due[True, happened["out_b"]["id"]].popleft()[1]
            burst.completed = self.cycle
            burst.answer = tuple(happened["out_b"].values())
        if "dma_r" in happened:
            self._answered_read(happened["dma_r"])
        if "dma_b" in happened:
            self._answered_write(happened["dma_b"])

    def _goes_out(self, write: bool, found: dict[str, int]):
        burst = self.by_host[found["addr"]]
        assert burst.write == write
        assert not burst.blocked
        del found["addr"]
        assert found == {name: burst.fields[name] for name in found}
        assert burst.went_out is None
        burst.went_out = self.cycle
        key = (write, found["id"])
        assert self._last_out.get(key, -1) < burst.order, "bursts of one id go out in order"
        self._last_out[key] = burst.order
        if write:
            assert self._last_write_out < burst.order, "writes go out in order"
            self._last_write_out = burst.order
            self._out_writes.append(burst)
        else:
            self._due.setdefault(key, deque()).append((self.cycle + self.rng.choice(self.target.latency), burst))

    def _match_data(self):
        while self._out_writes and self._out_data:
            burst = self._out_writes[0]
            beat = self._out_data.popleft()
            assert without_id_and_last(beat) == burst.data[burst.seen]
            burst.seen += 1
            last = beat["last"]
            assert last == (burst.seen == burst.beats)
            if last:
                self._out_writes.popleft()
                due = self.cycle + self.rng.choice(self.target.latency)
                self._due.setdefault((True, burst.fields["id"]), deque()).append((due, burst))

    def _answered_read(self, found: dict[str, int]):
        burst = self._unanswered[False, found["id"]][0]
        if burst.blocked:
            assert found["resp"] == BLOCKED.value
            assert (found["data"], found.get("user", 0)) == (0, 0)
        else:
            assert without_id_and_last(found) == burst.data[burst.seen]
        burst.seen += 1
        assert found["last"] == (burst.seen == burst.beats)
        if found["last"]:
            self._unanswered[False, found["id"]].popleft()
            if burst.blocked:
                burst.completed = self.cycle

    def _answered_write(self, found: dict[str, int]):
        burst = self._unanswered[True, found["id"]].popleft()
        if burst.blocked:
            assert found["resp"] == BLOCKED.value
            assert not found.get("user")
            assert not any(b is burst for b, _ in self._data), "the data have been taken"
            burst.completed = self.cycle
        else:
            assert tuple(found.values()) == burst.answer

    def _observe_core(self, accepted: bool, request, response_valid: int, response_ready: int):
        assert response_ready, "responses are always taken"
        if response_valid:
            due, burst, tag = self._answering
            self._tags.remove(tag)
        if not accepted:
            return
        burst = self.by_guest[request.address]
        fields = burst.fields
        assert burst.accepted == self.cycle
        assert request.tag not in self._tags
        self._tags.add(request.tag)
        assert request.access == (Access.WRITE if burst.write else Access.READ)
        assert (request.source_id, request.pasid) == (fields["mmusid"], fields["mmussid"])
        assert request.pasid_valid == fields["mmussidv"]
        translated = AddressType.TRANSLATED if fields["mmuatst"] else AddressType.UNTRANSLATED
        assert request.address_type == translated
        assert request.privileged == fields["prot"] & 1
        assert request.execute == (0 if burst.write else fields["prot"] >> 2)
        assert request.one_dword == (burst.beats == 1 and fields["size"] == 2 and fields["addr"] % 4 == 0)
        self._translating.append((self.cycle + burst.delay, burst, request.tag))

    def _observe_drain(self, mark: int, drained: int):
        """Drained says that nothing accepted before the last mark is still to go out or to be answered there."""
        if drained and self.marks:
            late = [
                burst
                for burst in self.bursts
                if not burst.blocked
                and burst.accepted is not None
                and burst.accepted <= self.marks[-1]
                and burst.completed is None
            ]
            assert not late, f"drained in cycle {self.cycle}, but not of {late[0]}"
            self.drains += 1
            self.marks.clear()
        if mark:
            self.marks.append(self.cycle)

    # --- what we do in the next cycle

    def _lot(self, probability: float) -> bool:
        return self.rng.random() < probability

    def _offer(self, ctx, name: str, happened: dict, gap: float, pick: Iterator[dict[str, int]]):
        """Keep what is offered until it is taken, then offer what ``pick`` gives, if anything."""
        channel = self.channels[name]
        if ctx.get(channel.valid) and name not in happened:
            return
        fields = None if self._lot(gap) else next(pick, None)
        ctx.set(channel.valid, fields is not None)
        for key, signal in zip(channel.names, channel.signals, strict=True):
            ctx.set(signal, self.rng.getrandbits(len(signal)) if fields is None else fields[key])

    def _drive(self, ctx, happened: dict[str, dict[str, int]]):
        for name in ("dma_ar", "dma_aw"):
            self._offer(ctx, name, happened, self.device.gap, (burst.fields for burst in self._queued[name]))
        self._offer(ctx, "dma_w", happened, self.device.gap, self._next_data())
        self._offer(ctx, "out_r", happened, self.target.gap, self._next_beat())
        self._offer(ctx, "out_b", happened, self.target.gap, self._next_answer())
        for names, rates in ((("dma_r", "dma_b"), self.device), (("out_ar", "out_aw", "out_w"), self.target)):
            for name in names:
                stalls = name in self.stopped or self._lot(rates.stall)
                ctx.set(self.channels[name].ready, not stalls)

    def _next_data(self):
        for burst, beat in self._data:
            yield {
                **dict(zip(("data", "strb", "user"), burst.data[beat], strict=False)),
                "last": beat == burst.beats - 1,
            }

    def _response(self) -> int:
        if self._lot(self.error_rate):
            return self.rng.choice((AxiResponse.SLVERR, AxiResponse.DECERR, AxiResponse.EXOKAY)).value
        return AxiResponse.OKAY.value

    def _ready_ids(self, write: bool) -> list[deque[tuple[int, Burst]]]:
        return [due for (kind, _), due in self._due.items() if kind == write and due and due[0][0] <= self.cycle]

    def _next_beat(self):
        """A beat of any burst that is due, so that bursts interleave."""
        ready = self._ready_ids(False)
        if ready:
            burst = self.rng.choice(ready)[0][1]
            yield {
                "id": burst.fields["id"],
                "data": self.rng.getrandbits(self.cfg.data_width),
                "resp": self._response(),
                "last": len(burst.data) == burst.beats - 1,
                "user": self.rng.getrandbits(self.cfg.user_width),
            }

    def _next_answer(self):
        ready = self._ready_ids(True)
        if ready:
            burst = self.rng.choice(ready)[0][1]
            user = self.rng.getrandbits(self.cfg.user_width)
            yield {"id": burst.fields["id"], "resp": self._response(), "user": user}

    def _drive_core(self, ctx):
        """Hits in their order after `HIT_LATENCY` cycles, misses when their time has come; one response a cycle."""
        response = self.dut.response
        due = [entry for entry in self._translating if entry[0] <= self.cycle + 1]
        ctx.set(response.valid, bool(due))
        if due:
            self._answering = due[0]
            self._translating.remove(due[0])
            _, burst, tag = due[0]
            answer = {"tag": tag, "granted": not burst.blocked, "address": burst.host}
            if burst.blocked:
                answer["address"] = self.rng.getrandbits(self.cfg.haw)
            ctx.set(response.payload, answer)
        ctx.set(self.dut.request.ready, not self._lot(self.core.stall))


def without_id_and_last(transfer: dict[str, int]) -> tuple[int, ...]:
    """What a beat of data carries."""
    return tuple(value for name, value in transfer.items() if name not in ("id", "last"))
