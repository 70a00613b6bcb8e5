"""Training augmentation of one square view, by albumentations."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import cv2
import numpy as np

from trainables.images.views import Picture
from trainables.recipe.sections import Strength

if TYPE_CHECKING:
    import albumentations as A


def build(strength: Strength) -> A.Compose | None:
    """Augmentation pipeline for uint8 pictures (size, size, 3); None for strength `none`.

    `light` flips; `medium` adds the other elements of D4, colour jitter and coarse dropout; `heavy` makes those
    stronger and adds an affine transform and a blur. The size does not change.
    """
    if strength == "none":
        return None
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # otherwise its import queries the network
    import albumentations as A  # only for training: prediction runs without it

    if strength == "light":
        steps = [A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)]
    else:
        heavy = strength == "heavy"
        jitter = 0.2 if heavy else 0.1
        hole = (0.1, 0.25) if heavy else (0.05, 0.15)
        steps = [A.D4(p=1.0)]
        if heavy:
            steps.append(
                A.Affine(
                    rotate=(-15, 15),
                    translate_percent=(-0.1, 0.1),
                    scale=(0.9, 1.1),
                    border_mode=cv2.BORDER_REFLECT_101,
                    p=0.7,
                )
            )
        steps.append(A.ColorJitter(brightness=jitter, contrast=jitter, saturation=jitter, hue=jitter / 4, p=0.8))
        if heavy:
            steps.append(A.GaussianBlur(blur_limit=(3, 5), p=0.3))
        steps.append(
            A.CoarseDropout(num_holes_range=(1, 4), hole_height_range=hole, hole_width_range=hole, fill=0, p=0.5)
        )
    return A.Compose(steps)


def augment(pipeline: A.Compose, views: Picture, seed: int) -> Picture:
    """Augment the views (views, size, size, 3) of one photograph independently, determined by `seed`."""
    # One generator for all steps: `set_random_seed` gives every step the same draws, so that two flips always agree.
    pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))
    return np.stack([pipeline(image=view)["image"] for view in views])
