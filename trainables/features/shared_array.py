"""A cached array that several processes compute together, block by block."""

from __future__ import annotations

import io
import shutil
import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike

from pasture.errors import InputError
from pasture.files import Folder
from trainables.images.array_cache import array_path, cached_array
from trainables.images.image_cache import Watch, silent

_ROWS: Final = 16
_LEAST_PATIENCE: Final = 2.0
_POLL_SECONDS: Final = 0.1


def shared_array(
    kind: str,
    key: dict[str, Any],
    shape: tuple[int, ...],
    dtype: DTypeLike,
    compute: Callable[[range], np.ndarray],
    shared: Folder | None = None,
    watch: Watch = silent,
) -> np.ndarray:
    """Like `array_cache.cached_array`, for an array whose rows are computed independently of one another.

    Every process that needs the array claims an unclaimed block, computes it and writes it for the others, in random
    order, so that any number of processes on any number of nodes share the work. If a process dies, another one
    recomputes its block after a timeout. Two processes may compute the same block; they write the same values.

    Args:
        kind, key, shape, dtype: as for `cached_array`.
        compute: returns some rows of the array.
        shared: folder for the blocks that all nodes can read; by default a folder beside the array, which serves the
            processes of this node.
        watch: progress callback.
    """
    path = array_path(kind, key)
    blocks = shared / path.stem if shared else Folder.at(path.with_suffix(".blocks"))
    spans = [range(start, min(start + _ROWS, shape[0])) for start in range(0, shape[0], _ROWS)]

    def block(span: range) -> np.ndarray:
        if blocks.exists(_file(span)):
            try:
                return np.asarray(np.load(io.BytesIO(blocks.read(_file(span))), allow_pickle=False))
            except (InputError, ValueError, EOFError):
                pass  # deleted by the process that has just assembled the array, or damaged
        values = compute(span).astype(dtype)
        content = io.BytesIO()
        np.save(content, values)
        blocks.write(_file(span), content.getvalue())
        return values

    def fill(array: np.ndarray) -> None:
        for span in spans:
            array[span.start : span.stop] = block(span)

    patience = _LEAST_PATIENCE
    for done, i in enumerate(np.random.default_rng().permutation(len(spans))):
        if path.exists():
            break
        watch("features", min(done * _ROWS, shape[0]), shape[0])
        claim = f"{spans[i].start:08d}.claim"
        if not blocks.exists(claim):
            blocks.write(claim, b"")
            start = time.monotonic()
            block(spans[i])
            patience = max(patience, 3 * (time.monotonic() - start))
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and not (path.exists() or all(blocks.exists(_file(span)) for span in spans)):
        time.sleep(_POLL_SECONDS)
    array = cached_array(kind, key, shape, dtype, fill)
    if shared is None:
        shutil.rmtree(blocks.path, ignore_errors=True)
    watch("features", shape[0], shape[0])
    return array


def _file(span: range) -> str:
    return f"{span.start:08d}.npy"
