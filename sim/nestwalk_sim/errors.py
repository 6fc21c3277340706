"""Errors that end a command with one line instead of a stack."""

from pathlib import Path

__all__ = ["ToolFailed", "ToolMissing", "UserError"]


class UserError(Exception):
    """Bad input, in the user's terms. The command line prints it as one line and exits with ``exit_status``, 2.

    Parameters
    ----------
    message : str
        What is wrong and where, with the values; line breaks are folded.
    """

    exit_status = 2

    def __str__(self) -> str:
        return " ".join(super().__str__().split())


class ToolMissing(UserError):
    """A program that the machine or the virtual environment lacks, with the package that brings it."""

    exit_status = 1


class ToolFailed(UserError):
    """A tool ended with an error.

    Parameters
    ----------
    what : str
        What it was doing.
    status : int
        Its exit status.
    log : Path
        Its output, of which the message quotes the last line that tells the cause.
    """

    exit_status = 1

    def __init__(self, what: str, status: int, log: Path):
        self.log = log
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        told = [line for line in lines if "error" in line.lower()]
        super().__init__(f"{what} failed with status {status}: {(told or lines or ['no output'])[-1]} (log: {log})")
