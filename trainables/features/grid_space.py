"""The disk space of a feature bank that keeps every cell of every view."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import DTypeLike

from pasture.errors import JobError
from trainables.images.array_cache import cache_root

_GB: Final = 1e9


def bank_gb(shape: tuple[int, ...], dtype: DTypeLike) -> float:
    """What an array takes, in GB (10^9 bytes)."""
    return math.prod(shape) * np.dtype(dtype).itemsize / _GB


def check_space(path: Path, shape: tuple[int, ...], dtype: DTypeLike) -> None:
    """Check that the disk has room for an array of the cache, unless the array is there already.

    While an array is computed, its blocks lie beside it: together they take twice its size.

    Raises:
        JobError: the disk has not.
    """
    if path.exists():
        return
    folder = cache_root()
    folder.mkdir(parents=True, exist_ok=True)
    needed, free = 2 * bank_gb(shape, dtype), shutil.disk_usage(folder).free / _GB
    if needed > free:
        raise JobError(
            f"the cells of head.kind=density take {needed:.3g} GB of disk while they are computed, {folder} has "
            f"{free:.3g} GB free; lower view.size or set FORAGE_CACHE to a larger disk"
        )
