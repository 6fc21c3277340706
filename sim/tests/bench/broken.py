"""Workloads that `test_workloads` expects to be refused."""

from dataclasses import dataclass
from typing import ClassVar

from nestwalk_sim.bench.platform import GIB, Requests
from nestwalk_sim.bench.session import Outcome, Session, Workload


@dataclass(frozen=True)
class WrongExpectation(Workload):
    """Expects another host page than the tables have."""

    name: ClassVar[str] = "wrong_expectation"

    async def run(self, session: Session) -> Outcome:
        platform = session.platform()
        pages = platform.add_tenant().map_scattered(GIB, 4)
        hosts = pages.hosts.copy()
        hosts[2] ^= 1 << 12
        await session.start(platform, 1)
        await session.run(Requests(pages.records, hosts))
        return Outcome()


@dataclass(frozen=True)
class NothingBlocked(Workload):
    """Expects pages to be blocked that are mapped."""

    name: ClassVar[str] = "nothing_blocked"

    async def run(self, session: Session) -> Outcome:
        platform = session.platform()
        pages = platform.add_tenant().map_scattered(GIB, 4)
        await session.start(platform, 1)
        await session.check_blocked(pages)
        return Outcome()
