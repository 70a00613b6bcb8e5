"""From a photograph to its views: square uint8 pictures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pasture.errors import InputError
from trainables.recipe import View

Picture = NDArray[np.uint8]

_VIEWS = {"whole": 1, "halves": 2}


def view_count(view: View) -> int:
    """How many views a photograph is cut into."""
    return _VIEWS[view.kind]


def load_views(path: Path, view: View) -> Picture:
    """Decode a photograph and cut it: (views, size, size, 3), RGB.

    Raises:
        InputError: the picture is missing or damaged.
    """
    try:
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: not a readable picture ({error})") from None
    return cut(pixels, view)


def cut(pixels: Picture, view: View) -> Picture:
    """Cut decoded pixels (height, width, 3) into (views, size, size, 3)."""
    middle = pixels.shape[1] // 2
    parts = [pixels] if view.kind == "whole" else [pixels[:, :middle], pixels[:, middle:]]
    return np.stack([_resize(part, view.size) for part in parts])


def _resize(part: Picture, size: int) -> Picture:
    # Area averaging is the one interpolation that does not alias when a picture shrinks several times.
    shrinks = size < min(part.shape[:2])
    resized = cv2.resize(part, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return np.asarray(resized, dtype=np.uint8)
