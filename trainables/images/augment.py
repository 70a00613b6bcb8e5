"""Training augmentation of one square view, by albumentations."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import numpy as np

from trainables.images.views import Picture
from trainables.recipe.sections import Augment

if TYPE_CHECKING:
    import albumentations as A


def build(config: Augment, size: int) -> A.Compose | None:
    """Augmentation pipeline for uint8 pictures (size, size, 3); None where nothing is augmented.

    First crops, scales and artefacts, then what the strength says: `light` flips; `medium` adds the other elements of
    D4, colour jitter and coarse dropout; `heavy` makes those stronger and adds an affine transform and a blur. The size
    does not change.
    """
    if config.strength == "none" and not config.extras:
        return None
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # otherwise its import queries the network
    import albumentations as A  # only for training: prediction runs without it
    import cv2

    from trainables.images.artefacts import Artefacts

    steps: list[A.BasicTransform] = []
    if config.crop < 1:
        steps.append(A.RandomResizedCrop(size=(size, size), scale=(config.crop, 1.0), p=1.0))
    if config.shrink < 1:
        steps.append(A.Affine(scale=(config.shrink, 1.0), border_mode=cv2.BORDER_CONSTANT, fill=0, p=1.0))
    if config.artefacts:
        steps.append(Artefacts(p=config.artefacts))
    if config.strength == "light":
        steps += [A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)]
    elif config.strength != "none":
        heavy = config.strength == "heavy"
        jitter = 0.2 if heavy else 0.1
        hole = (0.1, 0.25) if heavy else (0.05, 0.15)
        steps.append(A.D4(p=1.0))
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
