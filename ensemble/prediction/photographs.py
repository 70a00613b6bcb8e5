"""Photographs to predict: decoded once, some at a time, while earlier ones are computed."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from pasture.dataset import Dataset
from pasture.pictures import read_pixels
from trainables.images.views import cut, view_count
from trainables.recipe.sections import View

CHUNK_BYTES: Final = 2**30
"""Of cut photographs in a chunk; the next chunk is decoded while a chunk is computed."""
LARGEST_CHUNK: Final = 512


@dataclass(frozen=True)
class Chunk:
    """Some photographs that follow one another, cut into views.

    Attributes:
        rows: their positions in the dataset.
        decoded: for each photograph its views by how it was cut: (views, size, size, 3) uint8.
    """

    rows: slice
    decoded: list[Future[dict[View, np.ndarray]]]

    def __len__(self) -> int:
        return len(self.decoded)

    def views(self, view: View, start: int, stop: int) -> Tensor:
        """(stop - start, views, size, size, 3) uint8, waiting for what is not decoded yet."""
        return torch.from_numpy(np.stack([one.result()[view] for one in self.decoded[start:stop]]))


def chunk_size(views: Collection[View]) -> int:
    """How many photographs to hold at a time, by the memory that their views need."""
    each = sum(view_count(view) * view.size**2 * 3 for view in views)
    return LARGEST_CHUNK if not each else max(1, min(LARGEST_CHUNK, CHUNK_BYTES // each))


def chunks(dataset: Dataset, views: Collection[View], most: int = LARGEST_CHUNK) -> Iterator[Chunk]:
    """All photographs, each decoded once.

    Args:
        dataset: the photographs.
        views: every way in which they are cut; none where no picture is needed, and then none is read.
        most: largest number of photographs in a chunk.

    Raises:
        InputError: on first use of a picture that cannot be read.
    """
    paths, size = dataset.paths, max(1, min(chunk_size(views), most))

    def load(path: Path) -> dict[View, np.ndarray]:
        if not views:
            return {}
        pixels = read_pixels(path)
        return {view: cut(pixels, view) for view in views}

    pool = ThreadPoolExecutor(max_workers=os.cpu_count())

    def submit(start: int) -> Chunk:
        part = paths[start : start + size]
        return Chunk(slice(start, start + len(part)), [pool.submit(load, path) for path in part])

    try:
        following = submit(0)
        for start in range(0, len(paths), size):
            current, following = following, submit(start + size)
            yield current
    finally:
        pool.shutdown(cancel_futures=True)
