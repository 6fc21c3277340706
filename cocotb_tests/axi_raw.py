"""Both ends of the AXI path, one cycle after the other, to see how fast it is: nobody ever waits but for the unit."""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from cocotb.triggers import RisingEdge

__all__ = ["Passage", "be_quiet", "pass_through"]


class Passage(NamedTuple):
    """One burst: cycles of its address on ``dma`` and on ``out``."""

    write: bool
    came: int
    went: int


def be_quiet(dut) -> None:
    """Offer nothing at either end."""
    for name in ("dma_arvalid", "dma_awvalid", "dma_wvalid", "out_rvalid", "out_bvalid"):
        getattr(dut, name).value = 0


async def pass_through(dut, bursts: Sequence[tuple[bool, int, int]], user: int, limit: int = 20_000) -> list[Passage]:
    """Send single-beat bursts (write, id, address) as fast as they are taken; their passages, in the order of ``out``.

    The memory answers a cycle after an address or its data.
    """
    queues = {"ar": deque(b for b in bursts if not b[0]), "aw": deque(b for b in bursts if b[0])}
    data_left = len(queues["aw"])
    came: dict[tuple[bool, int], deque[int]] = {}
    passages: list[Passage] = []
    due = {"r": deque(), "b": deque()}
    written, addressed = 0, deque()
    answers = 0
    for name in ("out_arready", "out_awready", "out_wready", "dma_rready", "dma_bready"):
        getattr(dut, name).value = 1
    for channel in ("ar", "aw"):
        for name, value in (("len", 0), ("size", 2), ("burst", 1), ("user", user)):
            getattr(dut, f"dma_{channel}{name}").value = value
    dut.dma_wlast.value, dut.dma_wstrb.value, dut.out_rlast.value = 1, 0xF, 1

    for cycle in range(limit):
        for channel, queue in queues.items():
            if queue:
                _, axi_id, address = queue[0]
                getattr(dut, f"dma_{channel}id").value = axi_id
                getattr(dut, f"dma_{channel}addr").value = address
            getattr(dut, f"dma_{channel}valid").value = bool(queue)
        dut.dma_wvalid.value = data_left > 0
        for channel, waiting in due.items():
            getattr(dut, f"out_{channel}valid").value = bool(waiting)
            if waiting:
                getattr(dut, f"out_{channel}id").value = waiting[0]

        await RisingEdge(dut.clk)
        for channel, waiting in due.items():
            if waiting and int(getattr(dut, f"out_{channel}ready").value):
                waiting.popleft()
        for channel, queue in queues.items():
            write = channel == "aw"
            if queue and int(getattr(dut, f"dma_{channel}ready").value):
                _, axi_id, _ = queue.popleft()
                came.setdefault((write, axi_id), deque()).append(cycle)
            if int(getattr(dut, f"out_{channel}valid").value):
                axi_id = int(getattr(dut, f"out_{channel}id").value)
                passages.append(Passage(write, came[write, axi_id].popleft(), cycle))
                (addressed if write else due["r"]).append(axi_id)
        data_left -= data_left > 0 and int(dut.dma_wready.value)
        written += int(dut.out_wvalid.value)
        while written and addressed:
            written -= 1
            due["b"].append(addressed.popleft())
        answers += int(dut.dma_rvalid.value) + int(dut.dma_bvalid.value)
        if answers == len(bursts):
            return passages
    raise AssertionError(f"{answers} of {len(bursts)} bursts answered in {limit} cycles")
