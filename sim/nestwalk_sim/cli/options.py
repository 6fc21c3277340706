"""Arguments that several sub-commands share."""

from pathlib import Path
from typing import Annotated

import typer

from nestwalk.config import PRESETS, IommuConfig, preset

from ..errors import UserError

__all__ = ["Json", "Preset", "configuration"]

Preset = Annotated[str, typer.Option("--preset", metavar="P", help=f"Configuration: {', '.join(PRESETS)}.")]
Json = Annotated[Path | None, typer.Option("--json", metavar="F", help="Write the result as JSON too.")]


def configuration(name: str) -> IommuConfig:
    """The configuration of preset ``name``.

    Raises
    ------
    UserError
        If there is no such preset.
    """
    try:
        return preset(name)
    except ValueError as error:
        raise UserError(str(error)) from error
