"""Pictures of density maps: grams per cell over the photograph, a panel for each target."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pasture.dataset import Dataset
from pasture.files import Folder
from pasture.pictures import read_pixels
from pasture.targets import TARGETS, TOTAL, Array
from trainables.images.views import Picture

_WIDTH: Final = 560
_TITLE: Final = 26
_LEGEND: Final = 22
_GAP: Final = 10
_COLOUR: Final = 0.6
"""Share of the colour in a panel; the rest is the photograph in grey."""
_LEAST_RANGE: Final = 0.2
"""The scale of a panel ends at its largest cell, or at this share of the largest of Total: traces look small."""


def write_map_pictures(folder: Path, dataset: Dataset, maps: Iterable[tuple[str, Array]]) -> int:
    """Write `<image id>.png` for every map and return how many.

    Args:
        folder: created if it does not exist.
        dataset: the photographs.
        maps: ids and maps (height, width, 5) in grams per cell, from `density_maps`.

    Raises:
        InputError: a photograph cannot be read.
        StorageError: a picture cannot be written.
    """
    paths, out, count = dict(zip(dataset.ids, dataset.paths, strict=True)), Folder.at(folder), 0
    for image, grams in maps:
        content = cv2.imencode(".png", draw(read_pixels(paths[image]), grams)[..., ::-1])[1]
        out.write(f"{image}.png", content.tobytes())
        count += 1
    return count


def draw(photograph: Picture, grams: Array) -> Picture:
    """The photograph and a panel for each target, in two rows of three.

    Args:
        photograph: (height, width, 3) RGB.
        grams: (rows, columns, 5) per cell.

    Returns:
        RGB pixels. A panel's title has the sum of its cells; the legend below has the grams per cell of its colours.
    """
    height = round(_WIDTH * photograph.shape[0] / photograph.shape[1])
    small = np.asarray(cv2.resize(photograph, (_WIDTH, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    grey = cv2.cvtColor(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    panels = [_panel(small, "photograph", None)]
    for target, name in enumerate(TARGETS):
        cells = np.maximum(grams[..., target], 0)
        top = max(cells.max(), _LEAST_RANGE * np.maximum(grams[..., TOTAL], 0).max(), 1e-9)
        levels = np.round(cells / top * 255).astype(np.uint8)
        large = cv2.resize(levels, (_WIDTH, height), interpolation=cv2.INTER_NEAREST)
        mixed = _COLOUR * _colours(large) + (1 - _COLOUR) * grey
        panels.append(_panel(mixed.round().astype(np.uint8), f"{name}: {grams[..., target].sum():.1f} g", top))
    return np.vstack([np.hstack(panels[:3]), np.hstack(panels[3:])])


def _panel(pixels: Picture, title: str, top: float | None) -> Picture:
    """Pixels between a title and, where there is an upper end of the scale, a legend."""
    height, width = pixels.shape[:2]
    canvas = np.full((_TITLE + height + _LEGEND, width + _GAP, 3), 255, dtype=np.uint8)
    canvas[_TITLE : _TITLE + height, :width] = pixels
    bar = slice(width // 4, 3 * width // 4)
    if top is not None:
        ramp = np.linspace(0, 255, bar.stop - bar.start).astype(np.uint8)[None]
        canvas[_TITLE + height + 5 : -5, bar] = _colours(ramp)
    picture = Image.fromarray(canvas)
    text, font = ImageDraw.Draw(picture), ImageFont.load_default(15)
    text.text((4, _TITLE // 2), title, fill="black", font=font, anchor="lm")
    if top is not None:
        middle = _TITLE + height + _LEGEND // 2
        text.text((bar.start - 6, middle), "0", fill="black", font=font, anchor="rm")
        text.text((bar.stop + 6, middle), f"{top:.3g} g per cell", fill="black", font=font, anchor="lm")
    return np.asarray(picture)


def _colours(levels: Picture) -> Picture:
    """(h, w) 0 to 255 to (h, w, 3) RGB."""
    return np.asarray(cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS)[..., ::-1], dtype=np.uint8)
