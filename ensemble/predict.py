"""Predicting with a blend: each pretrained backbone runs once per D4 element, however many models stand on it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ensemble.blend import Blend, Member
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
    """One fold's model.

    Attributes:
        name: for messages.
        net: takes features of `source`, or the pictures of `view` where its backbone was trained.
        precision: of its arithmetic.
        view: how photographs are cut.
        source: its frozen backbone, if it stands on one.
        semantic: its second backbone, if it has one.
    """

    name: str
    net: BiomassNet | FittedNet
    precision: Precision
    view: View
    source: _Source | None
    semantic: _Source | None


class _Loaded(NamedTuple):
    """All models of a blend, and each frozen backbone once."""

    models: list[_Model]
    frozen: dict[_Source, Backbone]


def predict(
    blend: Blend, dataset: Dataset, tta: TtaName | None = None, given: Mapping[str, Array] | None = None
) -> Array:
    """Predict photographs.

    Args:
        blend: what predicts.
        dataset: photographs, labelled or not.
        tta: test-time augmentation; the blend's own by default.
        given: for each member that was imported, (n, 5) predictions in grams.

    Returns:
        (n, 5) in grams, in the order of `dataset.ids`, non-negative and in mass balance.

    Raises:
        InputError: a picture or a weight file cannot be read, or the predictions of an imported member are missing.
        JobError: a prediction is not finite, or weights do not fit their recipe.
    """
    given = given or {}
    imported = imported_members(blend, given)
    shares = np.array([m.shares / m.folds for m in blend.members for _ in range(m.folds)])  # (models, 5)
    result = np.zeros((len(dataset), len(TARGETS)))
    for start, grams in model_predictions(blend, dataset, tta):
        result[start : start + grams.shape[2]] = np.einsum("kt,kect->ct", shares, grams) / grams.shape[1]
    for member in imported:
        result += member.shares * given[member.key]
    return project(result)


def imported_members(blend: Blend, given: Mapping[str, Array]) -> list[Member]:
    """The members without models, all of whose predictions are given.

    Raises:
        InputError: naming one whose predictions are not, or one that there is not.
    """
    imported = [member for member in blend.members if not member.folds]
    if unknown := sorted(set(given) - {member.key for member in imported}):
        names = ", ".join(member.key for member in imported) or "none"
        raise InputError(f"--given {unknown[0]}: the imported members of {blend.folder} are: {names}")
    for member in imported:
        if member.key not in given:
            raise InputError(
                f"member {member.key} was imported and has no models; give what it predicts for these photographs with "
                f"--given {member.key}=FILE"
            )
    return imported


def model_predictions(blend: Blend, dataset: Dataset, tta: TtaName | None = None) -> Iterator[tuple[int, Array]]:
    """What every model of a blend predicts, some photographs at a time.

    Yields:
        The first row, and (models, elements, rows, 5) in grams, each projected: the models of the first member's folds,
        then those of the second's; the elements of the TTA.
    """
    device = best_device()
    loaded = _load(blend, device)
    if not loaded.models:
        return
    elements = d4.tta_elements(tta or blend.tta)
    views = {model.view for model in loaded.models if model.source is None} | {s.view for s in loaded.frozen}
    for start, pictures in _chunks(dataset, views):
        turned = ({view: d4.apply(stack, element) for view, stack in pictures.items()} for element in elements)
        yield start, np.stack([_predict(loaded, views, device) for views in turned], axis=1)


@torch.inference_mode()
def _predict(loaded: _Loaded, pictures: dict[View, Tensor], device: torch.device) -> Array:
    """(models, n, 5) in grams, of photographs laid down one way."""
    features = {
        source: _features(pictures[source.view], backbone, device) for source, backbone in loaded.frozen.items()
    }
    predictions = []
    for model in loaded.models:
        views = features[model.source] if model.source else pictures[model.view].to(device)
        semantic = features[model.semantic].mean(dim=1) if model.semantic else None
        with autocast(device, model.precision):
            grams = model.net.grams(Batch(views, semantic)).double().cpu().numpy()
        if not np.isfinite(grams).all():
            raise JobError(f"{model.name}: a prediction is not finite; its weights are damaged, build the blend again")
        predictions.append(project(grams))
    return np.stack(predictions)


def _features(pictures: Tensor, backbone: Backbone, device: torch.device) -> Tensor:
    """(n, views, d) of pictures (n, views, size, size, 3)."""
    features = extract(backbone, pictures.flatten(0, 1), device)
    # Heads were trained on features kept in half precision; they are given the same here.
    return features.half().float().view(*pictures.shape[:2], -1)


def _load(blend: Blend, device: torch.device) -> _Loaded:
    models: list[_Model] = []
    frozen: dict[_Source, Backbone] = {}
    for member in blend.members:
        if member.recipe is None:
            continue
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
            name = f"{member.key}, fold {fold}"
            models.append(_Model(name, net, recipe.optimizer.precision, recipe.view, source, semantic))
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
