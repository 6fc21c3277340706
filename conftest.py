"""What every test shares: the tools' environment and the seed of the random tests."""

import os
from datetime import date
from random import Random

import pytest
from hypothesis import settings

from nestwalk_sim import tools

settings.register_profile("nestwalk", deadline=None, print_blob=True)


def pytest_configure(config: pytest.Config) -> None:
    """Finds the tools without an activated environment and fixes the seed, for workers and simulations too."""
    tools.install()
    os.environ.setdefault("NESTWALK_SEED", date.today().strftime("%Y%m%d"))
    settings.load_profile("nestwalk")


def pytest_report_header() -> str:
    return f"random tests: NESTWALK_SEED={os.environ['NESTWALK_SEED']}"


@pytest.fixture
def seed() -> int:
    """Seed of this run's random tests: NESTWALK_SEED (decimal), by default made from the date."""
    value = int(os.environ["NESTWALK_SEED"])
    print(f"NESTWALK_SEED={value}")
    return value


@pytest.fixture
def rng(seed: int, request: pytest.FixtureRequest) -> Random:
    """Random numbers of one test: the run's seed, and a stream of their own for each test and its parameters."""
    return Random(f"{seed} {request.node.name}")
