"""The software unit itself: global commands, translation, fault recording (§1.5, §1.8)."""

from dataclasses import fields

from nestwalk.config import IommuConfig
from nestwalk.registers.capability import capability, extended_capability, version
from nestwalk.registers.table import REGISTERS

from ..memory import Memory
from ..model.config import ModelConfig
from ..model.page_request import Acceptance, PageRequest, accept_page_request
from ..model.request import Access, Request, Result, UnitState
from ..model.translate import translate
from .caches import Caches
from .events import Events
from .page_requests import PageRequests
from .queue import InvalidationQueue
from .register_file import RegisterFile

__all__ = ["ModelUnit", "model_config"]

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
        self.events = Events(self.registers, memory)
        self.page_requests = PageRequests(self.registers, memory, self.caches, self._accept)
        self.queue = InvalidationQueue(config, self.registers, memory, self.caches, self.page_requests)
        self._records = config.fault_records
        self._next_record = 0
        self._root = UnitState(False, 0, 0)
        self.registers["VER"] = version(config)
        self.registers["CAP"] = capability(config)
        self.registers.set_field("CAP", "CM", caching_mode)
        self.registers["ECAP"] = extended_capability(config)

    def read(self, offset: int, size: int) -> int:
        """Read a register of 4 or 8 bytes."""
        return self.registers.read(offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        """Write a register of 4 or 8 bytes and do what it starts."""
        name, written = self.registers.write(offset, size, value)
        if name is not None and name.startswith("FRCD"):
            self._update_pending()
        self.events.settle()
        if name == "GCMD":
            self._command(written)
        elif name in ("IQT", "FSTS"):
            self.queue.run()
        self.events.settle()

    def state(self) -> UnitState:
        """What a request meets now."""
        return self._root._replace(translation_enabled=bool(self.registers.field("GSTS", "TES")))

    def translate(self, request: Request) -> Result:
        """Answer a request: from the caches if they have it, else by the golden walk. A fault is recorded."""
        cached = self.caches.look_up(request) if self.state().translation_enabled else None
        if cached is not None:
            return cached
        result = translate(self.memory, self.state(), self.model_config, request)
        if result.granted:
            self.caches.fill(request, result)
        elif result.recorded and result.fault is not None:
            self._record_request(request, result.fault)
        return result

    def request_page(self, request: PageRequest) -> None:
        """A device sends a page request (§7)."""
        self.page_requests.send(request)
        self.events.settle()

    def _accept(self, request: PageRequest) -> Acceptance:
        verdict = accept_page_request(self.memory, self.state(), self.model_config, request)
        if verdict.recorded and verdict.fault is not None:
            executes = request.execute and (request.read or not request.write)
            values = {"T2": 1, "FR": verdict.fault, "SID": request.source_id, "FI": _fault_information(request.address)}
            self._record(values | {"PRIV": request.privileged, "EXE": executes}, request.pasid)
        return verdict

    def _command(self, written: int) -> None:
        """§1.5.2: levels follow, one-shots happen."""
        command, status = REGISTERS["GCMD"], self.registers
        bits = command.unpack(written)
        if bits["TE"] != status.field("GSTS", "TES"):
            status.set_field("GSTS", "TES", bits["TE"])
            if not bits["TE"]:
                self.caches.forget_everything()
                self._next_record = 0
        if bits["SRTP"]:
            self._root = UnitState.from_register(status["RTADDR"])
            self.caches.forget_everything()
            status.set_field("GSTS", "RTPS", 1)
        if bits["QIE"] != status.field("GSTS", "QIES"):
            status.set_field("GSTS", "QIES", bits["QIE"])
            status.set_field("IQH", "QH", 0)
            self.queue.run()

    def _record_request(self, request: Request, fault: int) -> None:
        first, second = REQUEST_TYPES[request.access]
        self._record(
            {
                "T1": first, "T2": second, "AT": int(request.address_type), "FR": fault, "SID": request.source_id,
                "FI": _fault_information(request.address), "PRIV": request.privileged,
                "EXE": request.execute and request.access is Access.READ,
            },
            request.pasid,
        )  # fmt: skip

    def _record(self, values: dict[str, int], pasid: int | None) -> None:
        """§1.8.1, without compression. Without a PASID a request is neither privileged nor for execution."""
        registers, name = self.registers, f"FRCD{self._next_record}"
        if registers.field("FSTS", "PFO"):
            return
        if registers.field(name, "F"):
            registers.set_field("FSTS", "PFO", 1)
            return
        with_pasid = {"PP": 1, "PV": pasid} if pasid is not None else {"PRIV": 0, "EXE": 0}
        registers[name] = REGISTERS["FRCD"].pack(values | with_pasid | {"F": 1})
        if not registers.field("FSTS", "PPF"):
            registers.set_field("FSTS", "FRI", self._next_record)
        self._update_pending()
        self._next_record = (self._next_record + 1) % self._records
        self.events.settle()

    def _update_pending(self) -> None:
        """PPF is the OR over all F bits."""
        pending = any(self.registers.field(f"FRCD{index}", "F") for index in range(self._records))
        self.registers.set_field("FSTS", "PPF", int(pending))


def _fault_information(address: int) -> int:
    """FI of a record: the page number below the largest address width (§1.8)."""
    return (address & (1 << 57) - 1) >> 12
