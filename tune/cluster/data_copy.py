"""The data folder on a node that does not have it: fetched once into the node's cache, under its fingerprint."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from filelock import FileLock

from pasture.atomic import atomic_folder
from pasture.dataset import read_train
from pasture.errors import InputError, JobError
from pasture.verification import VerifiedDataset, verify
from trainables.images.array_cache import cache_error, cache_root


def local_copy(
    data: str, fingerprint: str, names: Callable[[], Sequence[str]], read: Callable[[str], bytes]
) -> VerifiedDataset:
    """Return the labelled data on this node: of the folder itself if it exists with this fingerprint, else of a copy.

    Args:
        data: path of the data folder where the sweep was launched.
        fingerprint: of the dataset's content.
        names: returns the paths, within the folder, of all files of the dataset; called only to fetch them.
        read: returns the content of one file.

    Raises:
        StorageError: the copy cannot be written.
        JobError: the files on the driver's node have another fingerprint now.
    """
    if dataset := _verified(Path(data), fingerprint):
        return dataset
    copy = cache_root() / "data" / fingerprint[:32]
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(copy.with_suffix(".lock")):
            dataset = _verified(copy, fingerprint)
            if dataset is None:
                _fetch(copy, names(), read)
                dataset = _verified(copy, fingerprint)
    except OSError as error:
        raise cache_error(copy.parent, error) from None
    if dataset is None:
        raise JobError(f"{data}: the data have changed since the sweep was started; put them back")
    return dataset


def _verified(folder: Path, fingerprint: str) -> VerifiedDataset | None:
    try:
        dataset = verify(read_train(folder), needs_pictures=False)
    except InputError:
        return None
    return dataset if dataset.content == fingerprint else None


def _fetch(copy: Path, names: Sequence[str], read: Callable[[str], bytes]) -> None:
    shutil.rmtree(copy, ignore_errors=True)  # damaged, or other data
    with atomic_folder(copy, fixed_name=True) as partial:
        for name in names:
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            (partial / name).write_bytes(read(name))
