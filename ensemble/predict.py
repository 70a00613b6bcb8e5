"""Predicting with a blend: each pretrained backbone runs once per D4 element, however many models stand on it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ensemble.blend import Blend
from pasture.dataset import Dataset
from pasture.errors import InputError, JobError
from pasture.projection import project
from pasture.targets import TARGETS, Array
from trainables import d4
from trainables.backbone import Backbone, create_backbone
from trainables.feature_bank import extract
from trainables.fitted_learner import FittedNet
from trainables.model import Batch, BiomassNet
from trainables.nets import Widths
from trainables.precision import autocast, best_device
from trainables.recipe import Recipe
from trainables.sections import Precision, TtaName, View
from trainables.trained import trained_net
from trainables.views import load_views

CHUNK = 32
"""Photographs in memory at a time; the next chunk is decoded while this one is computed."""


class _Source(NamedTuple):
    """A frozen backbone and the views it looks at; named by what makes its features different from others'."""

    digest: str
    view: View
    taps: tuple[int, ...]
    pool: str


class _Model(NamedTuple):
    """One fold's model and its share in the blend.

    Attributes:
        name: for messages.
        share: in the blend.
        net: takes features of `source`, or the pictures of `view` where its backbone was trained.
        precision: of its arithmetic.
        view: how photographs are cut.
        source: its frozen backbone, if it stands on one.
        semantic: its second backbone, if it has one.
    """

    name: str
    share: float
    net: BiomassNet | FittedNet
    precision: Precision
    view: View
    source: _Source | None
    semantic: _Source | None


class _Loaded(NamedTuple):
    """All models of a blend, and each frozen backbone once."""

    models: list[_Model]
    frozen: dict[_Source, Backbone]


def predict(blend: Blend, dataset: Dataset, tta: TtaName | None = None) -> Array:
    """Predict photographs.

    Args:
        blend: what predicts.
        dataset: photographs, labelled or not.
        tta: test-time augmentation; the blend's own by default.

    Returns:
        (n, 5) in grams, in the order of `dataset.ids`, non-negative and in mass balance.

    Raises:
        InputError: a picture or a weight file cannot be read.
        JobError: a prediction is not finite, or weights do not fit their recipe.
    """
    device = best_device()
    loaded = _load(blend, device)
    elements = d4.tta_elements(tta or blend.tta)
    result = np.zeros((len(dataset), len(TARGETS)))
    views = {model.view for model in loaded.models if model.source is None} | {s.view for s in loaded.frozen}
    for start, pictures in _chunks(dataset, views):
        for element in elements:
            turned = {view: d4.apply(stack, element) for view, stack in pictures.items()}
            grams = _predict(loaded, turned, device)
            result[start : start + len(grams)] += grams / len(elements)
    return result


@torch.inference_mode()
def _predict(loaded: _Loaded, pictures: dict[View, Tensor], device: torch.device) -> Array:
    """(n, 5) of all models together, of photographs laid down one way."""
    features = {
        source: _features(pictures[source.view], backbone, device) for source, backbone in loaded.frozen.items()
    }
    total = np.zeros((len(next(iter(pictures.values()))), len(TARGETS)))
    for model in loaded.models:
        views = features[model.source] if model.source else pictures[model.view].to(device)
        semantic = features[model.semantic].mean(dim=1) if model.semantic else None
        with autocast(device, model.precision):
            grams = model.net.grams(Batch(views, semantic)).double().cpu().numpy()
        if not np.isfinite(grams).all():
            raise JobError(f"{model.name}: a prediction is not finite; its weights are damaged, build the blend again")
        total += model.share * project(grams)
    return total


def _features(pictures: Tensor, backbone: Backbone, device: torch.device) -> Tensor:
    """(n, views, d) of pictures (n, views, size, size, 3)."""
    features = extract(backbone, pictures.flatten(0, 1), device)
    # Heads were trained on features kept in half precision; they are given the same here.
    return features.half().float().view(*pictures.shape[:2], -1)


def _load(blend: Blend, device: torch.device) -> _Loaded:
    models: list[_Model] = []
    frozen: dict[_Source, Backbone] = {}
    for member in blend.members:
        recipe, second = member.recipe, member.recipe.semantic
        pretrained = _backbone(blend, member.key, recipe, member.backbone)
        source = _source(recipe, member.backbone) if recipe.banked else None
        if source:
            frozen.setdefault(source, pretrained.to(device))
        semantic = _source(second, member.semantic) if second else None
        if second and semantic and semantic not in frozen:
            frozen[semantic] = _backbone(blend, member.key, second, member.semantic).to(device)
        sizes = Widths(pretrained.features, frozen[semantic].features if semantic else 0)
        for fold in range(member.folds):
            weights = blend.fold_weights(member, fold)
            net = trained_net(recipe, sizes, weights, pretrained.model.state_dict()).to(device)
            name, share = f"{member.key}, fold {fold}", member.weight / member.folds
            models.append(_Model(name, share, net, recipe.optimizer.precision, recipe.view, source, semantic))
    return _Loaded(models, frozen)


def _source(recipe: Recipe, digest: str) -> _Source:
    return _Source(digest, recipe.view, recipe.backbone.taps, recipe.backbone.pool)


def _backbone(blend: Blend, key: str, recipe: Recipe, digest: str) -> Backbone:
    """A pretrained backbone of a member, out of the blend folder and found to be the one it was trained on."""
    state = blend.backbone_weights(digest)
    try:
        backbone = create_backbone(recipe.backbone, recipe.view.size, state).eval()
    except RuntimeError:  # other tensors, or other shapes
        backbone = None
    if backbone is None or backbone.digest() != digest:
        raise InputError(
            f"{blend.folder}: backbones/{digest}.safetensors are not the weights of {recipe.backbone.name} that "
            f"{key} was trained on; build the blend again"
        )
    return backbone


def _chunks(dataset: Dataset, views: set[View]) -> Iterator[tuple[int, dict[View, Tensor]]]:
    """First row and views of one chunk of photographs after another."""
    paths = dataset.paths
    starts = range(0, len(paths), CHUNK)

    def submit(start: int) -> dict[View, list[Future[np.ndarray]]]:
        return {v: [pool.submit(load_views, path, v) for path in paths[start : start + CHUNK]] for v in views}

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        pending = submit(0)
        for start in starts:
            current = pending
            pending = submit(start + CHUNK)
            yield start, {v: torch.from_numpy(np.stack([f.result() for f in part])) for v, part in current.items()}
