"""FPGA boards and their builds: one module per board, which holds ``BOARD``."""

import importlib
import pkgutil

from nestwalk_sim.errors import UserError

from .board import Board

__all__ = ["board", "names"]


def names() -> list[str]:
    """Names of all boards: those modules of this package that hold a ``BOARD``."""
    modules = [info.name for info in pkgutil.iter_modules(__path__) if not info.name.startswith(("test_", "_"))]
    return sorted(name for name in modules if hasattr(importlib.import_module(f".{name}", __name__), "BOARD"))


def board(name: str) -> Board:
    """The board called ``name``.

    Raises
    ------
    UserError
        If there is no such board; the message lists those that exist.
    """
    known = names()
    if name not in known:
        raise UserError(f"unknown board {name!r}: choose one of {', '.join(known)}")
    return importlib.import_module(f".{name}", __name__).BOARD
