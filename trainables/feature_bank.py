"""Features of a frozen backbone, computed once for every image, view and D4 element and kept on disk.

A frozen backbone is a fixed function of the pixels. What it sees in training is a fixed set too: the D4 elements and,
where augmentation goes beyond flips, a few augmented copies of each photograph.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pasture.dataset import Dataset
from trainables import d4
from trainables.augment import augment, build
from trainables.backbone import Backbone, check_backbone, create_backbone
from trainables.image_cache import cached_views
from trainables.precision import arithmetic, autocast
from trainables.recipe import Recipe
from trainables.seeds import mix
from trainables.store import cached_array
from trainables.views import view_count

_BATCH = 32

Draw = Callable[[Tensor, int], Tensor]
"""Views (views, size, size, 3) of one photograph and its row to (width, views, size, size, 3)."""


@dataclass(frozen=True)
class FeatureBank:
    """Features of a dataset under one frozen backbone.

    Attributes:
        elements: (images, 8, views, features) float16: the eight D4 elements.
        replicas: (images, copies, views, features) float16: augmented copies; no copies where the recipe has none.
    """

    elements: np.ndarray
    replicas: np.ndarray


def training_elements(recipe: Recipe) -> tuple[int, ...]:
    """The D4 elements that a frozen recipe is trained on."""
    return {"none": (d4.IDENTITY,), "light": d4.FLIPS}.get(recipe.augment.strength, d4.ALL)


def copies(recipe: Recipe) -> int:
    """How many augmented copies of a photograph a frozen recipe is trained on."""
    return recipe.augment.replicas if recipe.augment.strength in ("medium", "heavy") else 0


def feature_bank(recipe: Recipe, dataset: Dataset, fingerprint: str, device: torch.device) -> FeatureBank:
    """The bank of a frozen recipe, built by whoever asks first.

    Args:
        recipe: its view, backbone and augmentation say what is needed.
        dataset: the photographs.
        fingerprint: of the dataset.
        device: where the backbone runs.
    """
    facts = check_backbone(recipe.backbone, recipe.view.size)
    key = {
        "dataset": fingerprint,
        "view": recipe.view.model_dump(mode="json"),
        "weights": facts.digest,
        "taps": list(recipe.backbone.taps),
        "pool": recipe.backbone.pool,
        "arithmetic": str(arithmetic(device)),
    }

    def built(width: int, draws: Draw, **more: object) -> np.ndarray:
        def fill(array: np.ndarray) -> None:
            backbone = create_backbone(recipe.backbone, recipe.view.size).to(device).eval()
            views = cached_views(dataset, fingerprint, recipe.view)
            for row in range(len(dataset)):
                pictures = draws(torch.from_numpy(np.array(views[row])), row)
                features = extract(backbone, pictures.flatten(0, 1), device)
                array[row] = features.cpu().numpy().reshape(array.shape[1:])

        shape = (len(dataset), width, view_count(recipe.view), facts.features)
        return cached_array("features", key | more, shape, np.float16, fill)

    elements = built(len(d4.ALL), lambda views, _: torch.stack([d4.apply(views, e) for e in d4.ALL]), draw="d4")
    count = copies(recipe)
    if not count:
        return FeatureBank(elements, elements[:, :0])
    pipeline = build(recipe.augment.strength)

    def augmented(views: Tensor, row: int) -> Tensor:
        drawn = [augment(pipeline, views.numpy(), mix(row, copy)) for copy in range(count)]
        return torch.from_numpy(np.stack(drawn))

    return FeatureBank(elements, built(count, augmented, draw=recipe.augment.strength, copies=count))


@torch.inference_mode()
def extract(backbone: Backbone, pictures: Tensor, device: torch.device) -> Tensor:
    """Features (b, features), float32, of pictures (b, size, size, 3), in batches that fit a small device."""
    with autocast(device):
        parts = [backbone(part.to(device)).float() for part in torch.split(pictures, _BATCH)]
    return torch.cat(parts)
