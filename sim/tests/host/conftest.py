"""Every test of the host stack runs under the auditor and the order checker."""

import asyncio
from collections.abc import Iterator

import pytest

from nestwalk_sim.host.audit import Auditor
from nestwalk_sim.host.vtd.unit import Iommu
from nestwalk_sim.model_unit import ModelTransport


@pytest.fixture(autouse=True)
def auditors(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Auditor]]:
    """The auditors of all units that the test brings up, asked at its end (A12).

    A test that breaks something on purpose looks at them itself and clears the list.
    """
    auditors: list[Auditor] = []
    create = Iommu.create

    async def audited(transport, *arguments, **options) -> Iommu:
        iommu = await create(transport, *arguments, **options)
        auditors.append(Auditor.attach(iommu, transport if isinstance(transport, ModelTransport) else None))
        return iommu

    monkeypatch.setattr(Iommu, "create", audited)
    yield auditors
    for auditor in auditors:
        assert asyncio.run(auditor.audit()) == []
