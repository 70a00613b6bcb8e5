"""Content-addressed arrays on disk, computed once and memory-mapped by every process of the node."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import DTypeLike

from pasture.errors import JobError


def cache_root() -> Path:
    """Folder of all caches: $FORAGE_CACHE, else ~/.cache/forage."""
    return Path(os.environ.get("FORAGE_CACHE") or Path.home() / ".cache" / "forage")


def cached_array(
    kind: str,
    key: Mapping[str, Any],
    shape: tuple[int, ...],
    dtype: DTypeLike,
    fill: Callable[[np.ndarray], None],
) -> np.ndarray:
    """The array that `key` names, read-only and memory-mapped; `fill` computes it if it is not there yet.

    The name is a hash of the key, so the key must say everything the content depends on. Two processes that ask at once
    build once: the second waits on a lock that the system drops when its holder dies. The array appears under its
    name only when complete.

    Raises:
        JobError: the cache cannot be written.
    """
    text = json.dumps(dict(key), sort_keys=True)
    path = cache_root() / kind / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.npy"
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_suffix(".lock")):
                if not path.exists():
                    _build(path, shape, dtype, fill)
        except OSError as error:
            raise JobError(
                f"cannot write the cache {path.parent}: {error.strerror or error}; set FORAGE_CACHE to another folder"
            ) from None
    array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def _build(path: Path, shape: tuple[int, ...], dtype: DTypeLike, fill: Callable[[np.ndarray], None]) -> None:
    # One fixed temporary name: the lock admits one builder, and what a killed one left is overwritten.
    temporary = path.with_suffix(".partial")
    array = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.dtype(dtype), shape=shape)
    fill(array)
    array.flush()
    temporary.replace(path)
