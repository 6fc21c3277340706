"""`bind_gpasid` refused: the errno of each row of S01 and S06, and not a word to the unit."""

import asyncio
import errno
from collections.abc import Callable
from dataclasses import replace

import pytest

from nestwalk.config import IommuConfig
from nestwalk_sim.host.audit import Auditor
from nestwalk_sim.host.device import Device
from nestwalk_sim.host.domain import PagingDomain
from nestwalk_sim.host.errors import ENOTSUPP, IommuError
from nestwalk_sim.host.ioasid import IoasidSet
from nestwalk_sim.host.vtd.entries import NestedFlags
from nestwalk_sim.host.vtd.pasid import setup_pass_through, tear_down
from nestwalk_sim.host.vtd.svm import GpasidBindData, GpasidBindDataVtd, Svm, bind_gpasid, unbind_gpasid
from nestwalk_sim.host.vtd.tables import PasidEntry
from sim.tests.host.bringup import BASE, HOST_PASID, Platform

STRANGER = HOST_PASID + 7


async def prepared(config: IommuConfig | None = None, device: Device | None = None) -> tuple[Platform, GpasidBindData]:
    """A platform whose machine owns `HOST_PASID`, and bind data that would be accepted."""
    platform = await Platform.bring_up(config, device=device)
    platform.iommu.ioasids.allocate(platform.machine.owner, HOST_PASID)
    platform.iommu.ioasids.allocate(IoasidSet("stranger"), STRANGER)
    return platform, GpasidBindData(gpgd=platform.process.table.root, hpasid=HOST_PASID)


async def check_refused(platform: Platform, domain: PagingDomain, data: GpasidBindData | None, number: int) -> None:
    """The call fails with errno ``number``, changes nothing and sends nothing."""
    before, traffic = await platform.state(), platform.traffic()
    with pytest.raises(IommuError) as refused:
        await bind_gpasid(domain, platform.device, data)
    assert refused.value.errno == number, refused.value
    assert platform.traffic() == traffic
    assert await platform.state() == before


def _vtd(flags: NestedFlags) -> Callable[[GpasidBindData], GpasidBindData]:
    return lambda data: replace(data, vtd=GpasidBindDataVtd(flags=flags.value))


BAD_DATA: dict[str, tuple[Callable[[GpasidBindData], GpasidBindData | None], int]] = {
    "1 no data": (lambda data: None, errno.EINVAL),
    "2 short argsz": (lambda data: replace(data, argsz=56), errno.EINVAL),
    "3 version": (lambda data: replace(data, version=2), errno.EINVAL),
    "3 format": (lambda data: replace(data, format=2), errno.EINVAL),
    "4 generic flag": (lambda data: replace(data, flags=2), errno.EINVAL),
    "4 padding": (lambda data: replace(data, padding=bytes(7) + b"\1"), errno.EINVAL),
    "4 VT-d flag": (lambda data: replace(data, vtd=GpasidBindDataVtd(flags=1 << 7)), errno.EINVAL),
    "7 PASID 0": (lambda data: replace(data, hpasid=0), errno.EINVAL),
    "7 PASID of 21 bits": (lambda data: replace(data, hpasid=1 << 20), errno.EINVAL),
    "8 not allocated": (lambda data: replace(data, hpasid=HOST_PASID + 1), errno.ENOENT),
    "8 another set's": (lambda data: replace(data, hpasid=STRANGER), errno.EACCES),
    "S06 width 39": (lambda data: replace(data, addr_width=39), errno.EINVAL),
    "S06 root beyond the guest": (lambda data: replace(data, gpgd=1 << 48), errno.EINVAL),
    "S06 WPE without SRE": (_vtd(NestedFlags.WPE), errno.EINVAL),
    "S06 EAFE without capability": (_vtd(NestedFlags.EAFE), errno.EINVAL),
    "S06 CD": (_vtd(NestedFlags.CD), errno.EINVAL),
    "S06 EMTE": (_vtd(NestedFlags.EMTE), errno.EINVAL),
    "S06 PCD": (_vtd(NestedFlags.PCD), errno.EINVAL),
    "S06 PWT": (_vtd(NestedFlags.PWT), errno.EINVAL),
}


@pytest.mark.parametrize("row", BAD_DATA)
def test_host_bind_refuses_bad_data(row: str):
    change, number = BAD_DATA[row]

    async def scenario():
        platform, data = await prepared()
        await check_refused(platform, platform.machine.domain, change(data), number)
        entry = await platform.iommu.state_of(platform.device).table.read(HOST_PASID)
        assert not any(entry.words()[1:]), "a refused entry stays clear"

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("device", "number"),
    [
        (Device(0x0208, "5 not PCI", pci=False), ENOTSUPP),
        (Device(0x0208, "6 short PASIDs", pasid_bits=19), errno.EINVAL),
        (Device(0x0208, "6 no PASIDs", pasid_bits=0), errno.EINVAL),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_host_bind_refuses_unfit_devices(device: Device, number: int):
    async def scenario():
        platform, data = await prepared(device=device)
        await check_refused(platform, platform.machine.domain, data, number)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("config", "change"),
    [
        (IommuConfig(nested=False), lambda data: data),
        (IommuConfig(first_stage_5_level=False), lambda data: replace(data, addr_width=57)),
        (IommuConfig(supervisor_requests=False), _vtd(NestedFlags.SRE)),
    ],
    ids=["no nesting", "no 5-level first stage", "no supervisor requests"],
)
def test_host_bind_refuses_what_the_unit_lacks(config: IommuConfig, change: Callable[[GpasidBindData], GpasidBindData]):
    async def scenario():
        platform, data = await prepared(config)
        await check_refused(platform, platform.machine.domain, change(data), errno.EINVAL)

    asyncio.run(scenario())


def test_host_bind_refuses_device_of_another_unit():
    async def scenario():
        platform, data = await prepared()
        stranger = replace(platform, device=Device(0x0300, "elsewhere"))
        traffic = platform.traffic()
        with pytest.raises(IommuError) as refused:
            await bind_gpasid(platform.machine.domain, stranger.device, data)
        assert refused.value.errno == errno.EINVAL
        assert platform.traffic() == traffic

    asyncio.run(scenario())


def test_host_bind_refuses_domain_not_made_for_nesting():
    async def scenario():
        platform, data = await prepared()
        domain = await PagingDomain.create(platform.iommu, platform.machine.owner, nest_parent=False)
        await check_refused(platform, domain, data, errno.EINVAL)

    asyncio.run(scenario())


def test_host_bind_refuses_binding_without_devices(auditors: list[Auditor]):
    async def scenario():
        platform, data = await prepared()
        svm = Svm(platform.iommu, platform.iommu.ioasids.find(platform.machine.owner, HOST_PASID))
        platform.iommu.ioasids.find(platform.machine.owner, HOST_PASID).data = svm
        await check_refused(platform, platform.machine.domain, data, errno.EINVAL)
        with pytest.raises(IommuError) as refused:
            await unbind_gpasid(platform.iommu, platform.device, HOST_PASID)
        assert refused.value.errno == errno.EINVAL
        problems = await auditors.pop().audit()
        assert [problem[:2] for problem in problems] == ["I7", "I7"], "held by nobody, and without a device"

    asyncio.run(scenario())


def test_host_bind_refuses_an_entry_in_use():
    async def scenario():
        platform, data = await prepared()
        trace = platform.iommu.log.trace("test", "R2")
        await setup_pass_through(platform.iommu, platform.device, HOST_PASID, trace)
        await check_refused(platform, platform.machine.domain, data, errno.EBUSY)
        removed = await tear_down(platform.iommu, platform.device, HOST_PASID, trace)
        assert removed is not None
        await bind_gpasid(platform.machine.domain, platform.device, data)

    asyncio.run(scenario())


def test_host_unbind_of_nothing_is_no_error():
    async def scenario():
        platform, _ = await prepared()
        traffic = platform.traffic()
        for pasid in (HOST_PASID, HOST_PASID + 1):
            assert not await unbind_gpasid(platform.iommu, platform.device, pasid)
        for malformed in (0, 1 << 20):
            with pytest.raises(IommuError):
                await unbind_gpasid(platform.iommu, platform.device, malformed)
        assert platform.traffic() == traffic

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("flags", "width", "levels"),
    [(NestedFlags.NONE, 48, 4), (NestedFlags.SRE, 57, 5), (NestedFlags.SRE | NestedFlags.WPE, 48, 4)],
)
def test_host_bind_writes_the_entry_that_was_asked_for(flags: NestedFlags, width: int, levels: int):
    async def scenario():
        platform, data = await prepared()
        data = replace(data, addr_width=width, vtd=GpasidBindDataVtd(flags=flags.value))
        await bind_gpasid(platform.machine.domain, platform.device, data)
        (record,) = platform.iommu.ioasids.find(platform.machine.owner, HOST_PASID).data.devices
        entry = await platform.iommu.state_of(platform.device).table.read(HOST_PASID)
        assert entry == PasidEntry(
            translation=3,
            domain_id=record.domain_id,
            second_stage_levels=4,
            second_stage_root=platform.machine.domain.table.root,
            first_stage_root=BASE,
            first_stage_levels=levels,
            walk_snoop=True,
            supervisor=NestedFlags.SRE in flags,
            write_protect=NestedFlags.WPE in flags,
        )
        assert record.domain_id != platform.machine.domain.domain_id

    asyncio.run(scenario())
