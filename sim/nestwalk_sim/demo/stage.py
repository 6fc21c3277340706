"""The stage of a story: the machine, the judge beside each request, and how statements are checked."""

from collections.abc import Coroutine
from typing import Any, Protocol

from ..host.device import Device
from ..host.endpoint import DmaFault, Endpoint, Translator
from ..host.errors import IommuError, errno_name
from ..host.page_requester import PagePort
from ..host.transport import Transport
from ..host.vtd.faults import FaultRecord
from ..host.vtd.unit import SCALABLE_MODE, Iommu
from ..memory import Memory
from ..model import Mode, ModelConfig, UnitState
from .check import CheckedTranslator
from .report import StoryReport, Verdict

__all__ = ["Machine", "Stage"]


class Machine(Transport, Translator, PagePort, Protocol):
    """A machine that the story can run on: the unit's registers, its memory, and an answer for each request."""

    @property
    def memory(self) -> Memory:
        """Host memory, readable at once."""
        ...


class Stage:
    """Where a story happens.

    Parameters
    ----------
    machine : Machine
        A machine whose unit was just reset.
    config : ModelConfig
        What its unit announces.

    ``chapter`` is the title under which statements are noted, ``report`` what has been noted so far.
    """

    iommu: Iommu

    def __init__(self, machine: Machine, config: ModelConfig):
        self.report = StoryReport()
        self.chapter = ""
        self.machine = machine
        self._start = machine.now()
        self.translator = CheckedTranslator(machine, machine.memory, self._state, config, machine.now)

    def break_off(self, error: Exception) -> None:
        """Something that had to work did not; the chapters build on each other."""
        self.check(f"breaks off: {error}", False)

    def finish(self) -> StoryReport:
        """The report, once all chapters have run."""
        report = self.report
        report.transactions = self.translator.transactions
        report.commands = self.iommu.log.entries
        nested = (each.expected for each in report.transactions if each.expected.mode is Mode.NESTED)
        report.nested_walk = next((result for result in nested if result.granted), None)
        report.time = self.machine.now() - self._start
        return report

    def _state(self) -> UnitState:
        """The unit's global state as this driver programmed it."""
        return UnitState.from_register(self.iommu.root.address | SCALABLE_MODE << 10)

    def check(self, statement: str, holds: bool) -> None:
        """Note a statement of the chapter and whether it holds."""
        self.report.verdicts.append(Verdict(self.chapter, statement, holds))

    def endpoint(self, device: Device) -> Endpoint:
        """The DMA engine of a device, every request of which is judged."""
        return Endpoint(device, self.translator, self.iommu.pages.memory)

    async def expect_fault(self, statement: str, reason: int, dma: Coroutine[Any, Any, object]) -> None:
        """A DMA that has to be blocked with ``reason``, and recorded so by the unit, once."""
        try:
            await dma
        except DmaFault as fault:
            request, met = fault.request, fault.reason
            records = await self.iommu.faults.drain()
            self.report.faults += records
            page, kind = request.address & ~0xFFF, request.access.name.lower()
            expected = FaultRecord(request.source_id, request.pasid, page, reason, kind, False, False)
            self.check(f"{statement}: fault {reason:02x}h", met == reason and records == [expected])
        else:
            self.check(f"{statement}: fault {reason:02x}h", False)

    async def expect_refusal(self, what: str, number: int, call: Coroutine[Any, Any, object]) -> None:
        """A call that has to fail with errno ``number`` without a word to the unit."""
        commands = len(self.iommu.log.entries)
        try:
            await call
            met = 0
        except IommuError as error:
            met = error.errno
        silent = commands == len(self.iommu.log.entries)
        self.check(f"{what}: {errno_name(number)}, nothing sent to the unit", met == number and silent)
