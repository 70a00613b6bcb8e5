"""Content-addressed arrays on disk, computed once and memory-mapped by every process of the node."""

from __future__ import annotations

import hashlib
import json
import math
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from filelock import FileLock
from numpy.typing import DTypeLike

from pasture.atomic import atomic_file
from pasture.errors import InputError, JobError, StorageError

_GB: Final = 10**9
_LIMIT_GB: Final = 50.0


def cache_root() -> Path:
    """Folder of all caches: $FORAGE_CACHE, else ~/.cache/forage."""
    return Path(os.environ.get("FORAGE_CACHE") or Path.home() / ".cache" / "forage")


def cache_limit() -> int:
    """Most bytes that arrays may take on this node: $FORAGE_CACHE_LIMIT in GB (10^9 bytes), else 50 GB.

    Raises:
        InputError: the variable is not a positive number.
    """
    text = os.environ.get("FORAGE_CACHE_LIMIT") or str(_LIMIT_GB)
    with suppress(ValueError):
        if 0 < (limit := float(text)) < math.inf:
            return int(limit * _GB)
    raise InputError(f"FORAGE_CACHE_LIMIT={text!r}: expected a positive number of GB, such as 20")


class Entry(NamedTuple):
    """One array of the cache.

    Attributes:
        kind: what it is: `views` or `features`.
        key: everything its content depends on.
        path: of the array.
        used: when it was asked for last.
    """

    kind: str
    key: dict[str, Any]
    path: Path
    used: datetime


def entries() -> Iterator[Entry]:
    """Every array of the cache, most recently used first."""
    paths = sorted(cache_root().glob("*/*.npy"), key=_used, reverse=True)
    for path in paths:
        with suppress(OSError, ValueError):  # evicted in the meantime
            key = json.loads(path.with_suffix(".json").read_text())
            yield Entry(path.parent.name, key, path, datetime.fromtimestamp(_used(path), UTC))


def array_path(kind: str, key: Mapping[str, Any]) -> Path:
    """Path of the array with a given key, present or not: its name is a hash of the key."""
    return cache_root() / kind / f"{hashlib.sha256(_text(key).encode()).hexdigest()[:32]}.npy"


def cached_array(
    kind: str,
    key: Mapping[str, Any],
    shape: tuple[int, ...],
    dtype: DTypeLike,
    fill: Callable[[np.ndarray], None],
) -> np.ndarray:
    """The array with a given key, read-only and memory-mapped; `fill` computes it on a cache miss.

    The key must contain everything the content depends on. If two processes ask at once, one builds the array and the
    other waits on a lock, which the system releases if its holder dies. The file appears under its final name only when
    complete. When the cache exceeds `cache_limit`, the least recently used arrays are deleted; a process that has one
    open keeps its mapping.

    Raises:
        StorageError: the cache cannot be written.
        JobError: the array alone is larger than the limit.
    """
    path = array_path(kind, key)
    try:
        array = _open(path, shape)
        if array is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_suffix(".lock")):
                array = _open(path, shape)
                if array is None:
                    _build(path, key, shape, np.dtype(dtype), fill)
                    array = _open(path, shape)
    except OSError as error:
        raise cache_error(path.parent, error) from None
    if array is None:
        raise JobError(f"{path}: gone as soon as it was built; raise --cache-limit (FORAGE_CACHE_LIMIT)")
    return array


def cache_error(folder: Path, error: OSError) -> StorageError:
    """The error for a folder of this node's cache that cannot be written."""
    return StorageError(
        f"cannot write the cache {folder} of {socket.gethostname()}: {error.strerror or error}; make space, or set "
        "FORAGE_CACHE to another folder"
    )


def _open(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """The array, or None if it is missing or incomplete."""
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (FileNotFoundError, ValueError, EOFError):
        return None
    with suppress(OSError):  # the cache may be read-only
        os.utime(path)
    return array if array.shape == shape else None


def _build(
    path: Path, key: Mapping[str, Any], shape: tuple[int, ...], dtype: np.dtype[Any], fill: Callable[[np.ndarray], None]
) -> None:
    with atomic_file(path, fixed_name=True) as temporary:
        _make_room(int(np.prod(shape)) * dtype.itemsize)
        array = np.lib.format.open_memmap(temporary, mode="w+", dtype=dtype, shape=shape)
        if hasattr(os, "posix_fallocate"):
            # Without reserved space, writing to a memory map on a full disk kills the process with SIGBUS.
            with temporary.open("r+b") as stream:
                os.posix_fallocate(stream.fileno(), 0, temporary.stat().st_size)
        fill(array)
        array.flush()
        path.with_suffix(".json").write_text(_text(key))


def _make_room(needed: int) -> None:
    """Delete the least recently used arrays until `needed` more bytes fit within the limit."""
    limit = cache_limit()
    if needed > limit:
        raise JobError(
            f"the cache may hold {limit / _GB:.3g} GB, but one array takes {needed / _GB:.3g} GB; raise --cache-limit "
            "(FORAGE_CACHE_LIMIT) or lower view.size"
        )
    files = {path: path.stat().st_size for path in cache_root().glob("*/*") if path.suffix in (".npy", ".partial")}
    total = sum(files.values())
    for path in sorted((p for p in files if p.suffix == ".npy"), key=_used):
        if total + needed <= limit:
            return
        path.unlink(missing_ok=True)
        path.with_suffix(".json").unlink(missing_ok=True)
        total -= files[path]


def _used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _text(key: Mapping[str, Any]) -> str:
    return json.dumps(dict(key), sort_keys=True)
