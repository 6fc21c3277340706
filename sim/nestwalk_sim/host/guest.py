"""A guest: memory of its own behind the host's second stage, and processes with page tables in that memory."""

import errno

from .errors import IommuError, require
from .transport import Memory
from .vtd.page_tables import FIRST_STAGE, PageTable, Permission
from .vtd.pages import PAGE_SIZE, PageAllocator

__all__ = ["Guest", "GuestMemory", "Process", "READ_ONLY", "READ_WRITE"]

READ_ONLY = Permission.READ | Permission.USER
READ_WRITE = Permission.READ | Permission.WRITE | Permission.USER


class GuestMemory:
    """Guest-physical memory as the guest's processor sees it.

    Parameters
    ----------
    host : Memory
        Host memory.

    ``frames`` maps guest-physical page addresses to host page addresses; the VMM keeps it equal to the second stage.
    """

    def __init__(self, host: Memory):
        self._host = host
        self.frames: dict[int, int] = {}

    async def read(self, address: int, size: int) -> bytes:
        content = b""
        while len(content) < size:
            at = address + len(content)
            length = min(size - len(content), PAGE_SIZE - at % PAGE_SIZE)
            content += await self._host.read(self._host_address(at), length)
        return content

    async def write(self, address: int, content: bytes) -> None:
        done = 0
        while done < len(content):
            at = address + done
            length = min(len(content) - done, PAGE_SIZE - at % PAGE_SIZE)
            await self._host.write(self._host_address(at), content[done : done + length])
            done += length

    def _host_address(self, address: int) -> int:
        frame = self.frames.get(address & -PAGE_SIZE)
        if frame is None:
            raise IommuError(errno.EFAULT, f"the guest has no memory at {address:#x}")
        return frame + address % PAGE_SIZE


class Guest:
    """A guest operating system.

    Parameters
    ----------
    name : str
        For people.
    memory : GuestMemory
        Its memory.
    base, size : int
        Where that is in guest-physical addresses, in bytes.
    """

    def __init__(self, name: str, memory: GuestMemory, base: int, size: int):
        self.name = name
        self.memory = memory
        self.processes: dict[int, Process] = {}
        self.pages = PageAllocator(memory, base, size)

    async def spawn(self, pasid: int, levels: int = 4) -> "Process":
        """Start a process that devices know by the guest's PASID ``pasid``."""
        process = Process(self, pasid, await PageTable.create(FIRST_STAGE, self.pages, levels))
        self.processes[pasid] = process
        return process

    async def page_request(self, pasid: int, address: int) -> None:
        """The guest's own page request thread: a device asks for a page of one of its processes.

        Raises
        ------
        IommuError
            EFAULT when there is no such process, or nothing at that address.
        """
        process = self.processes.get(pasid)
        if process is None:
            raise IommuError(errno.EFAULT, f"{self.name} has no process with PASID {pasid}")
        await process.fault(address)


class Process:
    """A process of a guest: a first-stage table in guest memory and virtual addresses."""

    def __init__(self, guest: Guest, pasid: int, table: PageTable):
        self.guest = guest
        self.pasid = pasid
        self.table = table
        self.reserved: set[int] = set()

    async def map(self, address: int, permission: Permission = READ_WRITE) -> int:
        """Map one fresh page at a virtual address; returns its guest-physical address."""
        page = await self.guest.pages.allocate()
        await self.table.map(address, page, PAGE_SIZE, permission)
        return page

    def reserve(self, address: int) -> None:
        """Promise a page: it is there once somebody touches it."""
        self.reserved.add(address)

    async def fault(self, address: int) -> None:
        """A device touches a page that may be missing; EFAULT where nothing is promised."""
        page = address & -PAGE_SIZE
        if await self.table.look_up(page) is None:
            require(page in self.reserved, f"{self.guest.name} has nothing at {page:#x}", errno.EFAULT)
            await self.map(page)

    async def unmap(self, address: int) -> list[int]:
        """Unmap one page. Nothing is freed: devices may hold the translation until the VMM has invalidated it.

        Returns
        -------
        list of int
            Guest pages to free after the invalidation: the page itself, then tables that became empty.
        """
        page = await self.translate(address)
        return [page, *await self.table.unmap(address, PAGE_SIZE)]

    async def translate(self, address: int) -> int:
        """The guest-physical address of a virtual address, as the guest's processor finds it.

        Raises
        ------
        IommuError
            EFAULT when it is not mapped.
        """
        leaf = await self.table.look_up(address)
        if leaf is None:
            raise IommuError(errno.EFAULT, f"{self.guest.name} has nothing mapped at {address:#x}")
        return leaf.output(address)

    async def read(self, address: int, size: int) -> bytes:
        """Read virtual memory within one page."""
        return await self.guest.memory.read(await self.translate(address), size)

    async def write(self, address: int, content: bytes) -> None:
        """Write virtual memory within one page."""
        await self.guest.memory.write(await self.translate(address), content)
