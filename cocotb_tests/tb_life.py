"""Random life of guests, devices and PASIDs on the whole unit: every byte moves over its AXI ports.

The environment says how much of it there is (`NESTWALK_LIFE_…`). It is lived in parts, each with a seed of its own and
a unit that was just reset, so that one that failed can be lived again alone.
"""

import os
import random
from typing import cast

import cocotb

from nestwalk.config import preset
from nestwalk_sim.demo.stage import Machine
from nestwalk_sim.host.device import Device
from nestwalk_sim.host.page_requester import PageRequester
from nestwalk_sim.host.vtd.unit import Iommu
from nestwalk_sim.rtl.transport import BenchTransport, BusEndpoint
from nestwalk_sim.rtl.unit import Bench
from sim.tests.host.random_life import Population, live

PART = 5000
"""Operations of a part."""


def number(name: str) -> int:
    return int(os.environ[f"NESTWALK_LIFE_{name}"])


@cocotb.test()
async def life_over_the_ports(dut):
    asking = preset(os.environ["NESTWALK_LIFE_PRESET"]).page_requests
    population = Population(number("GUESTS"), number("DEVICES"), number("PROCESSES"), asking=asking, ats=asking)
    left, part = number("OPERATIONS"), number("FIRST_PART")
    while left > 0:
        bench = Bench(dut)
        await bench.reset()
        seed = f"{os.environ['NESTWALK_SEED']} life {part}"
        transport = cast(Machine, BenchTransport(bench, population.memory))
        began = bench.now()

        def dma(device: Device, iommu: Iommu, bench: Bench = bench, transport: Machine = transport) -> BusEndpoint:
            requester = PageRequester(device, transport, iommu.page_requests.service) if asking else None
            return BusEndpoint(device, bench, requester)

        counts = await live(transport, random.Random(seed), min(PART, left), population, dma)
        cocotb.log.info("seed '%s': %s in %d cycles", seed, counts, bench.now() - began)
        assert min(counts["granted"], counts["blocked"], counts["bound"]) > 5, counts
        assert not asking or counts["faulted in"], counts
        left, part = left - PART, part + 1
