"""A training batch as the network sees it, as one picture."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from pasture.dataset import Dataset
from pasture.folds import training_rows
from pasture.targets import TARGETS
from trainables.features.feature_bank import copies, training_elements
from trainables.images import d4
from trainables.images.augment import augment, build
from trainables.images.views import Picture, load_views
from trainables.recipe.recipe import Recipe

MOST: Final = 16
"""Photographs of a batch that are drawn."""
_SIDE: Final = 144
"""Pixels of a view in the picture."""
_LINES: Final = 3
_TEXT: Final = 16 * _LINES


def batch_picture(dataset: Dataset, recipe: Recipe, seed: int = 0, most: int = MOST) -> Image.Image:
    """The first photographs of a training batch of fold 0: views after augmentation, before normalisation, and targets.

    For a frozen backbone, which reads features of prepared copies, a view is one of those copies: an element of D4,
    or an augmented copy. Mixup, which mixes photographs of a batch, is not drawn.

    Args:
        dataset: the labelled photographs.
        recipe: view, augmentation, folds and batch size.
        seed: draws the batch and the augmentation.
        most: photographs that are drawn.

    Raises:
        InputError: a picture is missing or damaged, or there are too few dates for the folds.
    """
    generator = np.random.default_rng(seed)
    rows = generator.permutation(training_rows(recipe.validation.assign(dataset), 0))
    rows = rows[: min(most, recipe.schedule.batch_size)]
    pictures = [_seen(load_views(dataset.paths[row], recipe.view), recipe, generator) for row in rows]
    captions = [_caption(dataset, int(row)) for row in rows]
    return _montage(pictures, captions)


def _seen(views: Picture, recipe: Recipe, generator: np.random.Generator) -> Picture:
    """(views, size, size, 3) of one photograph after augmentation."""
    pipeline, seed = build(recipe.augment, recipe.view.size), int(generator.integers(2**32))
    if not recipe.banked:
        return views if pipeline is None else augment(pipeline, views, seed)
    elements = training_elements(recipe)
    draw = int(generator.integers(len(elements) + copies(recipe)))
    if draw < len(elements):
        return np.ascontiguousarray(d4.apply(torch.from_numpy(views), elements[draw]).numpy())
    return views if pipeline is None else augment(pipeline, views, seed)


def _caption(dataset: Dataset, row: int) -> str:
    grams = [
        f"{name.removeprefix('Dry_').removesuffix('_g')} {value:.1f}"
        for name, value in zip(TARGETS, dataset.targets[row], strict=True)
    ]
    return f"{dataset.ids[row]}, {dataset.dates[row]}: {', '.join(grams)} g"


def _montage(pictures: Sequence[Picture], captions: Sequence[str]) -> Image.Image:
    """Photographs in columns, the views of each side by side above its caption."""
    views = len(pictures[0])
    width, height = max(views, 2) * (_SIDE + 4) + 12, _SIDE + _TEXT + 12
    columns = max(1, min(len(pictures), 4))
    sheet = Image.new("RGB", (columns * width, -(-len(pictures) // columns) * height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for i, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        left, top = i % columns * width + 6, i // columns * height + 6
        for k, view in enumerate(picture):
            sheet.paste(Image.fromarray(view).resize((_SIDE, _SIDE)), (left + k * (_SIDE + 4), top))
        lines = textwrap.wrap(caption, (width - 12) // 7)[:_LINES]
        draw.multiline_text((left, top + _SIDE + 2), "\n".join(lines), fill="black", font=font)
    return sheet
