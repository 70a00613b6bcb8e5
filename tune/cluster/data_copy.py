"""The data folder on a node that does not have it: fetched once, into the node's cache, under its fingerprint."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from filelock import FileLock

from pasture.dataset import read_train, verify_pictures
from pasture.errors import InputError, JobError
from trainables.images.array_cache import cache_error, cache_root


def local_copy(data: str, fingerprint: str, names: Callable[[], Sequence[str]], read: Callable[[str], bytes]) -> Path:
    """Where this node has the labelled data: the folder itself if it is there and the same, else a copy.

    Args:
        data: path of the data folder where the sweep was launched.
        fingerprint: of the dataset.
        names: paths in it of all files of the dataset, asked for only if they have to be fetched.
        read: content of one of them.

    Raises:
        StorageError: the copy cannot be written.
        JobError: it is not the dataset.
    """
    if _is(Path(data), fingerprint):
        return Path(data)
    copy = cache_root() / "data" / fingerprint[:32]
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(copy.with_suffix(".lock")):
            if not _is(copy, fingerprint):
                _fetch(copy, names(), read)
    except OSError as error:
        raise cache_error(copy.parent, error) from None
    if not _is(copy, fingerprint):
        raise JobError(f"{data}: the data have changed since the sweep was started; put them back")
    return copy


def _is(folder: Path, fingerprint: str) -> bool:
    try:
        return verify_pictures(read_train(folder), needed=False) == fingerprint
    except InputError:
        return False


def _fetch(copy: Path, names: Sequence[str], read: Callable[[str], bytes]) -> None:
    partial = copy.with_suffix(".partial")
    for folder in (partial, copy):  # what a killed process or another time has left
        shutil.rmtree(folder, ignore_errors=True)
    for name in names:
        (partial / name).parent.mkdir(parents=True, exist_ok=True)
        (partial / name).write_bytes(read(name))
    partial.rename(copy)
