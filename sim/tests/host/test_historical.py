"""Historical bugs of other drivers, put back one by one: the checkers that stand in every test catch each of them."""

import asyncio

import pytest

from nestwalk_sim.host.audit import Auditor
from sim.tests.host.bugs import Bug
from sim.tests.host.everyday import everyday
from sim.tests.host.mutants import BUGS

MUST_BE_KILLED = {1, 2, 12, 14, 16, 18, 20, 21, 23, 28, 29, 30, 31}
"""Rows that acceptance A11 names."""


@pytest.mark.parametrize("caching_mode", [False, True])
def test_historical_everyday_life_of_the_right_driver_is_clean(caching_mode: bool, auditors: list[Auditor]):
    assert asyncio.run(everyday(auditors, caching_mode=caching_mode)) == []


@pytest.mark.parametrize("bug", BUGS, ids=str)
def test_historical_bug_is_caught(bug: Bug, auditors: list[Auditor], monkeypatch: pytest.MonkeyPatch):
    """The first complaint of the same everyday life comes from the checker that the table names."""
    bug.plant(monkeypatch)
    complaints = asyncio.run(everyday(auditors, caching_mode=bug.caching_mode))
    auditors.clear()
    assert complaints, "nobody noticed"
    assert complaints[0].startswith(bug.caught_by), complaints[0]


def test_historical_bugs_of_the_acceptance_list_are_in_the_table():
    """A11."""
    rows = {bug.row for bug in BUGS}
    assert rows >= MUST_BE_KILLED
    assert len(rows) == len(BUGS)
