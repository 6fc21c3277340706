"""Fixtures of the unit tests: one seed for all randomness."""

import os
from datetime import date
from random import Random

import pytest


@pytest.fixture
def rng(request) -> Random:
    """Random numbers of one test, from NESTWALK_SEED (decimal) or else from the date; the seed is printed."""
    seed = int(os.environ.get("NESTWALK_SEED") or date.today().toordinal())
    print(f"NESTWALK_SEED={seed}")
    return Random(f"{seed} {request.node.name}")
