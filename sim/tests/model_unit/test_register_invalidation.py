"""Register-based invalidation of the software unit: what it forgets is what the descriptor of the same words covers."""

from random import Random

from nestwalk.config import IommuConfig
from nestwalk.registers.table import REGISTERS
from nestwalk_sim.builders import HostSpace, LegacyTables, SecondStageTables
from nestwalk_sim.memory import PAGE_SIZE, Memory
from nestwalk_sim.model import Request
from nestwalk_sim.model_unit import ModelUnit

CFG = IommuConfig()
DOMAINS = (3, 4, 0x1003)
DEVICES = (0x0100, 0x0101, 0x0104, 0x0107, 0x0203, 0x0207)
FUNCTION_MASKS = (0xFFFF, 0xFFFB, 0xFFF9, 0xFFF8)
GLOBAL, DOMAIN, NARROW = 1, 2, 3


class Platform:
    """Legacy tables of six devices in three domains, all translations of which are cached."""

    def __init__(self, rng: Random):
        memory = Memory()
        host = HostSpace(memory, CFG.haw, rng)
        self.tables = LegacyTables(host)
        spaces = {domain: SecondStageTables(host, 4) for domain in DOMAINS}
        self.pages = [PAGE_SIZE * rng.getrandbits(9) for _ in range(8)]
        self.pages = sorted(set(self.pages))
        for second in spaces.values():
            for page in self.pages:
                second.map(page, PAGE_SIZE * rng.getrandbits(30))
        self.domain_of = {device: DOMAINS[place % 3] for place, device in enumerate(DEVICES)}
        for device, domain in self.domain_of.items():
            self.tables.add_device(device, spaces[domain], DID=domain)
        self.unit = ModelUnit(memory, CFG)
        self.write("RTADDR", self.tables.root)
        self.write("GCMD", REGISTERS["GCMD"].pack({"TE": 1, "SRTP": 1}))

    def write(self, name: str, value: int) -> None:
        register = REGISTERS[name]
        self.unit.write(register.offset, register.width // 8, value)

    def warm(self) -> None:
        for device in DEVICES:
            for page in self.pages:
                assert self.unit.translate(Request(device, None, page)).granted

    def cached(self) -> set[tuple[int, int]]:
        """Device and page of what is answered without a walk."""
        look_up = self.unit.caches.look_up
        return {(device, page) for device in DEVICES for page in self.pages if look_up(Request(device, None, page))}


def test_random_commands(rng: Random):
    platform = Platform(rng)
    everything = {(device, page) for device in DEVICES for page in platform.pages}
    domain_of = platform.domain_of
    for _ in range(200):
        platform.warm()
        assert platform.cached() == everything
        granularity, domain = rng.randrange(4), rng.choice(DOMAINS)
        if rng.random() < 0.5:
            device, mask = rng.choice(DEVICES), rng.randrange(4)
            fields = {"ICC": 1, "CIRG": granularity, "FM": mask, "SID": device, "DID": domain}
            platform.write("CCMD", REGISTERS["CCMD"].pack(fields))
            status = REGISTERS["CCMD"].unpack(platform.unit.read(REGISTERS["CCMD"].offset, 8))
            assert (status["ICC"], status["CAIG"]) == (0, granularity)
            alike = {each for each in DEVICES if not (each ^ device) & FUNCTION_MASKS[mask]}
            gone = {
                0: set(),
                GLOBAL: set(DEVICES),
                DOMAIN: {each for each in DEVICES if domain_of[each] == domain},
                NARROW: {each for each in alike if domain_of[each] == domain},
            }[granularity]
            assert platform.cached() == {pair for pair in everything if pair[0] not in gone}
        else:
            order = rng.randrange(22)
            address = rng.choice(platform.pages)
            platform.write("IVA", REGISTERS["IVA"].pack({"ADDR": address >> 12, "AM": order, "IH": rng.randrange(2)}))
            platform.write("IOTLB", REGISTERS["IOTLB"].pack({"IVT": 1, "IIRG": granularity, "DID": domain}))
            status = REGISTERS["IOTLB"].unpack(platform.unit.read(REGISTERS["IOTLB"].offset, 8))
            too_large = granularity == NARROW and order > CFG.max_address_mask
            assert (status["IVT"], status["IAIG"]) == (0, 0 if too_large else granularity)
            covered = {page for page in platform.pages if page >> 12 + order == address >> 12 + order}
            assert platform.cached() == {
                (device, page)
                for device, page in everything
                if too_large
                or granularity == 0
                or (granularity != GLOBAL and domain_of[device] != domain)
                or (granularity == NARROW and page not in covered)
            }
