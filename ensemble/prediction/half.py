"""Storing the pretrained backbones of a blend in half precision, where its predictions stay the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from torch import Tensor

from ensemble.blend.blend import Blend
from ensemble.blend.blend_file import BlendFile, BlendMember
from ensemble.prediction.predict import model_predictions
from ensemble.prediction.prefix import head
from pasture.dataset import Dataset
from pasture.files import Folder
from pasture.targets import Array
from trainables.network.backbone import create_backbone
from trainables.network.weights_file import pack
from trainables.recipe.recipe import Recipe

TOLERANCE_G: Final = 0.05
"""Largest change of any prediction, in grams, for which a backbone is stored in half precision."""


def store_half(blend: Blend, dataset: Dataset, say: Callable[[str], None]) -> Blend:
    """Store each pretrained backbone of a blend folder as float16 if that changes no prediction by more than .05 g.

    The change is measured: up to 8 photographs are predicted, by every model of the members that use the backbone, with
    the weights as they are and with rounded ones, and the largest difference of any target counts. Weights of folds
    stay as they are.

    Args:
        blend: its folder is changed.
        dataset: photographs; the first 8 are predicted.
        say: called with one line for each backbone: what changed, and what that saves.

    Raises:
        InputError, JobError: as `predict`; the folder cannot be written.
    """
    folder = Folder.at(blend.folder)
    photographs = head(dataset)
    for digest, part in _backbones(blend).items():
        if digest in blend.half:
            continue
        users = [member for member in blend.members if digest in (member.backbone, member.semantic)]
        alone = dataclasses.replace(blend, members=tuple(users))
        before, name = _grams(alone, photographs), f"backbones/{digest}.safetensors"
        content, full = folder.read(name), blend.backbone_weights(digest)
        folder.write(name, pack(_rounded(full), {}))
        rounded = create_backbone(part.backbone, part.view.size, _rounded(full)).digest()
        change = float(np.abs(_grams(dataclasses.replace(alone, half={digest: rounded}), photographs) - before).max())
        kept = change <= TOLERANCE_G
        say(
            f"{part.backbone.name}: half precision changes predictions by at most {change:.4f} g; "
            + (f"stored so, {len(content) / 2e6:.1f} MB less" if kept else f"not stored so: above {TOLERANCE_G} g")
        )
        if kept:
            blend = dataclasses.replace(blend, half=blend.half | {digest: rounded})
            dataclasses.replace(BlendFile.read(blend.folder), half=blend.half).write(folder)
        else:
            folder.write(name, content)
    return blend


def _backbones(blend: Blend) -> dict[str, Recipe]:
    """The recipe of each backbone in the folder, by its digest."""
    found: dict[str, Recipe] = {}
    for member in blend.members:
        for digest, part in _parts(member):
            if part and not part.backbone.bank:
                found.setdefault(digest, part)
    return found


def _parts(member: BlendMember) -> list[tuple[str, Recipe | None]]:
    recipe = member.recipe
    return [(member.backbone, recipe), (member.semantic, recipe.semantic if recipe else None)]


def _rounded(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Matrices and kernels as float16, except those beyond its range.

    Vectors stay as they are: they take no room, and variances of batch norms lose too much where they are small.
    """
    return {
        name: _half(tensor) if tensor.is_floating_point() and tensor.ndim > 1 else tensor
        for name, tensor in state.items()
    }


def _half(tensor: Tensor) -> Tensor:
    half = tensor.to(torch.float16)
    return half if torch.isfinite(half).all() else tensor


def _grams(blend: Blend, dataset: Dataset) -> Array:
    """Predictions of every model, in grams."""
    return np.concatenate([grams for _, grams in model_predictions(blend, dataset)], axis=2)
