"""Page requests at the ``ats`` port against the golden model: faults, queue, overflow, responses, drain, events."""

from collections import Counter
from itertools import product
from random import Random

import cocotb
import numpy as np

from nestwalk_sim.builders import FirstStageTables, HostSpace, ScalableTables, SecondStageTables
from nestwalk_sim.builders.paging import GuestSpace
from nestwalk_sim.builders.structures import first_stage_fields, nested_fields, second_stage_fields
from nestwalk_sim.host.vtd.descriptors import PageGroupResponse
from nestwalk_sim.memory import PAGE_SIZE, Memory
from nestwalk_sim.model import (
    PageRequest,
    PageResponse,
    Request,
    UnitState,
    accept_page_request,
    page_request_conditions,
    translate,
)
from nestwalk_sim.rtl.memory import MemoryTiming
from nestwalk_sim.rtl.unit import Interrupt, Traffic

from .expectations import compare_answer
from .page_platform import Platform, response_of
from .session import CONFIG, MODEL, count_of, random_timing, rng_of, start

WITH_PASID_ONLY = {"SCT.6", "SCT.7", "SCT.9"}


def random_group(random: Random, platform: Platform, size: int) -> list[PageRequest]:
    """A page group of one device, the last request marked."""
    device, group = random.choice(platform.devices), random.getrandbits(9)
    return [device.request(random, group=group, last=number == size - 1) for number in range(size)]


def random_burst(random: Random, platform: Platform) -> tuple[list[PageRequest], list[tuple[int, int]]]:
    """Groups that leave no more fault records than there are; of each request the size of its group and its place."""
    requests: list[PageRequest] = []
    places: list[tuple[int, int]] = []
    recorded = 0
    for _ in range(random.choice((1, 1, 2, 5, 20))):
        group = random_group(random, platform, random.randrange(1, 5))
        recorded += sum(map(platform.recorded, group))
        if recorded > CONFIG.fault_records:
            break
        places += [(len(group), number) for number in range(len(group))]
        requests += group
    return requests, places


async def live(platform: Platform, random: Random) -> None:
    """What software does between bursts: it takes requests, answers groups, ends an overflow, or sleeps."""
    head, tail = platform.registers.field("PQH", "PQH"), platform.tail
    waiting = (tail - head) % platform.slots
    lot = random.random()
    if lot < 0.2:
        await platform.take((tail - random.randrange(waiting + 1)) % platform.slots)
    elif lot < 0.6:
        # So little room that the next burst overflows.
        await platform.take((tail + 1 + random.randrange(8)) % platform.slots)
    if random.random() < 0.6:
        await platform.clear("PRO")
    if random.random() < 0.5:
        await platform.clear("PPR")
    if random.random() < 0.3:
        device = random.choice(platform.devices)
        answers = [
            PageResponse(device.source_id, device.pasid, random.getrandbits(9), random.choice((0, 1, 0xF)))
            for _ in range(random.randrange(1, 5))
        ]
        await platform.answer(answers)


@cocotb.test()
async def random_requests(dut):
    """Bursts, exactly as the model has them: every fault with and without PASID, overflow at every place of a group."""
    random = rng_of("random_requests")
    conditions = page_request_conditions(MODEL) - {"RTA.1.1", "RTA.1.2", "RTA.3", "SRT.1"} | {None}
    wanted = {(condition, True) for condition in conditions}
    wanted |= {(condition, False) for condition in conditions - WITH_PASID_ONLY}
    met: Counter = Counter()
    overflows: Counter = Counter()
    sent = 0
    while sent < count_of("REQUESTS") or not wanted <= {(condition, pasid) for condition, pasid, _ in met}:
        assert sent < 20 * count_of("REQUESTS"), wanted - {(condition, pasid) for condition, pasid, _ in met}
        bench, driver = await start(dut)
        platform = await Platform.start(bench, driver, random, sane=60, faulty=60, size=random.choice((0, 0, 1)))
        for _ in range(40):
            bench.memory.timing = random_timing(random)
            bench.pages.set_traffic(
                gap_percent=random.choice((0, 90)),
                response_stall_percent=random.choice((0, 90)),
                seed=random.getrandbits(32),
            )
            requests, places = random_burst(random, platform)
            before = platform.registers.field("PRS", "PRO"), platform.tail
            await platform.send(requests)
            sent += len(requests)
            if platform.registers.field("PRS", "PRO") and not before[0]:
                overflows[places[overflowing(platform, requests, before[1])]] += 1
            await live(platform, random)
        met += platform.met
    dut._log.info("%d requests, overflows at %s", sent, dict(overflows))
    assert set(overflows) == {(size, place) for size in range(1, 5) for place in range(size)}
    suppressed = {condition for condition, _, silent in met if silent}
    assert len(suppressed) > 5, "faults that FPD keeps from being recorded"


def overflowing(platform: Platform, requests: list[PageRequest], tail: int) -> int:
    """Which request found no place, the first one."""
    accepted = [
        number
        for number, request in enumerate(requests)
        if accept_page_request(platform.twin, platform.state, MODEL, request).accepted
    ]
    return accepted[(platform.tail - tail) % platform.slots]


@cocotb.test()
async def faults_of_the_root_pointer(dut):
    """Before any table: mode, access to the root table, translation switched off."""
    random = rng_of("faults_of_the_root_pointer")
    bench, driver = await start(dut)
    platform = await Platform.start(bench, driver, random, sane=4)
    missing = HostSpace(platform.twin, MODEL.haw, random).unused()
    good = platform.state
    for _ in range(3):
        for state in (
            *(UnitState(True, good.root_table, mode) for mode in (0, 2, 3)),
            UnitState(True, missing, 1),
            UnitState(False, good.root_table, 1),
            good,
        ):
            platform.state = state
            await driver.set_root(state)
            # Descriptors of 256 bits are those of scalable mode: requests are drained under the good root pointer.
            requests = [
                PageRequest(random.getrandbits(16), pasid, random.getrandbits(52) << 12, True, False, last, 7)
                for pasid, last in product((None, random.getrandbits(20)), (False, True))
            ]
            await bench.pages.send(requests)
            for request in requests:
                platform.model.send(request)
            await driver.set_root(good)
            await platform.drain()
            await platform.compare()
    assert {condition for condition, _, _ in platform.met} >= {"RTA.1.1", "RTA.1.2", "RTA.3", "SRT.1", None}


@cocotb.test()
async def a_wait_drains_what_was_accepted(dut):
    """While devices go on asking: when a status is written, every request that was accepted before is in memory."""
    random = rng_of("a_wait_drains_what_was_accepted")
    bench, driver = await start(dut)
    platform = await Platform.start(bench, driver, random, sane=20, size=3)
    bench.memory.tracing = True
    accepted: list[np.ndarray] = []

    async def devices() -> None:
        for _ in range(12):
            await bench.cycles(random.randrange(500))
            bench.pages.set_traffic(gap_percent=random.choice((0, 0, 95)), seed=random.getrandbits(32))
            groups = (random_group(random, platform, random.randrange(1, 5)) for _ in range(6))
            accepted.append(await bench.pages.send([request for group in groups for request in group]))

    asking = cocotb.start_soon(devices())
    while not asking.done():
        bench.memory.timing = random_timing(random)
        await platform.drain()
        await bench.cycles(random.choice((0, 0, 200)))
    await asking
    await platform.drain()
    trace = bench.memory.trace()
    writes = trace[trace["write"] == 1]
    ours = (writes["address"] >= platform.base) & (writes["address"] < platform.base + 32 * platform.slots)
    written = np.cumsum(ours)
    statuses = np.flatnonzero(writes["address"] == platform.status)
    cycles = np.concatenate(accepted)
    assert len(statuses) == platform.waits > 10
    for status in statuses:
        before = int((cycles < writes["cycle"][status]).sum())
        assert written[status] >= 4 * before, f"{written[status] // 4} in memory of {before} accepted"
    assert written[-1] == 4 * len(cycles)
    assert await platform.read("PQT") == {"PQT": len(cycles)}


@cocotb.test()
async def none_is_lost_or_doubled_while_software_reads(dut):
    """A driver that is called by the interrupt takes and answers requests while others come; each group gets one
    response, from the unit or from the driver."""
    random = rng_of("none_is_lost_or_doubled_while_software_reads")
    bench, driver = await start(dut)
    bench.memory.timing = MemoryTiming(latency=random.randrange(1, 10), jitter=20, seed=random.getrandbits(32))
    platform = await Platform.start(bench, driver, random, sane=40)
    sent: list[PageRequest] = []
    taken: list[int] = []
    owed: list[PageResponse] = []
    message = HostSpace(platform.twin, MODEL.haw, random).unused()
    bench.memory.add_pages([message])
    await platform.write("PEDATA", IMD=0x4321)
    await platform.write("PEADDR", MA=(message & 0xFFFF_FFFF) >> 2)
    await platform.write("PEUADDR", MUA=message >> 32)
    await platform.write("PECTL", IM=0)

    async def devices() -> None:
        for number in range(count_of("REQUESTS") // 60):
            bench.pages.set_traffic(gap_percent=random.choice((0, 0, 97)), seed=random.getrandbits(32))
            requests = []
            for group in range(16):
                size = random.randrange(1, 5)
                device = random.choice(platform.devices)
                for place in range(size):
                    # The page tells requests apart.
                    request = device.request(random, group=group, last=place == size - 1)
                    requests.append(request._replace(address=(len(sent) + len(requests)) << 12, read=True))
            await bench.pages.send(requests)
            sent.extend(requests)
            await bench.cycles(random.choice((0, 0, 5000)) if number % 8 else 20_000)

    async def software(head: int) -> int:
        """Linux's order: clear PPR, read the tail, take what is before it, then clear an overflow."""
        await platform.write("PRS", PPR=1)
        tail = (await platform.read("PQT"))["PQT"]
        while head != tail:
            content = int.from_bytes(bench.memory.read(platform.base + 32 * head, 32), "little")
            taken.append(content)
            if content >> 66 & 1:
                pasid = content >> 32 & 0xFFFFF if content >> 8 & 1 else None
                owed.append(PageResponse(content >> 16 & 0xFFFF, pasid, content >> 67 & 0x1FF, 0xF))
            head = (head + 1) % platform.slots
        for _ in range(random.choice((0, 0, 20))):
            # Too slow for the devices, sometimes.
            await bench.cycles(5000)
            if asking.done() or (await platform.read("PRS"))["PRO"]:
                break
        await platform.write("PQH", PQH=head)
        if (await platform.read("PRS"))["PRO"] and (await platform.read("PQT"))["PQT"] == head:
            await platform.write("PRS", PRO=1)
        return head

    asking = cocotb.start_soon(devices())
    head = calls = answered = 0
    while not asking.done() or head != (await platform.read("PQT"))["PQT"] or bench.memory.read64(message):
        if not bench.memory.read64(message):
            await bench.cycles(100)
            continue
        bench.memory.write64(message, 0)
        head = await software(head)
        calls += 1
        await platform.queue.submit([PageGroupResponse(*response) for response in owed[answered : answered + 200]])
        answered = min(answered + 200, len(owed))
        if asking.done():
            await platform.drain()
    await asking
    await platform.queue.submit([PageGroupResponse(*response) for response in owed[answered:]])
    by_page = {request.address: request.descriptor() for request in sent}
    pages = [content >> 64 & ~0xFFF for content in taken]
    assert [by_page[page] for page in pages] == taken
    assert pages == sorted(set(pages)), "in order, and each once"
    told = [response_of(record) for record in bench.pages.responses()]
    assert [response for response in told if response.code == 0xF] == owed
    dropped = [request for request in sent if request.address not in set(pages)]
    automatic = [PageResponse(*request[:2], request.group, 0) for request in dropped if request.last]
    assert [response for response in told if response.code == 0] == automatic
    assert len(told) == sum(request.last for request in sent)
    dut._log.info("%d requests, %d dropped, %d calls", len(sent), len(dropped), calls)
    assert dropped
    assert len(taken) > len(sent) // 10


@cocotb.test()
async def events(dut):
    """The message comes after the request is in memory, once until the status is clear; the wire follows."""
    random = rng_of("events")
    bench, driver = await start(dut)
    platform = await Platform.start(bench, driver, random)
    message = HostSpace(platform.twin, MODEL.haw, random).unused()
    bench.memory.add_pages([message])
    bench.memory.tracing = True
    await platform.write("PEDATA", IMD=0x77)
    await platform.write("PEADDR", MA=(message & 0xFFFF_FFFF) >> 2)
    await platform.write("PEUADDR", MUA=message >> 32)

    def messages() -> list[int]:
        """After how many words of the queue each came."""
        trace = bench.memory.trace()
        writes = trace[trace["write"] == 1]
        words = np.cumsum((writes["address"] >= platform.base) & (writes["address"] < platform.base + PAGE_SIZE))
        return words[writes["address"] == message].tolist()

    async def ask() -> None:
        await platform.send(random_group(random, platform, 1))

    await ask()
    assert await platform.read("PECTL") == {"IM": 1, "IP": 1}
    assert messages() == []
    assert not bench.interrupt_level(Interrupt.PAGE_REQUEST)
    await platform.write("PECTL", IM=0)
    await bench.memory_equals(message, 0x77)
    assert await platform.read("PECTL") == {"IM": 0, "IP": 0}
    assert bench.interrupt_level(Interrupt.PAGE_REQUEST)
    for count in range(1, 20):
        bench.memory.timing = random_timing(random)
        await ask()
        assert len(messages()) == count, "PPR was set"
        await platform.clear("PPR")
        await ask()
        assert messages()[-1] == 4 * platform.tail
        assert bench.interrupt_count(Interrupt.PAGE_REQUEST) == count + 1
    await platform.clear("PPR")
    await platform.take((platform.tail + 1) % platform.slots)
    before = len(messages())
    await ask()
    assert await platform.read("PRS") == {"PPR": 0, "PRO": 1}
    assert len(messages()) == before + 1
    await ask()
    assert len(messages()) == before + 1
    await platform.clear("PRO")
    await platform.write("PECTL", IM=1)
    await ask()
    assert await platform.read("PECTL") == {"IM": 1, "IP": 1}
    await platform.clear("PRO")
    assert await platform.read("PECTL") == {"IM": 1, "IP": 0}


@cocotb.test()
async def a_page_that_is_asked_for_is_forgotten(dut):
    """The implicit invalidation of §7.3, in each translation type; what it does not cover stays cached."""
    random = rng_of("a_page_that_is_asked_for_is_forgotten")
    for kind in ("first", "second", "nested"):
        bench, driver = await start(dut)
        memory = Memory()
        space = HostSpace(memory, MODEL.haw, random)
        tables = ScalableTables(space)
        source_id, pasid, domain = random.getrandbits(16), random.randrange(1, 1 << 13), random.randrange(1, 1 << 16)
        page, other = (random.getrandbits(35) << 12 for _ in range(2))
        second = SecondStageTables(space, 4)
        first = FirstStageTables(space if kind == "first" else GuestSpace(second, 47, random), 4)
        last = first if kind == "first" else second
        fields = {"first": first_stage_fields, "second": second_stage_fields}.get(kind)
        fields = fields(last) if fields else nested_fields(first, second)
        for address in (page, other):
            if kind == "nested":
                first.map(address, address ^ 0x5_0000_0000, A=1, D=1)
                second.map(address ^ 0x5_0000_0000, space.new_pages())
            else:
                last.map(address, space.new_pages(), **({"A": 1, "D": 1} if kind == "first" else {}))
        tables.add_device(source_id, PASIDE=1, DTE=1, PRE=1)
        tables.add_pasid(source_id, pasid, DID=domain, **fields)
        platform = await Platform.program(bench, driver, random, tables, [])
        requests = [Request(source_id, pasid, address) for address in (page, other)]
        before = await bench.translate(requests)
        await bench.cycles(100)  # now they are cached
        moved = {}
        for address in (page, other):
            leaf = last.path(address ^ 0x5_0000_0000 if kind == "nested" else address)[-1]
            moved[address] = space.unused()
            last.set_fields(leaf, ADDR=moved[address])
            bench.memory.write64(leaf.host, memory.read64(leaf.host))
        cached = await bench.translate(requests)
        assert cached["address"].tolist() == before["address"].tolist(), kind
        await platform.send([PageRequest(source_id, pasid, page, True, False, True, 1)])
        after = await bench.translate(requests)
        assert after["address"][0] == moved[page], kind
        assert after["address"][1] == (moved[other] if kind == "nested" else before["address"][1]), kind


@cocotb.test()
async def accesses_and_page_requests_at_once(dut):
    """Page requests change nothing about the answers to accesses, and the other way round."""
    random = rng_of("accesses_and_page_requests_at_once")
    bench, driver = await start(dut)
    platform = await Platform.start(bench, driver, random, sane=50, faulty=10)
    accesses = [device.access for device in platform.devices if device.condition is None]
    memory = platform.twin.copy()
    results = {access: translate(memory, platform.state, MODEL, access) for access in accesses}
    for _ in range(10):
        bench.memory.timing = random_timing(random)
        bench.set_traffic(Traffic(gap_percent=random.choice((0, 0, 50)), seed=random.getrandbits(32)))
        wanted = [random.choice(accesses) for _ in range(3000)]
        batch = bench.submit(wanted)
        requests, _ = random_burst(random, platform)
        await platform.send(requests)
        await platform.take(platform.tail)
        await platform.clear("PRO", "PPR")
        problems = [compare_answer(answer, results[access]) for access, answer in zip(wanted, await batch, strict=True)]
        assert not any(problems), next(filter(None, problems))


@cocotb.test()
async def a_queue_in_bad_memory(dut):
    """A write error on any word of a descriptor: the request has no place, and after the overflow all goes on."""
    random = rng_of("a_queue_in_bad_memory")
    bench, driver = await start(dut)
    platform = await Platform.start(bench, driver, random)
    await platform.send([request._replace(read=True) for request in random_group(random, platform, 3)])
    for word in range(4):
        bench.memory.inject_write_error(platform.base + 32 * platform.tail + 8 * word, 8)
        [request] = [request._replace(read=True) for request in random_group(random, platform, 1)]
        await bench.pages.send([request])
        await platform.drain()
        assert await platform.read("PRS") == {"PPR": 1, "PRO": 1}
        assert await platform.read("PQT") == {"PQT": platform.tail}
        told = response_of(bench.pages.responses()[-1])
        assert told == PageResponse(*request[:2], request.group, 0)
        platform.model.told.append(told)
        bench.memory.clear_errors()
        # What was written of it lies behind the tail.
        await platform.clear("PRO")
        await platform.send([request])
        await platform.clear("PPR")
        await platform.send(random_group(random, platform, 2))
