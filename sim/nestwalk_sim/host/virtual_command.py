"""The virtual command interface (S15): a guest asks its VMM for PASIDs that the host knows, one command at a time."""

import errno

from .errors import IommuError
from .ioasid import IoasidAllocator, IoasidSet

__all__ = ["VcmdSource", "VirtualCommand"]

ALLOCATE, FREE = 1, 2
SUCCESS, NO_PASID, OTHER = 0, 1, 3
IN_PROGRESS = 1 << 0


class VirtualCommand:
    """The VMM's side: the command register and its response, as the guest's accesses meet them.

    Parameters
    ----------
    ioasids : IoasidAllocator
        The host's PASIDs.
    owner : IoasidSet
        The machine's set; its quota bounds what the guest gets.

    ``held`` commands stay in progress until `complete`. ``ignored`` counts commands that came while one was in
    progress, ``logged`` frees of what the guest does not have.
    """

    def __init__(self, ioasids: IoasidAllocator, owner: IoasidSet):
        self._ioasids = ioasids
        self._owner = owner
        self._command: int | None = None
        self._response = 0
        self.held = False
        self.ignored = 0
        self.logged = 0

    def write_command(self, value: int) -> None:
        """VCMD is written: command in bits 7:0, PASID from bit 8 on."""
        if self._command is not None:
            self.ignored += 1
            return
        self._command = value
        if not self.held:
            self.complete()

    def read_response(self) -> int:
        """VCRSP: in progress in bit 0, status in bits 2:1, PASID from bit 8 on; valid once bit 0 is clear."""
        return IN_PROGRESS if self._command is not None else self._response

    def complete(self) -> None:
        """Execute the command in progress, if there is one."""
        if self._command is None:
            return
        command, pasid = self._command & 0xFF, self._command >> 8
        status, result = SUCCESS, 0
        try:
            if command == ALLOCATE:
                result = self._ioasids.allocate(self._owner)
            elif command == FREE:
                self._ioasids.free(self._owner, pasid)
            else:
                status = OTHER
        except IommuError as error:
            if command == FREE:
                self.logged += 1
            else:
                status = NO_PASID if error.errno == errno.ENOSPC else OTHER
        self._command, self._response = None, status << 1 | result << 8


class VcmdSource:
    """The guest's side: where its own allocator gets numbers from. Two of the same kind serve the same numbers."""

    kind = "vcmd"

    def __init__(self, registers: VirtualCommand):
        self._registers = registers

    def allocate(self, minimum: int, maximum: int) -> int:
        """A PASID from the host.

        Raises
        ------
        IommuError
            ENOSPC when there is none, ENODEV for whatever else went wrong, a number out of range included.
        """
        response = self._command(ALLOCATE)
        status, pasid = response >> 1 & 3, response >> 8
        if status:
            raise IommuError(errno.ENOSPC if status == NO_PASID else errno.ENODEV, "the host gives no PASID")
        if not minimum <= pasid <= maximum:
            self.free(pasid)
            raise IommuError(errno.ENODEV, f"the host gave PASID {pasid}, not one of {minimum} to {maximum}")
        return pasid

    def free(self, pasid: int) -> None:
        """Give a PASID back; the host only notes one that it did not give."""
        self._command(FREE | pasid << 8)

    def _command(self, value: int) -> int:
        self._registers.write_command(value)
        response = self._registers.read_response()
        if response & IN_PROGRESS:
            raise IommuError(errno.ENODEV, "the host is busy")
        return response
