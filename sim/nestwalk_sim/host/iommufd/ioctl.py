"""iommufd's calls by number, with structures in a user's memory: what stands between a process and the objects."""

import errno
from collections.abc import Awaitable, Callable
from typing import Any

from ..errors import IommuError, require
from ..guest import READ_WRITE
from ..vtd.page_tables import Permission
from ..vtd.pages import PAGE_SIZE
from .context import IommufdContext
from .fault import FaultQueue
from .hwpt import HwptFlags, HwptNested, PartialInvalidation, VtdS1, VtdS1Invalidate, allocate_hwpt
from .ioas import Ioas
from .uapi import COMMANDS, HWPT_VTD_S1, VTD_S1_INVALIDATE
from .viommu import Vdevice, Veventq, Viommu

__all__ = ["HUGE_PAGES", "LIMIT_MODE", "Ioctl"]

Values = dict[str, int]
LIMIT_MODE, HUGE_PAGES = 0, 1
OPTION_SET, OPTION_GET = 0, 1
FIXED_IOVA, WRITEABLE, READABLE = 1, 2, 4
EVERYTHING = (1 << 64) - 1


class Ioctl:
    """The calls on one open iommufd.

    Parameters
    ----------
    context : IommufdContext
        The iommufd. A user's memory is the host's, at the same addresses.
    """

    def __init__(self, context: IommufdContext):
        self._context = context
        self._options: dict[tuple[int, int], int] = {}
        self._handlers: dict[int, Callable[[Values], Awaitable[Values | None]]] = {
            0x80: self._destroy,
            0x81: self._ioas_alloc,
            0x83: self._ioas_copy,
            0x85: self._ioas_map,
            0x86: self._ioas_unmap,
            0x87: self._option,
            0x89: self._hwpt_alloc,
            0x8D: self._hwpt_invalidate,
            0x8E: self._fault_queue_alloc,
            0x90: self._viommu_alloc,
            0x91: self._vdevice_alloc,
            0x93: self._veventq_alloc,
        }

    async def call(self, number: int, argument: bytearray | None) -> None:
        """One call; what it returns is written into ``argument``.

        Raises
        ------
        IommuError
            ENOTTY for a number that stands for no call, EFAULT without an argument, EINVAL and E2BIG by the structure's
            size (`Structure.check`), else what the call raises.
        """
        require(number in self._handlers, f"there is no call {number:#x}", errno.ENOTTY)
        if argument is None:
            raise IommuError(errno.EFAULT, "no argument is given")
        structure = COMMANDS[number]
        require(len(argument) >= 4, "an argument begins with its size")
        size = int.from_bytes(argument[:4], "little")
        require(size <= len(argument), "the argument is shorter than it says", errno.EFAULT)
        structure.check(bytes(argument[:size]))
        values = structure.unpack(bytes(argument[:size]))
        try:
            results = await self._handlers[number](values)
        except PartialInvalidation as error:
            argument[:size] = structure.pack(**values | {"entry_num": error.done})[:size].ljust(size, b"\0")
            raise
        argument[:size] = structure.pack(**values | (results or {}))[:size].ljust(size, b"\0")

    async def _destroy(self, values: Values) -> None:
        await self._context.destroy(values["id"])

    async def _ioas_alloc(self, values: Values) -> Values:
        require(not values["flags"], "unknown flags", errno.EOPNOTSUPP)
        return {"out_ioas_id": self._context.add(Ioas(self._context)).id}

    async def _ioas_map(self, values: Values) -> Values:
        flags = values["flags"]
        known = not flags & ~(FIXED_IOVA | WRITEABLE | READABLE) and not values["reserved"]
        require(known, "unknown flags", errno.EOPNOTSUPP)
        require(values["length"] and not values["length"] % PAGE_SIZE, "no whole pages")
        require(values["length"] < 1 << 40, "more than anybody has", errno.EOVERFLOW)
        permission = READ_WRITE if flags & WRITEABLE else Permission.READ
        frames = range(values["user_va"], values["user_va"] + values["length"], PAGE_SIZE)
        fixed = values["iova"] if flags & FIXED_IOVA else None
        return {"iova": await self._get(values["ioas_id"], Ioas).map(frames, fixed, permission)}

    async def _ioas_unmap(self, values: Values) -> Values:
        ioas = self._get(values["ioas_id"], Ioas)
        if values["length"] == EVERYTHING:
            return {"length": await ioas.unmap_all()}
        require(values["length"], "an empty range")
        return {"length": await ioas.unmap(values["iova"], values["length"])}

    async def _ioas_copy(self, values: Values) -> Values:
        target, source = self._get(values["dst_ioas_id"], Ioas), self._get(values["src_ioas_id"], Ioas)
        to = values["dst_iova"] if values["flags"] & FIXED_IOVA else None
        return {"dst_iova": await target.copy(source, values["src_iova"], values["length"], to)}

    async def _option(self, values: Values) -> Values:
        key = values["option_id"], values["object_id"]
        require(values["option_id"] in (LIMIT_MODE, HUGE_PAGES), "unknown option", errno.EOPNOTSUPP)
        if values["option_id"] == HUGE_PAGES:
            self._get(values["object_id"], Ioas)
        else:
            require(not values["object_id"], "the option is nobody's own", errno.EOPNOTSUPP)
        if values["op"] == OPTION_GET:
            return {"val64": self._options.get(key, int(values["option_id"] == HUGE_PAGES))}
        require(values["op"] == OPTION_SET, "unknown operation", errno.EOPNOTSUPP)
        require(values["val64"] in (0, 1), "an option is on or off")
        self._options[key] = values["val64"]
        return {}

    async def _hwpt_alloc(self, values: Values) -> Values:
        data = None
        if values["data_type"] == 1 and values["data_uptr"]:
            require(values["data_len"] >= HWPT_VTD_S1.minimum, "the data is too short")
            content = await self._read(values["data_uptr"], values["data_len"])
            HWPT_VTD_S1.check(content)
            data = VtdS1(**HWPT_VTD_S1.unpack(content))
        try:
            flags = HwptFlags(values["flags"])
        except ValueError as error:
            raise IommuError(errno.EOPNOTSUPP, "unknown flags") from error
        fault = values["fault_id"] if HwptFlags.FAULT_ID_VALID in flags else None
        hwpt = await allocate_hwpt(self._context, values["pt_id"], flags, values["data_type"], data, fault)
        return {"out_hwpt_id": hwpt.id}

    async def _hwpt_invalidate(self, values: Values) -> Values:
        """All errors before the first request leave a count of 0."""
        try:
            hwpt = self._context.get(values["hwpt_id"], HwptNested, errno.EINVAL)
            require(values["data_type"] == 0, "unknown type of invalidation")
            require(values["entry_len"] >= VTD_S1_INVALIDATE.minimum, "an entry is longer")
            require(not values["entry_num"] or values["data_uptr"], "no entries are given")
        except IommuError as error:
            raise PartialInvalidation(error.errno or errno.EINVAL, str(error), 0) from error
        requests: list[VtdS1Invalidate] = []
        for number in range(values["entry_num"]):
            content = await self._read(values["data_uptr"] + number * values["entry_len"], values["entry_len"])
            requests.append(VtdS1Invalidate(**VTD_S1_INVALIDATE.unpack(content)))
        return {"entry_num": await hwpt.invalidate(requests)}

    async def _fault_queue_alloc(self, values: Values) -> Values:
        require(not values["flags"], "unknown flags", errno.EOPNOTSUPP)
        return {"out_fault_id": self._context.add(FaultQueue()).id}

    async def _viommu_alloc(self, values: Values) -> Values:
        require(not values["flags"], "unknown flags", errno.EOPNOTSUPP)
        made = Viommu.create(self._context, values["dev_id"], values["hwpt_id"], values["type"])
        return {"out_viommu_id": made.id}

    async def _vdevice_alloc(self, values: Values) -> Values:
        viommu = self._get(values["viommu_id"], Viommu)
        return {"out_vdevice_id": Vdevice.create(viommu, values["dev_id"], values["virt_id"]).id}

    async def _veventq_alloc(self, values: Values) -> Values:
        require(not values["flags"], "unknown flags", errno.EOPNOTSUPP)
        viommu = self._get(values["viommu_id"], Viommu)
        queue = self._context.add(Veventq(viommu, values["type"], values["veventq_depth"]))
        return {"out_veventq_id": queue.id}

    def _get(self, number: int, kind: Any) -> Any:
        return self._context.get(number, kind)

    async def _read(self, address: int, size: int) -> bytes:
        """Bytes of the user; EFAULT where there are none."""
        held = self._context.iommu.pages.allocated
        for page in range(address & -PAGE_SIZE, address + size, PAGE_SIZE):
            require(page in held, f"no memory at {page:#x}", errno.EFAULT)
        return await self._context.iommu.memory.read(address, size)
