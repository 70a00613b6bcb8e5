"""From a photograph to its views: square uint8 pictures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pasture.pictures import read_pixels
from trainables.recipe.sections import View

Picture = NDArray[np.uint8]


def view_groups(view: View) -> tuple[int, ...]:
    """Number of views in each group: the tiles of the whole or of a half, or the whole with its corners."""
    if view.kind == "corners":
        return (5,)
    return (view.tiles**2,) * (2 if view.kind == "halves" else 1)


def view_count(view: View) -> int:
    """How many views a photograph is cut into."""
    return sum(view_groups(view))


def load_views(path: Path, view: View) -> Picture:
    """Decode a photograph and cut it: (views, size, size, 3), RGB.

    Raises:
        InputError: the picture is missing or damaged.
        StorageError: the disk fails.
    """
    return cut(read_pixels(path), view)


def cut(pixels: Picture, view: View) -> Picture:
    """Cut decoded pixels (height, width, 3) into (views, size, size, 3), group after group, row after row."""
    height, width = pixels.shape[0] // 2, pixels.shape[1] // 2
    parts = [pixels]
    if view.kind == "halves":
        parts = [pixels[:, :width], pixels[:, width:]]
    elif view.kind == "corners":
        parts += [pixels[y : y + height, x : x + width] for y in (0, height) for x in (0, width)]
    return np.concatenate([_tiles(_resize(part, view.size * view.tiles), view.tiles) for part in parts])


def _tiles(part: Picture, tiles: int) -> Picture:
    side = part.shape[0] // tiles
    grid = part.reshape(tiles, side, tiles, side, 3).swapaxes(1, 2)
    return grid.reshape(tiles**2, side, side, 3)


def _resize(part: Picture, size: int) -> Picture:
    # Area averaging is the only interpolation of OpenCV that does not alias when a picture shrinks several times.
    shrinks = size < min(part.shape[:2])
    resized = cv2.resize(part, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return np.asarray(resized, dtype=np.uint8)
