"""The command line `nestwalk`: one module per sub-command, imported only when it is the one that runs.

A sub-command ``x`` is the function ``x`` of the module ``cli/x.py``, its arguments annotated for typer. It returns None
or an exit status: 0 done, 1 a check failed. `UserError` becomes one line on standard error and status 2.
"""

import importlib
import sys
from collections.abc import Callable, Sequence

import typer

from ..errors import UserError

__all__ = ["main"]

COMMANDS = {
    "demo": "The main job: captured platforms and a two-guest story through the RTL, checked against the model.",
    "replay": "Replay a captured platform on the RTL or the model and compare each answer.",
    "walk": "Show one walk of a captured platform, entry by entry.",
    "verilog": "Write release Verilog and its JSON sidecar.",
    "bench": "Run the workloads against limit, target and peer.",
    "formal": "Run proofs.",
    "board": "Build for a board: frequency, utilisation, critical path.",
}
"""Sub-commands and what the list of commands says about them."""

OPEN = {
    "sweep": ("Design-space sweeps and random regressions on Dask.", "In its users' hands"),
    "report": ("One HTML page from stored results.", "In its users' hands"),
}
"""Sub-commands that are not built yet: what they will do, and the issue that brings them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the console script.

    Parameters
    ----------
    arguments : sequence of str, optional
        Words after the program's name; ``sys.argv`` by default.

    Returns
    -------
    int
        The exit status.
    """
    words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        return _app(words[0])(words, prog_name="nestwalk", standalone_mode=False) or 0
    except UserError as error:
        return _fail(str(error), error.exit_status)
    except typer.TyperException as error:
        return _fail(error.format_message(), error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        return _fail("interrupted", 130)


def _app(wanted: str) -> typer.Typer:
    """The application with the wanted sub-command loaded and the others known by name and help alone."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.callback(help="An IOMMU translation unit with the VT-d scalable-mode programming model.")(lambda: None)
    for name, summary in COMMANDS.items():
        app.command(name, short_help=summary)(_load(name) if name == wanted else lambda: None)
    for name, (summary, issue) in OPEN.items():
        anything = {"allow_extra_args": True, "ignore_unknown_options": True}
        app.command(name, help=f"(open) {summary}", context_settings=anything)(_not_built(name, issue))
    return app


def _load(name: str) -> Callable:
    return getattr(importlib.import_module(f".{name}", __name__), name)


def _not_built(name: str, issue: str) -> Callable[[], int]:
    return lambda: _fail(f'{name}: not built yet; it comes with the issue "{issue}"', 1)


def _fail(message: str, status: int) -> int:
    print(f"nestwalk: {' '.join(message.split())}", file=sys.stderr)
    return status
