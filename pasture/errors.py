"""The errors that forage raises on purpose. Each message is one line: what, what was expected, what to do."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Final


class ForageError(Exception):
    """Base class; the command line prints the message without a traceback and exits with `exit_status`."""

    exit_status = 1


class InputError(ForageError):
    """Wrong use or bad input: a file, a field, a flag. Exit status 2."""

    exit_status = 2


class DataError(InputError):
    """Everything that is wrong with a data folder.

    Attributes:
        findings: one line for each; the message is the first of them and the number of the others.
    """

    def __init__(self, findings: Sequence[str]) -> None:
        self.findings = tuple(findings)
        more = len(self.findings) - 1
        super().__init__(self.findings[0] + (f" (and {more} more: run `forage check` on the folder)" if more else ""))

    def __reduce__(self) -> tuple[type[DataError], tuple[tuple[str, ...]]]:
        # By default an exception is unpickled from its message, which is not what the constructor takes.
        return type(self), (self.findings,)


class JobError(ForageError):
    """The input was right but the job failed. Exit status 1."""

    exit_status = 1


class StorageError(JobError):
    """A disk or a store is full, read-only, damaged or out of reach.

    It is not the fault of the trial that meets it: the job stops and can be resumed once the storage works again.
    """


_LASTING: Final = {
    errno.ENOENT,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.EACCES,
    errno.EPERM,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.EINVAL,
}
"""Error numbers that another attempt to read the same path gives again."""


def read_error(what: object, error: OSError) -> InputError | StorageError:
    """The error to raise when `what` cannot be read.

    A path that does not exist, is a folder or may not be read is bad input. Everything else (an input/output error, a
    mount or a server that went away) may work later: the storage is at fault, and the job can be resumed.
    """
    if error.errno in _LASTING:
        return InputError(f"cannot read {what}: {reason(error)}")
    return StorageError(f"cannot read {what}: {reason(error)}; check the disk or the connection, then resume")


def reason(error: Exception) -> str:
    """First line of what an error says."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0]
