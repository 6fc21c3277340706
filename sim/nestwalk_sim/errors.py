"""Errors that a person can mend, printed as one line by the command line."""

__all__ = ["ToolMissing", "UserError"]


class UserError(Exception):
    """Bad input in the user's terms. The command line prints the message on one line and exits with status 2.

    Parameters
    ----------
    message : str
        What is wrong and where, with the values; line breaks are folded into one line.
    """

    exit_status = 2

    def __str__(self) -> str:
        return " ".join(super().__str__().split())


class ToolMissing(UserError):
    """A program that the machine or the virtual environment lacks, with the package that brings it. Exit status 1."""

    exit_status = 1
