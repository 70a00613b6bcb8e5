"""From a photograph to its views: square uint8 pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pasture.pictures import read_pixels
from trainables.recipe.sections import View

Picture = NDArray[np.uint8]


class Box(NamedTuple):
    """A rectangle of a photograph: its left and upper edge, width and height, as shares of the photograph's."""

    x: float
    y: float
    width: float
    height: float


_BOXES: Final[dict[str, tuple[Box, ...]]] = {
    "whole": (Box(0, 0, 1, 1),),
    "halves": (Box(0, 0, 0.5, 1), Box(0.5, 0, 0.5, 1)),
    "whole_and_halves": (Box(0, 0, 1, 1), Box(0, 0, 0.5, 1), Box(0.5, 0, 0.5, 1)),
    "corners": (Box(0, 0, 1, 1), *(Box(x, y, 0.5, 0.5) for y in (0, 0.5) for x in (0, 0.5))),
}


def view_boxes(view: View) -> list[Box]:
    """The part of the photograph that each view shows, in the order of the views."""
    tiles = view.tiles
    return [
        Box(box.x + column * box.width / tiles, box.y + row * box.height / tiles, box.width / tiles, box.height / tiles)
        for box in _BOXES[view.kind]
        for row in range(tiles)
        for column in range(tiles)
    ]


def view_shares(view: View) -> list[float]:
    """Each view's part of the photograph's area, divided by how many views show it; the sum is 1."""
    areas = [box.width * box.height for box in view_boxes(view)]
    return [area / sum(areas) for area in areas]


def view_groups(view: View) -> tuple[int, ...]:
    """Number of views in each group: the tiles of the whole or of a half, or the whole with its corners."""
    if view.kind == "corners":
        return (5,)
    return (view.tiles**2,) * len(_BOXES[view.kind])


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
    height, width = pixels.shape[:2]
    parts = [
        pixels[
            int(box.y * height) : int((box.y + box.height) * height),
            int(box.x * width) : int((box.x + box.width) * width),
        ]
        for box in _BOXES[view.kind]
    ]
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
