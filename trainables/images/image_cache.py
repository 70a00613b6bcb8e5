"""Cache of decoded photographs: the resized uint8 views of a whole dataset, memory-mapped."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from pasture.verification import VerifiedDataset
from trainables.images.array_cache import cached_array
from trainables.images.views import load_views, view_count
from trainables.recipe.sections import View

Watch = Callable[[str, int, int], None]
"""Progress callback: called with the name of the step, the number of photographs done and their total."""


def silent(what: str, done: int, total: int) -> None:
    """No-op progress callback."""


def cached_views(dataset: VerifiedDataset, view: View, watch: Watch = silent) -> np.ndarray:
    """(images, views, size, size, 3) uint8 RGB, read-only.

    Args:
        dataset: the photographs. The same content gives the same array.
        view: how to cut them.
        watch: told of progress.
    """

    def fill(array: np.ndarray) -> None:
        def load(row: int) -> None:
            array[row] = load_views(paths[row], view)

        paths = dataset.paths
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            for done, _ in enumerate(pool.map(load, range(len(paths))), start=1):
                watch("decoding", done, len(paths))

    key = {"dataset": dataset.content, "view": view.model_dump(mode="json")}
    shape = (len(dataset), view_count(view), view.size, view.size, 3)
    return cached_array("views", key, shape, np.uint8, fill)
