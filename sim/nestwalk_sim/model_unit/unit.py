"""The software unit itself: global commands, translation, fault recording (§1.5, §1.8)."""

from dataclasses import fields

from nestwalk.config import IommuConfig
from nestwalk.registers.capability import constants
from nestwalk.registers.table import REGISTERS

from ..memory import Memory
from ..model.config import ModelConfig
from ..model.page_request import Acceptance, PageRequest, accept_page_request
from ..model.request import Access, AccessKind, Request, Result, UnitState
from ..model.translate import translate
from .caches import Caches
from .events import Events
from .page_requests import PageRequests
from .performance import PerformanceMonitor
from .queue import InvalidationQueue
from .register_file import RegisterFile
from .virtual_commands import VirtualCommands

__all__ = ["ModelUnit", "model_config"]

ICC = IVT = 1 << 63
"""What starts a command of CCMD and IOTLB."""

REQUEST_TYPES = {Access.WRITE: (0, 0), Access.READ: (1, 0), Access.ZERO_LENGTH_READ: (1, 0), Access.ATOMIC: (1, 1)}
"""T1 and T2 of a fault record."""


def model_config(config: IommuConfig) -> ModelConfig:
    """The golden model's view of what a unit with this configuration announces."""
    shared = {field.name for field in fields(ModelConfig)} & {field.name for field in fields(IommuConfig)}
    return ModelConfig(**{name: getattr(config, name) for name in shared}, pasid=config.scalable_mode)


class ModelUnit:
    """A unit without clock: what a write starts is finished when the write returns.

    Parameters
    ----------
    memory : Memory
        Host memory.
    config : IommuConfig
        What it announces.
    caching_mode : bool
        Whether it announces CAP.CM, as emulators do.
    """

    def __init__(self, memory: Memory, config: IommuConfig | None = None, *, caching_mode: bool = False):
        config = config or IommuConfig()
        self.memory = memory
        self.model_config = model_config(config)
        self.registers = RegisterFile(config)
        self.caches = Caches()
        self.events = Events(self.registers, memory, config.haw)
        self.page_requests = PageRequests(self.registers, memory, self.caches, self._accept)
        self.queue = InvalidationQueue(config, self.registers, memory, self.caches, self.page_requests)
        self.queue.changed = self._settle
        self.virtual_commands = VirtualCommands(self.registers, config.virtual_command_pasids)
        self.performance = PerformanceMonitor(self.registers)
        self.page_requests.queued = lambda: self._count(page_requests=1)
        self._records = config.fault_records
        self._next_record = 0
        self._root = UnitState(False, 0, 0)
        for name, value in constants(config).items():
            self.registers[name] = value
        self.registers.set_field("CAP", "CM", caching_mode)

    def read(self, offset: int, size: int) -> int:
        """Read a register of 4 or 8 bytes."""
        self._count(clocks=1)
        return self.registers.read(offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        """Write a register of 4 or 8 bytes and do what it starts."""
        self._count(clocks=1)
        written = self.registers.write(offset, size, value)
        self._settle()
        self._invalidate(written)
        if "GCMD" in written:
            self._command(written["GCMD"])
        if offset <= REGISTERS["VCMD"].offset < offset + size:
            self.virtual_commands.run()
        if offset <= REGISTERS["ECMD"].offset < offset + size:
            self.performance.run()
        self.queue.run()

    def state(self) -> UnitState:
        """What a request meets now."""
        return self._root._replace(translation_enabled=bool(self.registers.field("GSTS", "TES")))

    def translate(self, request: Request) -> Result:
        """Answer a request: from the caches if they have it, else by the golden walk. A fault is recorded."""
        enabled = self.state().translation_enabled
        cached = self.caches.look_up(request) if enabled else None
        self._count(clocks=1, requests=1, iotlb_lookups=enabled, iotlb_hits=cached is not None)
        if cached is not None:
            return cached
        result = translate(self.memory, self.state(), self.model_config, request)
        self._count(memory_reads=sum(access.kind is AccessKind.READ for access in result.accesses))
        if result.granted:
            self.caches.fill(request, result)
        elif result.recorded and result.fault is not None:
            self._record_request(request, result.fault)
        return result

    def request_page(self, request: PageRequest) -> None:
        """A device sends a page request (§7)."""
        self.page_requests.send(request)
        self._settle()

    def _count(self, **events: int) -> None:
        """Let the performance counters see what happens."""
        self.performance.count(**events)
        self.events.settle()

    def _accept(self, request: PageRequest) -> Acceptance:
        verdict = accept_page_request(self.memory, self.state(), self.model_config, request)
        if verdict.recorded and verdict.fault is not None:
            executes = request.execute and (request.read or not request.write)
            values = {"T2": 1, "FR": verdict.fault, "SID": request.source_id}
            values |= {"FI": self._fault_information(request.address), "PRIV": request.privileged, "EXE": executes}
            self._record(values, request.pasid)
        return verdict

    def _invalidate(self, written: dict[str, int]) -> None:
        """Register-based invalidation, which is for legacy mode and versions below 6 (§1.7)."""
        registers = self.registers
        works = registers.field("VER", "MAX") < 6 and self.queue.mode == 0
        if written.get("CCMD", 0) & ICC:
            command = REGISTERS["CCMD"].unpack(registers["CCMD"])
            low = 1 | command["CIRG"] << 4 | command["DID"] << 16 | command["SID"] << 32 | command["FM"] << 48
            done = works and self.queue.invalidate(low, 0)
            registers.set_field("CCMD", "CAIG", command["CIRG"] if done else 0)
        if written.get("IOTLB", 0) & IVT:
            command = REGISTERS["IOTLB"].unpack(registers["IOTLB"])
            done = works and self.queue.invalidate(2 | command["IIRG"] << 4 | command["DID"] << 16, registers["IVA"])
            registers.set_field("IOTLB", "IAIG", command["IIRG"] if done else 0)

    def _command(self, written: int) -> None:
        """§1.5.2: levels follow, one-shots happen."""
        command, status = REGISTERS["GCMD"], self.registers
        bits = command.unpack(written)
        if bits["SRTP"]:
            self._root = UnitState.from_register(status["RTADDR"] & (1 << self.model_config.haw) - 1)
            self.queue.mode = self._root.ttm
            self.caches.forget_everything()
            status.set_field("GSTS", "RTPS", 1)
        if bits["TE"] != status.field("GSTS", "TES"):
            status.set_field("GSTS", "TES", bits["TE"])
            self.caches.forget_everything()
        if not bits["TE"]:
            self._next_record = 0
        if bits["QIE"] != status.field("GSTS", "QIES"):
            status.set_field("GSTS", "QIES", bits["QIE"])
            status.set_field("IQH", "QH", 0)

    def _record_request(self, request: Request, fault: int) -> None:
        first, second = REQUEST_TYPES[request.access]
        executes = request.execute and request.access in (Access.READ, Access.ZERO_LENGTH_READ)
        values = {"T1": first, "T2": second, "AT": int(request.address_type), "FR": fault, "SID": request.source_id}
        values |= {"FI": self._fault_information(request.address), "PRIV": request.privileged, "EXE": executes}
        self._record(values, request.pasid)

    def _record(self, values: dict[str, int], pasid: int | None) -> None:
        """§1.8.1, without compression. Without a PASID a request is neither privileged nor for execution."""
        registers, name = self.registers, f"FRCD{self._next_record}"
        if registers.field("FSTS", "PFO"):
            return
        if registers.field(name, "F"):
            registers.set_field("FSTS", "PFO", 1)
        else:
            with_pasid = {"PP": 1, "PV": pasid} if pasid is not None else {"PRIV": 0, "EXE": 0}
            registers[name] = REGISTERS["FRCD"].pack(values | with_pasid | {"F": 1})
            if not registers.field("FSTS", "PPF"):
                registers.set_field("FSTS", "FRI", self._next_record)
            self._next_record = (self._next_record + 1) % self._records
        self._settle()

    def _fault_information(self, address: int) -> int:
        """FI of a record."""
        return (address & self.model_config.fault_address) >> 12

    def _settle(self) -> None:
        """PPF is the OR over all F bits; the events see every status."""
        pending = any(self.registers.field(f"FRCD{index}", "F") for index in range(self._records))
        self.registers.set_field("FSTS", "PPF", int(pending))
        self.events.settle()
