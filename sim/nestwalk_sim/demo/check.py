"""Every answer that a device gets, beside the golden walk of the same memory."""

from collections.abc import Callable
from dataclasses import dataclass

from ..host.endpoint import Answer, Translator
from ..memory import Memory
from ..model import AccessKind, MemoryAccess, ModelConfig, Request, Result, UnitState, translate

__all__ = ["CheckedTranslator", "Transaction"]


@dataclass(frozen=True)
class Transaction:
    """One request with both answers.

    Parameters
    ----------
    request : Request
        What the device asked.
    expected : Result
        What the golden walk of memory gave just before.
    granted, address, page_size, fault
        What the unit answered; see `Answer`.
    time : int
        Duration in the transport's unit of time.
    problem : str
        How they differ; empty when they agree.
    """

    request: Request
    expected: Result
    granted: bool
    address: int
    page_size: int
    fault: int | None
    time: int
    problem: str

    def as_dict(self) -> dict[str, object]:
        """In plain JSON types."""
        request = self.request
        return {
            "sid": f"{request.source_id:#06x}",
            "pasid": request.pasid,
            "address": f"{request.address:#x}",
            "access": request.access.name.lower(),
            "granted": self.granted,
            "host_address": f"{self.address:#x}" if self.granted else None,
            "page_size": self.page_size if self.granted else None,
            "fault": None if self.fault is None else f"{self.fault:02x}",
            "mode": self.expected.mode.value,
            "time": self.time,
            "problem": self.problem or None,
        }


class CheckedTranslator:
    """A translator that compares what another one answers with the golden model.

    Only for requests that nothing else runs beside: the expected answer is that of memory just before the request.

    Parameters
    ----------
    unit : Translator
        The unit under test.
    memory : Memory
        Host memory, read at once.
    state : callable
        The global state as the driver programmed it.
    config : ModelConfig
        What the unit announces.
    now : callable
        The transport's clock.
    """

    def __init__(
        self,
        unit: Translator,
        memory: Memory,
        state: Callable[[], UnitState],
        config: ModelConfig,
        now: Callable[[], int],
    ):
        self.transactions: list[Transaction] = []
        self._unit = unit
        self._memory = memory
        self._state = state
        self._config = config
        self._now = now

    async def translate(self, request: Request) -> Answer:
        """Answer as the unit does, and note whether it was right."""
        expected = translate(self._memory, self._state(), self._config, request, updating=False)
        start = self._now()
        answer = await self._unit.translate(request)
        duration = self._now() - start
        problem = _difference(expected, answer) or self._missing_update(expected)
        self.transactions.append(
            Transaction(
                request, expected, answer.granted, answer.address, answer.page_size, answer.fault, duration, problem
            )
        )
        return answer

    def _missing_update(self, expected: Result) -> str:
        """An accessed or dirty bit that the walk had to set and that memory lacks."""
        for access in expected.accesses:
            if access.kind is AccessKind.UPDATE and access.new_value & ~self._memory.read64(access.address):
                return f"{_place(access)} lacks bits of {access.new_value:#x}"
        return ""


def _place(access: MemoryAccess) -> str:
    return f"{access.structure.value} at {access.address:#x}"


def _difference(expected: Result, answer: Answer) -> str:
    if expected.granted != answer.granted:
        return f"{_outcome(answer)} instead of {_outcome(expected)}"
    if not expected.granted:
        return "" if expected.fault == answer.fault else f"{_outcome(answer)} instead of {_outcome(expected)}"
    if expected.address != answer.address:
        return f"{_outcome(answer)} instead of {_outcome(expected)}"
    if expected.page_size and expected.page_size != answer.page_size:
        return f"page of {answer.page_size} bytes instead of {expected.page_size}"
    return ""


def _outcome(answer: Answer) -> str:
    return f"{answer.address:#x}" if answer.granted else f"fault {answer.fault or 0:02x}h"
