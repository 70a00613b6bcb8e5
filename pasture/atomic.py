"""Files and folders that appear under their name only when they are complete."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pasture.errors import InputError, StorageError, read_error, reason


@contextmanager
def atomic_file(path: Path, *, fixed_name: bool = False) -> Iterator[Path]:
    """Temporary path beside `path` for the body to write; flushed to disk and renamed to `path` if the body succeeds.

    If the body fails, the temporary file is deleted and what was at `path` stays.

    Args:
        path: the file to write.
        fixed_name: always use the same temporary name, so that what a killed process left is overwritten. Only where
            no two processes write `path` at once, such as under a lock.
    """
    temporary = _temporary(path, fixed_name)
    temporary.unlink(missing_ok=True)
    try:
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path, *, fixed_name: bool = False) -> Iterator[Path]:
    """New folder beside `path` for the body to fill; renamed to `path` if the body succeeds, deleted if it fails.

    Args:
        path: the folder to make. It may exist if it is empty.
        fixed_name: as for `atomic_file`.

    Raises:
        InputError: `path` is not empty or cannot be created; or the body cannot open a file outside the new folder.
        StorageError: the body cannot write into the new folder, or cannot read from a disk that fails.
    """
    path = path.resolve()
    temporary = _temporary(path, fixed_name)
    try:
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            raise InputError(f"{path} exists: a new or empty folder expected; choose another or remove it")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({reason(error)}): choose a folder that you may write") from error
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        if error.filename is not None and not str(error.filename).startswith(str(temporary)):
            raise read_error(error.filename, error) from error
        raise StorageError(f"cannot write {path}: {reason(error)}; make space or choose another folder") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _temporary(path: Path, fixed_name: bool) -> Path:
    # The leading dot keeps half-written files out of every listing by suffix and prefix.
    unique = "" if fixed_name else f".{uuid.uuid4().hex[:8]}"
    return path.with_name(f".{path.name}{unique}.partial")
