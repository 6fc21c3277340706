"""Files that are either complete or not there."""

import json
import os
import tempfile
from pathlib import Path

from .errors import UserError

__all__ = ["write_json", "write_text"]


def write_text(path: Path, text: str) -> None:
    """Writes a file under a temporary name beside it and renames it, so that no reader sees half of it.

    Parameters
    ----------
    path : Path
        The file; its directory is made.
    text : str
        The whole content, written as UTF-8.

    Raises
    ------
    UserError
        If the file cannot be written; what was there before stays.
    """
    try:
        if path.is_dir():
            raise IsADirectoryError(0, "is a directory")
        if path.exists() and not path.is_file():  # a pipe or /dev/stdout has no half-written state
            path.write_text(text, encoding="utf-8")
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask()
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(temporary, mode)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def write_json(path: Path, data: object) -> None:
    """Writes ``data`` as indented JSON, complete or not at all. See `write_text`."""
    write_text(path, json.dumps(data, indent=2) + "\n")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
