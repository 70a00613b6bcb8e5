"""Features of a frozen backbone, computed once for every image, view and D4 element and kept on disk.

A frozen backbone is a fixed function of the pixels, and it sees a fixed set of pictures in training: the D4 elements of
each photograph and, with stronger augmentation than flips, a few augmented copies.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import torch
from torch import Tensor

from pasture.errors import JobError
from trainables.compute.memory import with_smaller_batches
from trainables.compute.precision import autocast
from trainables.features import embeddings
from trainables.features.context import TrialContext
from trainables.features.grid_space import check_space
from trainables.features.shared_array import shared_array
from trainables.images import d4
from trainables.images.array_cache import array_path
from trainables.images.augment import augment, build
from trainables.images.image_cache import cached_views
from trainables.images.views import view_count
from trainables.network.backbone import Backbone, check_backbone, create_backbone
from trainables.recipe.recipe import Recipe
from trainables.recipe.sections import Precision
from trainables.recipe.seeds import mix

_PIXELS: Final = {"cuda": 256 * 256**2, "cpu": 32 * 256**2}
"""Pixels in a batch of pictures: enough to keep the device busy, few enough for its memory."""

Draw = Callable[[Tensor, int], Tensor]
"""Views (views, size, size, 3) of one photograph and its row to (width, views, size, size, 3)."""


@dataclass(frozen=True)
class FeatureBank:
    """Features of a dataset under one frozen backbone.

    Attributes:
        elements: (images, 8, views, features) float16 or float32: the eight D4 elements. With pool `grid`, here and
            below, (..., cells, features).
        replicas: (images, copies, views, features): augmented copies; no copies where the recipe has none.
    """

    elements: np.ndarray
    replicas: np.ndarray


def training_elements(recipe: Recipe) -> tuple[int, ...]:
    """The D4 elements that a frozen recipe is trained on."""
    return {"none": (d4.IDENTITY,), "light": d4.FLIPS}.get(recipe.augment.strength, d4.ALL)


def copies(recipe: Recipe) -> int:
    """How many augmented copies of a photograph a frozen recipe is trained on."""
    config = recipe.augment
    return config.replicas if config.strength in ("medium", "heavy") or config.extras else 0


def feature_bank(recipe: Recipe, context: TrialContext) -> FeatureBank:
    """The feature bank of a frozen recipe: computed jointly by all processes that need it, or imported embeddings.

    Args:
        recipe: its view, backbone and augmentation determine the features.
        context: the photographs, and where the backbone runs. The device is not part of a bank's name: features
            computed on one device are used on any other.

    Raises:
        InputError: a picture cannot be read, or has no features in an imported bank.
        JobError: the disk has no room for the cells of a recipe with a density head.
    """
    dataset, device = context.dataset, context.device
    if name := recipe.backbone.bank:
        elements = embeddings.read(name).rows(dataset.ids, name)
        return FeatureBank(elements, elements[:, :0])
    facts = check_backbone(recipe.backbone, recipe.view.size)
    precision = recipe.optimizer.precision
    key = _key(recipe, dataset.content, facts.digest)
    dtype = bank_dtype(precision)

    @cache
    def backbone() -> Backbone:
        return create_backbone(recipe.backbone, recipe.view.size).to(device).eval()

    @cache
    def views() -> np.ndarray:
        return cached_views(dataset, recipe.view, context.watch)

    def built(width: int, draws: Draw, **more: object) -> np.ndarray:
        shape = (len(dataset), width, view_count(recipe.view), *facts.shape)

        def compute(rows: range) -> np.ndarray:
            at_once = max(1, batch_size(recipe.view.size, device) // (width * shape[2]))
            parts = []
            for start in range(0, len(rows), at_once):
                drawn = [
                    draws(torch.from_numpy(np.array(views()[row])).to(device), row)
                    for row in rows[start : start + at_once]
                ]
                pictures = torch.stack(drawn).to(device)
                features = extract(backbone(), pictures.flatten(0, 2), device, precision).cpu().numpy()
                parts.append(_rounded(features, dtype, recipe).reshape(len(drawn), *shape[1:]))
            return np.concatenate(parts)

        if recipe.dense:
            check_space(array_path("features", key | more), shape, dtype)
        return shared_array("features", key | more, shape, dtype, compute, context.shared, context.watch)

    elements = built(len(d4.ALL), lambda views, _: torch.stack([d4.apply(views, e) for e in d4.ALL]), draw="d4")
    count = copies(recipe)
    if not count:
        return FeatureBank(elements, elements[:, :0])
    config = recipe.augment
    pipeline = build(config, recipe.view.size)

    def augmented(views: Tensor, row: int) -> Tensor:
        pictures = views.cpu().numpy()
        return torch.from_numpy(np.stack([augment(pipeline, pictures, mix(row, copy)) for copy in range(count)]))

    draw = {"draw": config.strength} | config.extras
    return FeatureBank(elements, built(count, augmented, copies=count, **draw))


def _key(recipe: Recipe, photographs: str, weights: str) -> dict[str, object]:
    """Everything that the features depend on but the photographs' augmentation."""
    return {
        "dataset": photographs,
        "view": recipe.view.model_dump(mode="json"),
        "backbone": recipe.backbone.name,
        "weights": weights,
        "out_indices": list(recipe.backbone.out_indices),
        "pool": recipe.backbone.pool,
        "precision": recipe.optimizer.precision,
    }


def bank_dtype(precision: Precision) -> type[np.floating]:
    """The type that features are kept in: half precision unless the recipe asks for float32."""
    return np.float32 if precision == "float32" else np.float16


def _rounded(features: np.ndarray, dtype: type[np.floating], recipe: Recipe) -> np.ndarray:
    """Features in the bank's type.

    Raises:
        JobError: a feature is not finite, or outside the type's range.
    """
    with np.errstate(over="ignore"):
        rounded = features.astype(dtype)
    if not np.isfinite(rounded).all():
        largest = np.abs(features[np.isfinite(features)]).max(initial=0)
        raise JobError(
            f"{recipe.backbone.name}: a feature is not finite in {np.dtype(dtype)} (the largest finite one is "
            f"{largest:.3g}); set optimizer.precision=float32, or choose another backbone.pool"
        )
    return rounded


@torch.inference_mode()
def extract(backbone: Backbone, pictures: Tensor, device: torch.device, precision: Precision) -> Tensor:
    """Features of pictures (b, size, size, 3): (b, features), with pool `grid` (b, cells, features), float32.

    They are computed in batches that fit the device.
    """

    def features(batch: int) -> Tensor:
        with autocast(device, precision):
            return torch.cat([backbone(part.to(device)).float() for part in torch.split(pictures, batch)])

    return with_smaller_batches(batch_size(pictures.shape[1], device), features)[0]


def batch_size(size: int, device: torch.device) -> int:
    """How many pictures of a side are computed at a time."""
    return max(1, _PIXELS[device.type] // size**2)
