"""Predicting with a blend: each pretrained backbone runs once per D4 element, however many models stand on it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ensemble.blend.blend import Blend, Member
from pasture.dataset import Dataset
from pasture.errors import InputError, JobError
from pasture.pictures import read_pixels
from pasture.projection import project
from pasture.targets import TARGETS, Array
from trainables.compute.precision import autocast, best_device
from trainables.features import embeddings
from trainables.features.feature_bank import bank_dtype, extract
from trainables.fitted.learner import FittedNet
from trainables.images import d4
from trainables.images.image_cache import Watch, silent
from trainables.images.views import cut
from trainables.network.backbone import Backbone, create_backbone
from trainables.network.model import Batch, BiomassNet
from trainables.recipe.recipe import Recipe
from trainables.recipe.sections import Precision, TtaName, View
from trainables.training.nets import Widths
from trainables.trial.trained_net import trained_net

CHUNK = 32
"""Photographs in memory at a time; the next chunk is decoded while this one is computed."""


class _Source(NamedTuple):
    """A frozen backbone and the views it looks at; named by what makes its features different from others'."""

    digest: str
    view: View
    out_indices: tuple[int, ...]
    pool: str
    precision: Precision


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
    """All models of a blend, and each frozen backbone once; features made elsewhere as (n, 8, views, d) instead."""

    models: list[_Model]
    frozen: dict[_Source, Backbone | np.ndarray]

    @property
    def views(self) -> set[View]:
        """Every way in which photographs must be cut."""
        cut = {source.view for source, features in self.frozen.items() if isinstance(features, Backbone)}
        return cut | {model.view for model in self.models if model.source is None}


def predict(
    blend: Blend,
    dataset: Dataset,
    tta: TtaName | None = None,
    given: Mapping[str, Array] | None = None,
    watch: Watch = silent,
) -> Array:
    """Predict photographs.

    Args:
        blend: what predicts.
        dataset: photographs, labelled or not.
        tta: test-time augmentation; the blend's own by default.
        given: for each member that was imported, (n, 5) predictions in grams.
        watch: told of progress.

    Returns:
        (n, 5) in grams, in the order of `dataset.ids`, non-negative and in mass balance.

    Raises:
        InputError: a picture or a weight file cannot be read, an imported bank lacks a photograph, or the predictions
            of an imported member are missing.
        JobError: a prediction is not finite, or weights do not fit their recipe.
    """
    given = given or {}
    without_models = imported_members(blend, given)
    shares = np.array([m.shares / m.folds for m in blend.members for _ in range(m.folds)])  # (models, 5)
    result = np.zeros((len(dataset), len(TARGETS)))
    for rows, grams in model_predictions(blend, dataset, tta, watch):
        result[rows] = np.einsum("kt,kect->ct", shares, grams) / grams.shape[1]
    for member in without_models:
        result += member.shares * given[member.key]
    return project(result)


def imported_members(blend: Blend, given: Mapping[str, Array]) -> list[Member]:
    """The members without models, all of whose predictions are given.

    Raises:
        InputError: naming one whose predictions are not, or one that there is not.
    """
    without_models = [member for member in blend.members if not member.folds]
    if unknown := sorted(set(given) - {member.key for member in without_models}):
        names = ", ".join(member.key for member in without_models) or "none"
        raise InputError(f"--given {unknown[0]}: the imported members of {blend.folder} are: {names}")
    for member in without_models:
        if member.key not in given:
            raise InputError(
                f"member {member.key} was imported and has no models; give what it predicts for these photographs with "
                f"--given {member.key}=FILE"
            )
    return without_models


def model_predictions(
    blend: Blend, dataset: Dataset, tta: TtaName | None = None, watch: Watch = silent
) -> Iterator[tuple[slice, Array]]:
    """What every model of a blend predicts, some photographs at a time.

    Yields:
        The rows, and (models, elements, rows, 5) in grams, each projected: the models of the first member's folds,
        then those of the second's; the elements of the TTA.
    """
    device = best_device()
    loaded = _load(blend, dataset.ids, device)
    if not loaded.models:
        return
    elements = d4.tta_elements(tta or blend.tta)
    for rows, pictures in _chunks(dataset, loaded.views):
        # Laid down on the device, so that each photograph is copied there once.
        there = {view: stack.to(device) for view, stack in pictures.items()}
        grams = []
        for element in elements:
            turned = {view: d4.apply(stack, element) for view, stack in there.items()}
            grams.append(_predict(loaded, turned, rows, element, device))
        yield rows, np.stack(grams, axis=1)
        watch("predicting", rows.stop, len(dataset))


@torch.inference_mode()
def _predict(loaded: _Loaded, pictures: dict[View, Tensor], rows: slice, element: int, device: torch.device) -> Array:
    """(models, n, 5) in grams, of the photographs of some rows laid down one way."""
    features = {
        source: _features(pictures[source.view], backbone, source.precision, device)
        if isinstance(backbone, Backbone)
        else torch.from_numpy(np.array(backbone[rows, element])).float().to(device)
        for source, backbone in loaded.frozen.items()
    }
    predictions = []
    for model in loaded.models:
        views = features[model.source] if model.source else pictures[model.view]
        semantic = features[model.semantic].mean(dim=1) if model.semantic else None
        with autocast(device, model.precision):
            grams = model.net.grams(Batch(views, semantic)).double().cpu().numpy()
        if not np.isfinite(grams).all():
            raise JobError(f"{model.name}: a prediction is not finite; its weights are damaged, build the blend again")
        predictions.append(project(grams))
    return np.stack(predictions)


def _features(pictures: Tensor, backbone: Backbone, precision: Precision, device: torch.device) -> Tensor:
    """(n, views, d) of pictures (n, views, size, size, 3)."""
    features = extract(backbone, pictures.flatten(0, 1), device, precision)
    if bank_dtype(precision) == np.float16:
        features = features.half().float()  # as the bank keeps them, on which heads were trained
    return features.view(*pictures.shape[:2], -1)


def _load(blend: Blend, ids: Sequence[str], device: torch.device) -> _Loaded:
    models: list[_Model] = []
    frozen: dict[_Source, Backbone | np.ndarray] = {}

    def add(part: Recipe, key: str, digest: str) -> _Source:
        source = _Source(digest, part.view, part.backbone.out_indices, part.backbone.pool, part.optimizer.precision)
        if source not in frozen:
            bank = part.backbone.bank
            frozen[source] = (
                _embeddings(blend, key, bank, ids, digest) if bank else _backbone(blend, key, part, digest).to(device)
            )
        return source

    for member in blend.members:
        if member.recipe is None:
            continue
        recipe, second = member.recipe, member.recipe.semantic
        source = add(recipe, member.key, member.backbone) if recipe.banked else None
        semantic = add(second, member.key, member.semantic) if second else None
        backbone = frozen[source] if source else _backbone(blend, member.key, recipe, member.backbone)
        sizes = Widths(_width(backbone), _width(frozen[semantic]) if semantic else 0)
        state = backbone.model.state_dict() if isinstance(backbone, Backbone) else {}
        for fold in range(member.folds):
            weights = blend.fold_weights(member, fold)
            net = trained_net(recipe, sizes, weights, state).to(device)
            name = f"{member.key}, fold {fold}"
            models.append(_Model(name, net, recipe.optimizer.precision, recipe.view, source, semantic))
    return _Loaded(models, frozen)


def _width(features: Backbone | np.ndarray) -> int:
    return features.features if isinstance(features, Backbone) else features.shape[-1]


def _embeddings(blend: Blend, key: str, bank: str, ids: Sequence[str], digest: str) -> np.ndarray:
    """(n, 8, views, d) stored embeddings, after checking that those of the training images are unchanged."""
    stored = embeddings.read(bank)
    if stored.digest(bank, blend.image_ids()) != digest:
        raise InputError(
            f"bank:{bank} has other embeddings than {key} was trained on; import the one used for training again"
        )
    return stored.rows(ids, bank)


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


def _chunks(dataset: Dataset, views: set[View]) -> Iterator[tuple[slice, dict[View, Tensor]]]:
    """Rows and views of one chunk of photographs after another, each decoded once."""
    paths = dataset.paths
    starts = range(0, len(paths), CHUNK)

    def load(path: Path) -> dict[View, np.ndarray]:
        if not views:  # all features were made elsewhere: there may be no pictures
            return {}
        pixels = read_pixels(path)
        return {view: cut(pixels, view) for view in views}

    def submit(start: int) -> list[Future[dict[View, np.ndarray]]]:
        return [pool.submit(load, path) for path in paths[start : start + CHUNK]]

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        pending = submit(0)
        for start in starts:
            current = [future.result() for future in pending]
            pending = submit(start + CHUNK)
            stacks = {view: torch.from_numpy(np.stack([views[view] for views in current])) for view in views}
            yield slice(start, start + len(current)), stacks
