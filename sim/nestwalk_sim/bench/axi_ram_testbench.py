"""The unit on cocotbext-axi: AxiRam at its memory port, requests driven by a coroutine that wakes each cycle.

What a testbench from the shelf does; `nestwalk_sim.bench.axi_ram` starts it.
"""

import os
import pickle
from pathlib import Path
from time import perf_counter

import cocotb
import numpy as np
from amaranth.lib import data
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiRam

from nestwalk.bus.translation import TranslationRequest, TranslationResponse
from nestwalk.config import IommuConfig
from nestwalk.registers.table import REGISTERS

_SIZE = 64 << 20

TE, SRTP = 1 << 31, 1 << 30


@cocotb.test()
async def translate_on_axi_ram(dut):
    """The testbench."""
    folder = Path(os.environ["NESTWALK_JOB"])
    cfg, image, root, requests = pickle.loads((folder / "job").read_bytes())
    Clock(dut.clk, 2, unit="ns").start()
    dut.rst.value = 1
    dut.request_valid.value = 0
    dut.response_ready.value = 0
    memory = AxiRam(AxiBus.from_prefix(dut, "mem"), dut.clk, dut.rst, size=_SIZE)
    registers = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "csr"), dut.clk, dut.rst)
    for address, content in image.items():
        memory.write(address, content)
    for _ in range(4):
        await RisingEdge(dut.clk)
    dut.rst.value = 0
    await registers.write_qword(REGISTERS["RTADDR"].offset, root | 1 << 10)
    for command in (SRTP, TE):
        await registers.write_dword(REGISTERS["GCMD"].offset, command)
        while not await registers.read_dword(REGISTERS["GSTS"].offset) & command:
            pass
    began = perf_counter()
    cycles, hosts = await _drive(dut, cfg, requests.records)
    seconds = perf_counter() - began
    assert (hosts == requests.hosts).all()
    (folder / "result").write_bytes(pickle.dumps((cycles, seconds)))


async def _drive(dut, cfg: IommuConfig, records: np.ndarray) -> tuple[int, np.ndarray]:
    """Offer a request whenever a tag is free, take every answer; cycles and host addresses."""
    shape, answer_shape = TranslationRequest(cfg), TranslationResponse(cfg)
    names = [name for name in records.dtype.names or () if name in dict(shape)]
    payloads = [_pack(shape, {name: int(record[name]) for name in names}) for record in records]
    tag_field, address_field = shape["tag"], answer_shape["address"]
    answer_tag, granted = answer_shape["tag"], answer_shape["granted"]
    free = list(range(1 << cfg.tag_width))
    owner: dict[int, int] = {}
    hosts = np.zeros(len(records), np.uint64)
    sent = answered = cycles = 0
    dut.response_ready.value = 1
    offered: int | None = None
    while answered < len(records):
        if offered is None and sent < len(records) and free:
            offered = free.pop()
            owner[offered] = sent
            dut.request_payload.value = payloads[sent] | offered << tag_field.offset
            dut.request_valid.value = 1
            sent += 1
        await RisingEdge(dut.clk)
        cycles += 1
        if offered is not None and dut.request_ready.value:
            offered = None
            dut.request_valid.value = 0
        if dut.response_valid.value:
            answer = dut.response_payload.value.to_unsigned()
            tag = _field(answer, answer_tag)
            if _field(answer, granted):
                hosts[owner.pop(tag)] = _field(answer, address_field)
            free.append(tag)
            answered += 1
    return cycles, hosts


def _pack(shape: data.StructLayout, values: dict[str, int]) -> int:
    return sum(value << shape[name].offset for name, value in values.items())


def _field(word: int, field: data.Field) -> int:
    return word >> field.offset & (1 << field.width) - 1
