"""Predicting with a blend: each pretrained backbone runs once per D4 element, however many models stand on it."""

from __future__ import annotations

import os
from collections.abc import Iterator
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
from trainables.learner import create_net, load_weights
from trainables.model import BiomassNet
from trainables.precision import autocast, best_device
from trainables.recipe import Precision, TtaName, View
from trainables.views import load_views

CHUNK = 32
"""Photographs in memory at a time; the next chunk is decoded while this one is computed."""


class _Model(NamedTuple):
    """One fold's model and its share in the blend."""

    name: str
    share: float
    net: BiomassNet
    precision: Precision


class _Group(NamedTuple):
    """Models that look at the same views: those on one frozen backbone, or one member whose backbone was trained."""

    view: View
    pretrained: Backbone
    frozen: bool
    models: list[_Model]


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
    groups = _load(blend, device)
    elements = d4.tta_elements(tta or blend.tta)
    result = np.zeros((len(dataset), len(TARGETS)))
    for start, pictures in _chunks(dataset, {group.view for group in groups}):
        for group in groups:
            views = pictures[group.view]
            result[start : start + len(views)] += _predict_group(group, views, elements, device)
    return result


@torch.inference_mode()
def _predict_group(group: _Group, views: Tensor, elements: tuple[int, ...], device: torch.device) -> Array:
    total = np.zeros((len(views), len(TARGETS)))
    for element in elements:
        turned = d4.apply(views, element)
        if group.frozen:
            features = extract(group.pretrained, turned.flatten(0, 1), device)
            # Heads were trained on features kept in half precision; they are given the same here.
            turned = features.half().float().view(len(views), -1, features.shape[1])
        for name, share, net, precision in group.models:
            with autocast(device, precision):
                grams = net.grams(turned.to(device)).double().cpu().numpy()
            if not np.isfinite(grams).all():
                raise JobError(f"{name}: a prediction is not finite; its weights are damaged, build the blend again")
            total += share / len(elements) * project(grams)
    return total


def _load(blend: Blend, device: torch.device) -> list[_Group]:
    groups: dict[tuple[str, View, str], _Group] = {}
    for member in blend.members:
        recipe = member.recipe
        frozen = recipe.backbone.tuning == "frozen"
        key = (member.backbone, recipe.view, "" if frozen else member.key)
        if key not in groups:
            pretrained = _backbone(blend, member)
            groups[key] = _Group(recipe.view, pretrained.to(device) if frozen else pretrained, frozen, [])
        group = groups[key]
        for fold in range(member.folds):
            net = create_net(recipe, group.pretrained.features, None if frozen else group.pretrained.model.state_dict())
            load_weights(net, blend.fold_weights(member, fold))
            name, share = f"{member.key}, fold {fold}", member.weight / member.folds
            group.models.append(_Model(name, share, net.to(device).eval(), recipe.optimizer.precision))
    return list(groups.values())


def _backbone(blend: Blend, member: Member) -> Backbone:
    """The pretrained backbone of a member, out of the blend folder and found to be the one it was trained on."""
    config = member.recipe.backbone
    state = blend.backbone_weights(member.backbone)
    try:
        backbone = create_backbone(config, member.recipe.view.size, state).eval()
    except RuntimeError:  # other tensors, or other shapes
        backbone = None
    if backbone is None or backbone.digest() != member.backbone:
        raise InputError(
            f"{blend.folder}: backbones/{member.backbone}.safetensors are not the weights of {config.name} that "
            f"{member.key} was trained on; build the blend again"
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
