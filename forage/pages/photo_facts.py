"""Facts about photographs: size, brightness, sharpness, and which ones are nearly the same."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from forage.pages.data_folder import SMALL

_GRAY_WIDTH: Final = 512
_HASH: Final = (16, 8)
"""Columns and rows of the picture that a difference hash compares: 128 bits for a picture twice as wide as high."""
ALIKE: Final = 12
"""Bits in which two photographs may differ to count as nearly the same."""


@dataclass(frozen=True, eq=False)
class PhotoFacts:
    """Facts about one photograph.

    Attributes:
        width: in pixels.
        height: in pixels.
        brightness: mean luma, 0 to 255.
        sharpness: variance of the Laplacian of the luma at a width of 512 pixels; low where out of focus.
        bits: (128,) difference hash (N. Krawetz: Kind of Like That, 2013): whether each of 16 x 8 cells is brighter
            than its left neighbour.
        thumbnail: as a JPEG data URI.
    """

    width: int
    height: int
    brightness: float
    sharpness: float
    bits: NDArray[np.bool_]
    thumbnail: str


def photo_facts(paths: Sequence[Path], watch: Callable[[str, int, int], None]) -> list[PhotoFacts | None]:
    """Facts about every photograph; None where one cannot be read.

    Args:
        paths: of the photographs.
        watch: callback for progress.
    """
    result = []
    with ThreadPoolExecutor(4) as pool:
        for facts in pool.map(_facts, paths):
            result.append(facts)
            watch("photographs", len(result), len(paths))
    return result


def near_duplicates(photographs: Sequence[PhotoFacts | None]) -> list[tuple[int, int, int]]:
    """Pairs of photographs that differ in at most 12 of 128 bits: two positions and the bits, the most alike first."""
    known = [i for i, facts in enumerate(photographs) if facts is not None]
    if len(known) < 2:
        return []
    bits = np.stack([facts.bits for facts in photographs if facts is not None]).astype(np.float32)
    distance = bits @ (1 - bits).T + (1 - bits) @ bits.T
    first, second = np.nonzero(np.triu(distance <= ALIKE, k=1))
    pairs = [(known[a], known[b], int(distance[a, b])) for a, b in zip(first, second, strict=True)]
    return sorted(pairs, key=lambda pair: pair[2])


def _facts(path: Path) -> PhotoFacts | None:
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            picture.draft("RGB", (_GRAY_WIDTH, _GRAY_WIDTH * height // width))  # a JPEG at a fraction of its size
            pixels = picture.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    gray = np.asarray(pixels.convert("L").resize((_GRAY_WIDTH, max(1, _GRAY_WIDTH * height // width))))
    cells = np.asarray(pixels.convert("L").resize((_HASH[0] + 1, _HASH[1]), Image.Resampling.LANCZOS), dtype=np.int16)
    pixels.thumbnail((SMALL, SMALL))
    sink = io.BytesIO()
    pixels.save(sink, "JPEG", quality=60)
    return PhotoFacts(
        width=width,
        height=height,
        brightness=float(gray.mean()),
        sharpness=float(cv2.Laplacian(gray, cv2.CV_64F).var()),
        bits=(cells[:, 1:] > cells[:, :-1]).ravel(),
        thumbnail="data:image/jpeg;base64," + base64.b64encode(sink.getvalue()).decode(),
    )
