"""The two errors a user can meet. Each is one line: what, what was expected, what to do."""


class ForageError(Exception):
    """Base of every error that forage raises on purpose; the command line prints it without a traceback."""

    exit_status = 1


class InputError(ForageError):
    """Wrong use or bad input: a file, a field, a flag. Exit status 2."""

    exit_status = 2


class JobError(ForageError):
    """The input was right but the job failed. Exit status 1."""

    exit_status = 1


class StorageError(JobError):
    """A disk or a store is full, read-only, damaged or out of reach: no fault of the trial that meets it, and once that
    is mended all can go on from where it was."""
