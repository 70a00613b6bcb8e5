"""The data folder beside a run or a blend: states and species of its images, and small photographs, where at hand."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
from PIL import Image

from pasture.dataset import Dataset, read_train
from pasture.errors import ForageError
from pasture.targets import TARGETS, Array

SMALL: Final = 200
"""Width in pixels of a photograph that appears over a chart: 357 of them take about 3 MB."""
LARGE: Final = 420
"""Width in pixels of a photograph in the text."""


@dataclass(frozen=True)
class DataFolder:
    """Facts about the images of a run or a blend, in its order.

    Attributes:
        states: n.
        species: n.
        paths: of the n photographs.
        images: the n photographs.
    """

    states: list[str]
    species: list[str]
    paths: list[Path]
    images: Dataset

    @classmethod
    def find(cls, location: str, ids: Sequence[str], truth: Array) -> Self | None:
        """The folder at a location; None where there is none, or where its images or targets are others.

        Args:
            location: a local path; empty for none.
            ids: n image ids.
            truth: (n, 5) in grams.
        """
        if not location or not Path(location).is_dir():
            return None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                data = read_train(location)
        except ForageError:
            return None
        if not set(ids) <= set(data.ids):
            return None
        images = data.images.loc[list(ids)]
        if not np.allclose(images[list(TARGETS)].to_numpy(dtype=float), truth, atol=0.01):
            return None
        text = images[["state", "species"]].fillna("").astype(str)
        own = Dataset(data.root, images)
        return cls(list(text["state"]), list(text["species"]), own.paths, own)


def thumbnails(paths: Iterable[Path], width: int) -> list[str | None]:
    """Photographs as JPEG data URIs of a width in pixels; None where one cannot be read."""
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda path: _thumbnail(path, width), paths))


def _thumbnail(path: Path, width: int) -> str | None:
    try:
        with Image.open(path) as picture:
            picture.draft("RGB", (width, width))  # decodes a JPEG at a fraction of its size
            small = picture.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    small.thumbnail((width, width))
    sink = io.BytesIO()
    small.save(sink, "JPEG", quality=60)
    return "data:image/jpeg;base64," + base64.b64encode(sink.getvalue()).decode()
