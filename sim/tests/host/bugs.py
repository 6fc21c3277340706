"""What a historical bug is, as a switch that puts it back into the driver."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

__all__ = ["Bug", "Patch", "nothing"]

Patch = pytest.MonkeyPatch


@dataclass(frozen=True)
class Bug:
    """One row of section 5.

    Parameters
    ----------
    row : int
        Its number there.
    title : str
        What was wrong.
    plant : callable
        Puts it back.
    caught_by : str
        How the complaint begins of the checker that sees it first: an invariant, a recipe, or what everyday life met.
    caching_mode : bool
        Whether it shows with CAP.CM only.
    """

    row: int
    title: str
    plant: Callable[[Patch], None]
    caught_by: str
    caching_mode: bool = False

    def __str__(self) -> str:
        return f"{self.row} {self.title}"


async def nothing(*_arguments: Any, **_options: Any) -> None:
    """A step that is left out."""
